"""The command `clipfit`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from clipfit import __version__
from clipfit.export import command as export
from clipfit.fit import files, predict
from clipfit.fit.arguments import add_backbone, add_fit
from clipfit.io.commands import PATH, Parser

CLONE = Path(__file__).parents[1]  # of the project, where this is no installed wheel
PREDICTS = "launch/predict.py"  # of a clone: what predicts with a method's own trainer


def main(argv: list[str] | None = None) -> int:
    """Run one command line; without arguments, print the help. Returns: the exit status"""
    parser = Parser(prog="clipfit", description="CLIP adapted with few labels: use what training has left")
    parser.add_argument("--version", action="version", version=versions())
    commands = parser.add_subparsers(dest="command", parser_class=Parser, metavar="COMMAND")
    predict.add_arguments(commands.add_parser("predict", help="say what pictures show"))
    export.add_arguments(commands.add_parser("export", help="a fit as files that other libraries load"))
    for name, says in (("info", "what a fit is"), ("diff", "which tensors training changed most")):
        command = commands.add_parser(name, help=says)
        add_fit(command)
        add_backbone(command)
    averaging = commands.add_parser("average", help="the mean of several fits, as a new one")
    averaging.add_argument("fits", nargs="+", type=PATH, help="folders of fits or of their runs")
    averaging.add_argument("--to", required=True, type=PATH, help="folder of the new fit")
    add_backbone(averaging)
    words = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(words, argparse.Namespace(words=words))
    if args.command is None:
        parser.print_help()
        return 0
    try:
        return COMMANDS[args.command](args)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, KeyError, OSError, ImportError, MemoryError) as error:
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {said}", file=sys.stderr)
        return 1


def run_predict(args: argparse.Namespace) -> int:
    predict.check_arguments(args)
    if files.read_facts(args.fit).get("needs_trainer"):
        return _predict_in_clone(args.words[1:])
    from clipfit.fit.model import load

    return predict.run(args, load(args.fit, "cuda" if args.cuda else "cpu", args.backbone))


def _predict_in_clone(words: list[str]) -> int:
    """`clipfit predict` with these words, run by the clone whose trainers know the method.

    Raises: FileNotFoundError if there is none
    """
    clone = next((folder for folder in (Path.cwd(), CLONE) if (folder / PREDICTS).is_file()), None)
    if clone is None:
        raise FileNotFoundError(
            "this model needs the trainer of its method: run the command in the clone that trained it"
        )
    module = PREDICTS.removesuffix(".py").replace("/", ".")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(clone), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.call([sys.executable, "-m", module, *words], env=environment)


def run_info(args: argparse.Namespace) -> int:
    """What a fit is, read without torch."""
    facts = files.read_facts(args.fit)
    many = len(facts["classes"]) > SHOWN_CLASSES
    shown = {**facts, "classes": facts["classes"][:SHOWN_CLASSES] + (["..."] if many else [])}
    shown["seen"] = f"{len(facts.get('seen', [])):,} of {len(facts['classes']):,} classes"
    for key, value in shown.items():
        print(f"{key:16}{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    return 0


def run_diff(args: argparse.Namespace) -> int:
    from clipfit.fit.compare import changes

    print(f"{'mean square':>12}{'largest':>12}  tensor")
    for change in changes(args.fit, args.backbone):
        print(f"{change.mean_square:12.3e}{change.largest:12.3e}  {change.name}")
    return 0


def run_average(args: argparse.Namespace) -> int:
    from clipfit.fit.compare import average

    average(args.fits, args.to, args.backbone)
    print(f"the mean of {len(args.fits)} fits is in {args.to}")
    return 0


SHOWN_CLASSES = 20
COMMANDS = {
    "predict": run_predict,
    "export": export.run,
    "info": run_info,
    "diff": run_diff,
    "average": run_average,
}


def versions() -> str:
    """Such as "clipfit 0.1.0 (torch 2.9.0, Python 3.11.7)"; torch itself is not imported."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "not installed"
    return f"clipfit {__version__} (torch {torch}, Python {platform.python_version()})"
