"""Every table and figure of a paper: plan its runs, do them, and set ours beside the printed numbers.

python reproduce.py list
python reproduce.py run table1 --datasets dtd --seeds 1 2 3
python reproduce.py run --datasets demo --seeds 1         the whole paper on the embedded data
"""

import argparse
import importlib.util
import sys
from collections import Counter
from pathlib import Path

from tabulate import tabulate

from clipfit.io.commands import PATH, Parser, default_root, pasted
from dassl.utils import unknown_name
from grid import scheduler
from grid.display import Display
from grid.executors import slurm
from grid.executors.local import LocalExecutor
from grid.executors.ray import RayExecutor
from grid.failures import Failure
from grid.plan import Planned, plan
from grid.source import data_sets_with_runs
from launch.bare_errors import message_of
from launch.registered import data_sets, remember_data_sets, remember_images
from report import definitions, figures, formats
from report.assemble import assemble
from report.paper import SHIPPED, Paper
from report.selection import Selection, check_not_empty
from train import ERRORS

COMMANDS = {
    "list": "every table and figure with the number of its runs, and what is done",
    "plan": "each run with its state and its train.py command",
    "run": "do what is not done yet, then report",
    "report": "tables and figures of what is done: terminal, HTML, Markdown, LaTeX, CSV",
}
INTERRUPTED = "interrupted; the same command goes on where it stopped"
DRAWING = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}  # what figures import -> its package
STATES = ("done", "unfinished", "stale", "failed", "no data", "todo")


def main(argv: list[str] | None = None) -> int:
    """Run one command line. Returns the exit status: 0, 1 if a run failed, 130 after Ctrl-C."""
    args = parse_args(argv)
    try:
        return COMMAND_FUNCTIONS[args.command](args)
    except ERRORS as error:
        sys.exit(f"error: {message_of(error)}")
    except KeyboardInterrupt:
        print(f"\n{INTERRUPTED}")
        return 130


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="python reproduce.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        _add_selection(command)
        if name == "plan":
            _add_formats(command)
        if name == "run":
            _add_execution(command)
        if name in ("run", "report"):
            command.add_argument("--report", type=PATH, metavar="DIR", help="default: <output>/report")
    return parser.parse_args(argv)


def _add_selection(command: argparse.ArgumentParser) -> None:
    which = command.add_argument_group("which")
    which.add_argument("what", nargs="*", help="tables and figures, as list names them; default: all")
    which.add_argument(
        "--paper",
        type=PATH,
        metavar="FOLDER",
        default=SHIPPED,
        help="another paper: a folder, or a name of papers/ (field); default: the one in paper/",
    )
    which.add_argument(
        "--datasets",
        nargs="+",
        default=[],
        help="data sets or families of them; default: the paper's; demo: the embedded",
    )
    which.add_argument(
        "--images",
        type=PATH,
        default="",
        metavar="PATH",
        help="instead: your own pictures, as train.py takes them",
    )
    which.add_argument(
        "--methods", nargs="+", default=[], help="default: all of a table; any other one is added to it"
    )
    which.add_argument("--shots", type=int, nargs="+", default=[], help="default: all of a table")
    which.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    where = command.add_argument_group("where and how")
    where.add_argument(
        "--root",
        type=PATH,
        default=default_root(),
        help="folder of the data sets; default: $DATA, else data",
    )
    where.add_argument("--output", type=PATH, default="output", help="folder of the runs")
    where.add_argument(
        "--prec", default="", choices=["", "auto", "fp32", "amp", "fp16"], help="precision of every run"
    )
    where.add_argument(
        "--backbone", default="", type=PATH, help="of every run; default: its data set's, else ViT-B/16"
    )
    where.add_argument("--threads", type=int, default=0, help="CPU threads of every run")
    where.add_argument(
        "--feature-store",
        type=PATH,
        default="",
        metavar="DIR",
        help="keep features of frozen image towers there, computed once for all runs (FEATURES.STORE)",
    )


def _add_formats(command: argparse.ArgumentParser) -> None:
    form = command.add_mutually_exclusive_group()
    form.add_argument(
        "--commands", action="store_true", help="only commands, one a line, in an order that works"
    )
    form.add_argument(
        "--format",
        nargs=2,
        metavar=("slurm", "DIR"),
        help="files in DIR for SLURM: what is to do, and array.sh for sbatch",
    )
    jobs = command.add_argument_group("jobs of SLURM")
    jobs.add_argument(
        "--runs-per-job",
        type=int,
        default=8,
        help="about so many; a training and its tests stay together; default: %(default)s",
    )
    jobs.add_argument(
        "--max-jobs",
        type=int,
        default=slurm.MOST_JOBS,
        help="else a job gets more runs; below the cluster's MaxArraySize; default: %(default)s",
    )
    jobs.add_argument("--jobs-at-once", type=int, default=0, help="default: what the cluster allows")
    jobs.add_argument(
        "--sbatch",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="options of sbatch: partition=gpu gres=gpu:1 time=4:00:00 account=lab",
    )
    jobs.add_argument(
        "--setup",
        nargs="+",
        default=[],
        metavar="LINE",
        help="lines of shell before the runs: 'module load cuda'",
    )
    _add_places(jobs, "in a job")


def _add_places(group, where: str) -> None:
    """How many runs share a machine."""
    group.add_argument(
        "--jobs",
        type=int,
        default=0,
        help=f"{where}: runs at once, with GPUs within --per-gpu; default: what cores or GPUs allow",
    )
    group.add_argument(
        "--per-gpu", type=int, default=1, help=f"{where}: at most so many runs on a GPU, memory permitting"
    )


def _add_execution(command: argparse.ArgumentParser) -> None:
    how = command.add_argument_group("execution")
    how.add_argument(
        "--verify",
        action="store_true",
        help="do anew, too, what earlier versions finished without recording its inputs",
    )
    how.add_argument("--executor", default="local", choices=["local", "ray"])
    _add_places(how, "local")
    how.add_argument("--ray-address", default="auto", help="ray: address of the cluster")
    how.add_argument("--cpus-per-run", type=float, default=0, help="ray: default: a run's threads")
    how.add_argument("--gpus-per-run", type=float, help="ray: e.g. 0.5; default: 1 if there are GPUs")


# Commands -------------------------------------------------------------------------------------------


def show_list(args) -> int:
    what, selection = select(args)
    planned = runs_of(what, args, selection)
    rows = []
    for definition in what:
        runs = {planned[spec] for spec, _ in definition.specs(selection)}
        rows.append(
            [definition.id, definition.title, *_counts(runs | {run.needs for run in runs if run.needs})]
        )
    rows.append(["", "all, shared runs once", *_counts(set(planned.values()))])
    print(
        tabulate(rows, ["", "", "runs", *STATES], tablefmt="simple", disable_numparse=True, colalign=_RIGHT)
    )
    if selection.paper.citation:
        print(f"\n{selection.paper.citation}")
    return 0


_RIGHT = ("left", "left", *["right"] * (1 + len(STATES)))


def _counts(runs: set[Planned]) -> list[str]:
    states = Counter(run.state for run in runs)
    return [f"{len(runs):,}", *(f"{states[state]:,}" if states[state] else "" for state in STATES)]


def show_plan(args) -> int:
    what, selection = select(args)
    runs = distinct(runs_of(what, args, selection))
    if args.format:
        write_jobs(args, runs)
        return 0
    for run in runs:
        if not args.commands:
            remarks = "; ".join(filter(None, (run.reason, run.note, *run.remarks)))
            print(f"{run.state:10}  {run.name}" + (f"   ({remarks})" if remarks else ""))
            print(f"            {pasted(run.command)}")
        elif run.runnable:
            print(_command(run))
    if args.commands:
        tell_of_missing_data(runs, args.root)
    return 0


def _command(run: Planned) -> str:
    """The command of a run; what is stale in its folder is moved aside first."""
    if run.state != "stale":
        return pasted(run.command)
    aside = scheduler.place_aside(run)
    steps = [["mkdir", "-p", str(aside.parent)], ["mv", str(run.folder), str(aside)], run.command]
    return " && ".join(map(pasted, steps))


def write_jobs(args, runs: list[Planned]) -> None:
    """Files for a batch scheduler. Raises: ValueError for a format that there is not"""
    form, folder = args.format
    if form != "slurm":
        raise ValueError(unknown_name("format", form, ["slurm"]))
    waiting = sum(run.runnable for run in runs)
    tell_of_missing_data(runs, args.root)
    if not waiting:
        print(f"{len(runs):,} runs, 0 to do")
        return
    script, jobs = slurm.write_files(
        *(runs, PATH(folder), args.root, _words_of_jobs(args)),
        runs_per_job=args.runs_per_job,
        most_jobs=args.max_jobs,
        at_once=args.jobs_at_once,
        sbatch=args.sbatch,
        setup=args.setup,
    )
    print(f"{len(runs):,} runs, {waiting:,} to do, in {jobs:,} jobs:\n{pasted(['sbatch', str(script)])}")


def _words_of_jobs(args) -> list[str]:
    flags = {"--prec": args.prec, "--threads": args.threads, "--jobs": args.jobs}
    flags |= {"--feature-store": args.feature_store}
    given = [word for flag, value in flags.items() if value for word in (flag, str(value))]
    return ["--output", args.output, *given, "--per-gpu", str(args.per_gpu)]


def run_all(args) -> int:
    what, selection = select(args)
    check_drawing(what)
    planned = runs_of(what, args, selection, verify=args.verify)
    runs = distinct(planned)
    waiting = [run for run in runs if run.runnable]
    print(f"{len(runs):,} runs, {len(waiting):,} to do")
    tell_of_missing_data(runs, args.root)
    summary = scheduler.run(runs, _executor(args), Display()) if waiting else scheduler.Summary()
    write_report(args, what, selection, planned)
    tell_of_failures(summary.failed)
    if summary.interrupted:
        print(INTERRUPTED)
        return 130
    return int(bool(summary.failed))


def _executor(args):
    if args.executor == "ray":
        return RayExecutor(args.ray_address, args.cpus_per_run, args.gpus_per_run)
    return LocalExecutor(args.jobs, args.per_gpu)


def show_report(args) -> int:
    what, selection = select(args)
    check_drawing(what)
    write_report(args, what, selection, runs_of(what, args, selection))
    return 0


COMMAND_FUNCTIONS = {"list": show_list, "plan": show_plan, "run": run_all, "report": show_report}


# What they share ------------------------------------------------------------------------------------


def chosen(what: list[str], paper: Paper) -> list:
    """Definitions by id, in the paper's order. Raises: ValueError for an unknown id."""
    known = {**definitions.load(paper), **figures.load(paper)}
    for name in what:
        if name not in known:
            raise ValueError(unknown_name("table or figure", name, list(known)))
    return [known[name] for name in known if not what or name in what]


def check_drawing(what: list) -> None:
    """Refuse figures before any run if they could not be drawn after it. Tables need nothing more.

    Raises: RuntimeError naming the packages that are not installed
    """
    missing = [package for module, package in DRAWING.items() if importlib.util.find_spec(module) is None]
    drawn = [definition.id for definition in what if not isinstance(definition, definitions.Definition)]
    if missing and drawn:
        install = pasted(["python", "-m", "pip", "install", "-r", "requirements-report.txt"])
        raise RuntimeError(
            f"not installed: {', '.join(missing)}, which drawing {', '.join(drawn)} needs; "
            f"{install}, or name tables only"
        )


def select(args) -> tuple[list, Selection]:
    """What is asked for: definitions of tables and figures, and what is selected of them.

    Raises: ValueError for a name that there is not, or if nothing is selected
    """
    if args.images:
        if not Path(args.images).exists():
            raise FileNotFoundError(f"--images: {args.images} does not exist")
        args.datasets.append(remember_images(args.images))
    known = {one.stem for one in data_sets()}
    remember_data_sets(data_sets_with_runs(Path(args.output), set(args.datasets) - known))
    paper = Paper.read(args.paper)
    picked = (tuple(words) for words in (args.datasets, args.methods, args.shots, args.seeds))
    what, selection = chosen(args.what, paper), Selection(paper, *picked, output=Path(args.output))
    check_not_empty(what, selection)
    return what, selection


def runs_of(what: list, args, selection: Selection, verify: bool = False) -> dict:
    """Spec -> planned run of everything that these tables and figures need."""
    wanted = [run for definition in what for run in definition.specs(selection)]
    settings = {"prec": args.prec, "threads": args.threads, "backbone": args.backbone}
    settings["store"] = args.feature_store
    return plan(wanted, args.output, args.root, verify=verify, **settings)


def write_report(args, what: list, selection: Selection, planned: dict) -> None:
    """Print the tables, and write the report's files."""
    folder = Path(args.report or Path(args.output) / "report")
    made = assemble(what, selection, planned, folder)
    print(formats.terminal(made))
    page, *others = formats.write(made, folder)
    print(f"\n{page}   and {len(others)} more files there: Markdown, LaTeX, CSV")


def tell_of_missing_data(runs: list[Planned], root: str) -> None:
    """Which runs are left out for want of images, and who can help."""
    lacking = [run for run in runs if run.missing_data and run.state != "done"]
    if lacking:
        folders = ", ".join(sorted({run.missing_data for run in lacking}))
        doctor = ["python", "-m", "datasets.doctor", "all", "--root", root]
        print(
            f"{len(lacking):,} runs are left out, their data are not there: {folders}\n"
            f"(--root is the folder of all; {pasted(doctor)} says what is missing)",
            file=sys.stderr,
        )


def tell_of_failures(failed: list[Planned]) -> None:
    """Each failed run with its command and the last lines of its log."""
    for run in failed:
        print(f"\n{Failure.read(run.output, run.name)}")


def distinct(planned: dict) -> list[Planned]:
    return list(dict.fromkeys(planned.values()))


if __name__ == "__main__":
    sys.exit(main())
