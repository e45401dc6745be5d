"""Look at a data folder, say what is wrong and what to do about it, and change nothing.

    python -m datasets.doctor dtd --root data           layout, lists, counts, few-shot picks
    python -m datasets.doctor myphotos --root data      what the class of your own makes of its folder
    python -m datasets.doctor --images photos/          your own pictures, as train.py --images takes them
    python -m datasets.doctor all --root data --deep    every data set that is there; opens every image

The lists are made by the loaders, so what the doctor calls healthy trains. A class of your own is constructed
as a run would construct it; if it writes files while it does, the report names them. Exit status 1 if
something is wrong: that includes a split file that is not CoOp's, because its numbers compare with nobody's.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from clipfit.io.commands import PATH, Parser, default_root
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from datasets.drawing.folder import check_drawn
from datasets.imagenet import ImageNet
from datasets.imagenet_like import TestOnly
from datasets.tools.findings import NOTE, OK, WRONG, Finding, how_to_get, location
from datasets.tools.known import Entry, entries, find
from datasets.tools.layout import (
    called_otherwise,
    classnames,
    image_folders,
    leftovers,
    no_folder,
    origins,
    other_files,
    split_file,
)
from datasets.tools.lists import (
    class_names,
    counts,
    decoded,
    few_shot_picks,
    layout,
    missing_images,
    read_lists,
)
from datasets.tools.own_pictures import examine_pictures
from launch.bare_errors import message_of
from launch.registered import data_sets

TEST_SHARE = get_cfg_default().DATASET.TEST_SHARE


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m datasets.doctor", description=__doc__.splitlines()[0])
    parser.add_argument(
        "name", nargs="?", default="", help=f"all, or one of {', '.join(one.stem for one in data_sets())}"
    )
    parser.add_argument(
        "--root", type=PATH, default=default_root(), help="data root (default: $DATA, else data)"
    )
    parser.add_argument(
        "--images", type=PATH, default="", metavar="PATH", help="instead of a name: own pictures, as train.py"
    )
    parser.add_argument(
        "--test-share", type=float, default=TEST_SHARE, help=f"with --images, as train.py ({TEST_SHARE})"
    )
    parser.add_argument("--deep", action="store_true", help="open every image")
    args = parser.parse_args(argv)
    if bool(args.name) == bool(args.images):
        parser.error("name a data set, or give --images with the path of your own pictures")
    root = Path(args.root).absolute()
    try:
        if args.images:
            print(f"own pictures, {args.images}")
            return 0 if tell(examine_pictures(args.images, args.test_share)) else 1
        if args.name == "all":
            return 0 if report_all(root, args.deep) else 1
        return 0 if report(args.name, root, args.deep) else 1
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {message_of(error)}")


def report(name: str, root: Path, deep: bool = False) -> bool:
    """Print the report on one data set; returns whether all is well."""
    entry = find(name, ["all"])
    print(f"{entry.registry}, {root / entry.folder}")
    return tell(examine(entry, root, deep))


def tell(findings: Iterable[Finding]) -> bool:
    """Print what was found; returns whether all is well."""
    wrong = 0
    for finding in findings:
        print(f"  {finding.state:<6}{finding.subject:<16}{finding.text}")
        if finding.advice:
            print(f"  {'':<22}-> {finding.advice}")
        wrong += finding.state == WRONG
    print("all is well" if not wrong else f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    return not wrong


def report_all(root: Path, deep: bool = False) -> bool:
    """Print the reports on all data sets that are there, and which are not.

    Raises: ValueError if `root` is no folder
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; --root says where the data lie")
    healthy, absent = {}, []
    for entry in entries():
        name = entry.name
        if (root / entry.folder).is_dir() or called_otherwise(entry, root):
            healthy[name] = report(name, root, deep)
            print()
        else:
            absent.append(name)
    print(f"well:      {', '.join(name for name, well in healthy.items() if well) or 'none'}")
    print(f"wrong:     {', '.join(name for name, well in healthy.items() if not well) or 'none'}")
    print(f"not here:  {', '.join(absent) or 'none'}")
    return bool(healthy) and all(healthy.values())


def examine(entry: Entry, root: Path, deep: bool = False) -> Iterator[Finding]:
    """What there is to say about a data set below `root`, as it is found out."""
    folder = root / entry.folder
    if not folder.is_dir():
        yield no_folder(entry, root)
        return
    files = [*image_folders(entry, folder), *other_files(entry, folder)]
    yield from files
    yield from split_file(entry, folder)
    if issubclass(DATASET_REGISTRY.get(entry.registry), (ImageNet, TestOnly)):
        yield from classnames(folder)
    yield from origins(folder)
    if any(finding.state == WRONG for finding in files):
        yield from leftovers(entry, folder)
        return  # the lists would only repeat it
    before = set(folder.iterdir())
    try:
        dataset, lists, warned = read_lists(entry, root)
    except Exception as error:  # a class of the user's may raise anything
        text = f"{entry.registry}: {message_of(error)}".replace("\n", " ")
        yield Finding(WRONG, "lists", text, how_to_get(entry, folder))
    else:
        yield from (Finding(NOTE, "said", line) for line in warned)
        yield from layout(entry, lists)
        yield from counts(entry, folder, lists)
        yield from class_names(entry, folder, lists["train"])
        yield from missing_images(entry, folder, dataset, lists, deep)
        yield from few_shot_picks(entry, dataset, lists)
        if deep:
            yield decoded(lists)
    if written := sorted(path.name for path in set(folder.iterdir()) - before):
        text = f"{', '.join(written)} in {folder}"
        yield Finding(NOTE, "written", f"by the class of {location(entry.file)}: {text}")
    if entry.drawn:
        yield _unchanged(folder)
    yield from leftovers(entry, folder)


def _unchanged(folder: Path) -> Finding:
    try:
        check_drawn(folder)
    except ValueError as error:
        return Finding(WRONG, "digest", str(error))
    return Finding(OK, "digest", "as drawn")
