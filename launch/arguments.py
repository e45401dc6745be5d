"""The command line: CoOp's flags, some of ours, then KEY VALUE pairs."""

import argparse
import sys

from clipfit.cli import versions
from clipfit.io.commands import PATH, Parser
from dassl.run_folder import OLD

from .registered import OWN_PICTURES, data_sets, methods, protocols

OTHER_WORDS = {  # flags that other programs have for what is said otherwise here
    **dict.fromkeys(("--data", "--data-root", "--data-dir", "--data-path"), "did you mean --root?"),
    **dict.fromkeys(("--lr", "--learning-rate"), "KEY VALUE pairs set it: OPTIM.LR 0.002"),
    **dict.fromkeys(("--epochs", "--epoch", "--max-epoch"), "KEY VALUE pairs set it: OPTIM.MAX_EPOCH 50"),
    **dict.fromkeys(("--batch-size", "--bs"), "KEY VALUE pairs set it: DATALOADER.TRAIN_X.BATCH_SIZE 32"),
    **dict.fromkeys(("--threads", "--num-threads"), "KEY VALUE pairs set it: THREADS 4"),
    **dict.fromkeys(("--workers", "--num-workers"), "KEY VALUE pairs set it: DATALOADER.NUM_WORKERS 4"),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse ``argv`` (default: the process's own). A flag that was not given is None, False or empty.

    Raises: SystemExit 2 after one line for a mistake; 0 after ``--help`` and ``--version``
    """
    parser = _Parser(
        prog="python train.py",
        other_words=OTHER_WORDS,
        description="Train and test one method on one data set.",
        epilog="KEY VALUE pairs set config keys and win over everything else: OPTIM.MAX_EPOCH 50",
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--trainer", default="", help="method, e.g. CLIPFit; the last lines name all")
    what.add_argument("--dataset", default="", metavar="NAME", help="data set, e.g. dtd or one of your own")
    what.add_argument(
        "--dataset-config-file",
        default="",
        type=PATH,
        metavar="YAML",
        help="instead: its YAML, wherever that lies",
    )
    what.add_argument(
        "--images",
        default="",
        type=PATH,
        metavar="PATH",
        help="instead: your own pictures, a folder with one per class or a list (docs/photos.md)",
    )
    what.add_argument(
        "--test-share",
        type=float,
        metavar="SHARE",
        help="of own pictures that are tested on, where none are given (DATASET.TEST_SHARE); default 0.2",
    )
    what.add_argument(
        "--template",
        default="",
        metavar="TEXT",
        help="prompt of every class (DATASET.PROMPT_TEMPLATE), e.g. 'a photo of a {}, a type of pet.'",
    )
    what.add_argument(
        "--protocol",
        default="",
        choices=list(protocols()),
        help=f"merge the method's recipe for it; with --images: {OWN_PICTURES}",
    )
    what.add_argument("--shots", type=int, help="labelled images per class (DATASET.NUM_SHOTS); -1: all")
    what.add_argument("--seed", type=int, help="decides the images drawn and the run; negative: draw one")
    what.add_argument(
        "--backbone",
        default="",
        type=PATH,
        help="ViT-B/16, RN50, ..., a checkpoint, open_clip:MODEL/WEIGHTS, demo, random:ViT-B/16",
    )
    what.add_argument("--config-file", default="", type=PATH, metavar="YAML", help="your own settings")
    what.add_argument(
        "--replace",
        action="store_true",
        help="where your own file in trainers/ or datasets/ brings a class of a shipped name, run yours; "
        "path and result call it <name>@<file>",
    )

    where = parser.add_argument_group("where")
    where.add_argument(
        "--root",
        default="",
        type=PATH,
        help="folder of the data sets (DATASET.ROOT); default: $DATA, else data",
    )
    where.add_argument(
        "--output-dir", default="", type=PATH, help="run folder; default: output/<protocol>/..."
    )
    where.add_argument("--resume", default="", type=PATH, metavar="DIR", help="continue the run in DIR")
    where.add_argument(
        "--redo",
        action="store_true",
        help=f"run anew: what the run folder holds is moved to <folder>/{OLD}/<time>/ first",
    )

    test = parser.add_argument_group("test only")
    test.add_argument("--eval-only", action="store_true", help="test a trained model")
    test.add_argument(
        "--model-dir", default="", type=PATH, metavar="DIR", help="run folder of the trained model"
    )
    test.add_argument(
        "--load-epoch", type=int, help="epoch to load; default: the best model, else the newest"
    )
    test.add_argument("--no-train", action="store_true", help="build everything, train nothing")

    family = parser.add_argument_group("accepted for scripts of the CoOp family")
    family.add_argument("--source-domains", nargs="+", default=[])
    family.add_argument("--target-domains", nargs="+", default=[])
    family.add_argument("--transforms", nargs="+", default=[], help="INPUT.TRANSFORMS")
    family.add_argument("--head", default="", help="MODEL.HEAD.NAME")

    parser.add_argument("--version", action="store_true", help="print the versions of this and of torch")
    parser.add_argument("pairs", nargs=argparse.REMAINDER, metavar="KEY VALUE", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.version:
        print(versions())
        sys.exit(0)
    if args.images and not args.protocol:
        args.protocol = OWN_PICTURES
    return args


class _Parser(Parser):
    """Its help ends with what is registered, which is looked up when it is asked for."""

    def format_help(self) -> str:
        datasets = " ".join(one.stem for one in data_sets())
        listed = f"methods: {' '.join(methods())}\ndata sets: {datasets}\nprotocols: {' '.join(protocols())}"
        return f"{super().format_help()}\n{listed}\n"


def command_line(args: argparse.Namespace) -> list[str]:
    """The command that gives these arguments."""
    flags = {
        "--trainer": args.trainer,
        "--protocol": args.protocol,
        "--dataset": args.dataset,
        "--dataset-config-file": args.dataset_config_file,
        "--images": args.images,
        "--test-share": args.test_share,
        "--template": args.template,
        "--seed": args.seed,
        "--shots": args.shots,
        "--root": args.root,
        "--backbone": args.backbone,
        "--config-file": args.config_file,
    }
    given = [str(word) for flag in flags.items() if flag[1] not in (None, "") for word in flag]
    return ["python", "train.py", *given, *(["--replace"] if args.replace else []), *args.pairs]
