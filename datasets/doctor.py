"""Look at a data folder, say what is wrong and what to do about it, and change nothing.

    python -m datasets.doctor dtd --root data           layout, lists, counts, few-shot picks
    python -m datasets.doctor all --root data --deep    every data set that is there; opens every image

The lists are made by the loaders, so what the doctor calls healthy trains. Exit status 1 if something is
wrong: that includes a split file that is not CoOp's, because its numbers compare with nobody's.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from tqdm import tqdm

import datasets  # noqa: F401 - every loader registers itself
from clipfit.io.digests import file_digest
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.datasets.base_dataset import FolderImages
from dassl.utils import list_digest, read_image, unknown_name
from datasets import catalog, demo
from datasets.catalog import Entry
from datasets.splits import LISTS, SplitDataset, relative_path, sample_shots

SHOWN = 3  # names of files in a line
OK, NOTE, WRONG = "ok", "note", "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line of the report, and what to do about it."""

    state: str  # OK, NOTE, WRONG
    subject: str
    text: str
    advice: str = ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m datasets.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("name", help=f"all, or one of {', '.join(names())}")
    parser.add_argument(
        "--root", default=os.environ.get("DATA", "data"), help="data root (default: $DATA, else data)"
    )
    parser.add_argument("--deep", action="store_true", help="open every image")
    args = parser.parse_args(argv)
    root = Path(args.root).expanduser().absolute()
    try:
        if args.name == "all":
            return 0 if report_all(root, args.deep) else 1
        return 0 if report(args.name, root, args.deep) else 1
    except ValueError as error:
        sys.exit(f"error: {error}")


def names() -> list[str]:
    """What may be examined: module names of the catalog and of the embedded data."""
    return [entry.name for entry in catalog.ENTRIES] + list(embedded())


def embedded() -> dict[str, Entry]:
    """The embedded data sets, described as those of the catalog are."""
    found = {}
    for registry in DATASET_REGISTRY.registered_names():
        loader = DATASET_REGISTRY.get(registry)
        if issubclass(loader, demo.DrawnDataset):
            name, classes = loader.dataset_dir, len(loader.classes)
            counts = {part: classes * count for part, count in demo.PER_CLASS.items()}
            found[name] = Entry(
                name, registry, name, ("images",), classes, **counts, sources=(), split=loader.split_file
            )
    return found


def find(name: str) -> Entry:
    """Raises: ValueError naming the nearest known name"""
    for entry in (*catalog.ENTRIES, *embedded().values()):
        if name.casefold() in (entry.name.casefold(), entry.registry.casefold()):
            return entry
    raise ValueError(unknown_name("data set", name, ["all", *names()]))


def report(name: str, root: Path, deep: bool = False) -> bool:
    """Print the report on one data set; returns whether all is well."""
    entry = find(name)
    print(f"{entry.registry}, {root / entry.folder}")
    wrong = 0
    for finding in examine(entry, root, deep):
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
    for name in names():
        entry = find(name)
        if (root / entry.folder).is_dir() or _called_otherwise(entry, root):
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
        yield _no_folder(entry, root)
        return
    layout = [*_image_folders(entry, folder), *_other_files(entry, folder)]
    yield from layout
    yield from _split_file(entry, folder)
    if any(finding.state == WRONG for finding in layout):
        yield from _leftovers(entry, folder)
        return  # the lists would only repeat it
    try:
        dataset, lists = read_lists(entry, root)
    except (ValueError, OSError) as error:
        yield Finding(WRONG, "lists", str(error).replace("\n", " "), _prepare(entry, folder))
    else:
        yield from _counts(entry, folder, lists)
        yield from _class_names(entry, folder, lists["train"])
        yield from _missing_images(entry, folder, dataset, lists)
        yield from _few_shot_picks(entry, dataset, lists)
        if deep:
            yield _decoded(lists)
    if entry.name in embedded():
        yield _unchanged(folder)
    yield from _leftovers(entry, folder)


def read_lists(entry: Entry, root: Path) -> tuple[SplitDataset, dict[str, list | None]]:
    """The loader's own whole lists, without its check that all images exist, and without writing a file.

    Returns: the loader, not fully constructed, and its lists by name
    """
    loader = DATASET_REGISTRY.get(entry.registry)
    dataset = loader.__new__(loader)
    dataset.read_only = True
    dataset.locate(str(root))
    with redirect_stdout(StringIO()):  # what loaders say while they load is said here in other words
        lists = dataset.read_or_make_split(seed=1)
    return dataset, dict(zip(LISTS, lists, strict=True))


def draw(name: str, root: Path) -> None:
    """Draw an embedded data set into `root`, as its first use would."""
    cfg = get_cfg_default()
    cfg.DATASET.ROOT = str(root)
    DATASET_REGISTRY.get(embedded()[name].registry)(cfg)


# Layout


def _no_folder(entry: Entry, root: Path) -> Finding:
    missing = f"{root / entry.folder} does not exist"
    if entry.name in embedded():
        return Finding(NOTE, "folder", f"{missing}: it is drawn on first use")
    if other := _called_otherwise(entry, root):
        advice = f"{other} looks like it: mv {other} {root / entry.folder}"
    elif root.name == entry.folder and (root / entry.images[0]).exists():
        advice = f"--root is one level too deep; pass --root {root.parent}"
    else:
        advice = _prepare(entry, root / entry.folder)
    return Finding(WRONG, "folder", missing, advice)


def _called_otherwise(entry: Entry, root: Path) -> Path | None:
    """A folder below `root` that has another repository's name for the data set."""
    wanted = {_letters(name) for name in (entry.folder, *entry.other_names)}
    taken = {other.folder for other in catalog.ENTRIES}
    present = sorted(path for path in root.glob("*") if path.is_dir() and path.name not in taken)
    return next((path for path in present if _letters(path.name) in wanted), None)


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _image_folders(entry: Entry, folder: Path) -> Iterator[Finding]:
    for name in entry.images:
        if (folder / name).is_dir():
            yield Finding(OK, "images", f"{name}/ is there")
        else:
            yield Finding(WRONG, "images", f"{name}/ does not exist", _where_instead(entry, folder, name))


def _where_instead(entry: Entry, folder: Path, name: str) -> str:
    """Advice for a missing folder or file: where it lies instead, or how to get it."""
    deeper = [path for path in sorted(folder.glob("*")) if (path / name).exists()]
    if deeper:
        return f"it lies one level too deep, in {deeper[0] / name}: move what is in {deeper[0].name}/ up"
    last = Path(name).name
    if last != name and (folder / last).exists():
        return f"it lies one level too high, in {folder / last}: move it to {folder / name}"
    for source in entry.sources:
        if name in source.gives and (folder / source.file).is_file():
            return f"{source.file} is not unpacked: {_prepare(entry, folder)}"
    return _prepare(entry, folder)


def _other_files(entry: Entry, folder: Path) -> Iterator[Finding]:
    for name in entry.files:
        if (folder / name).is_file():
            yield Finding(OK, "file", name)
        else:
            yield Finding(WRONG, "file", f"{name} does not exist", _where_instead(entry, folder, name))


def _split_file(entry: Entry, folder: Path) -> Iterator[Finding]:
    path = folder / entry.split
    wanted = entry.published.get("split_sha256")
    if not entry.split:
        return
    if not path.is_file():
        absent = [name for name in entry.instead_of_split if not (folder / name).is_file()]
        if absent:
            text = f"{entry.split} does not exist, nor does {absent[0]}, from which it could be made"
            yield Finding(WRONG, "split", text, _where_instead(entry, folder, entry.split))
        else:
            text = f"{entry.split} does not exist; the first use makes one of its own, which is not CoOp's"
            yield Finding(NOTE, "split", text, _where_instead(entry, folder, entry.split))
    elif not wanted:
        yield Finding(OK, "split", f"{entry.split} is there")
    elif file_digest(path) == wanted:
        yield Finding(OK, "split", f"{entry.split} is CoOp's, bit for bit")
    else:
        advice = f"for CoOp's numbers, move it away, then {_prepare(entry, folder)}"
        yield Finding(WRONG, "split", f"{entry.split} is not the one that CoOp published", advice)


# Lists


def _counts(entry: Entry, folder: Path, lists: dict) -> Iterator[Finding]:
    advice = f"compare with DATASETS.md; {_prepare(entry, folder)}"
    for part in LISTS:
        published, items = getattr(entry, part), lists[part]
        if published is None or items is None:  # a list that is another one's copy
            continue
        if len(items) == published:
            yield Finding(OK, part, f"{len(items):,} images, as published")
        else:
            yield Finding(WRONG, part, f"{len(items):,} images; published are {published:,}", advice)


def _class_names(entry: Entry, folder: Path, train) -> Iterator[Finding]:
    _, names = SplitDataset.get_lab2cname(train)
    wanted = entry.published.get("classnames_sha256")
    if len(names) != entry.classes:
        text = f"{len(names):,}; published are {entry.classes:,}"
        yield Finding(WRONG, "classes", text, _prepare(entry, folder))
    elif wanted and list_digest(names) != wanted:
        advice = "names come from the split file, else from folders or annotations: get these again"
        yield Finding(WRONG, "classes", f"{len(names):,}, but not called as in CoOp", advice)
    else:
        yield Finding(OK, "classes", f"{len(names):,}, {names[0]} to {names[-1]}")


def _missing_images(entry: Entry, folder: Path, dataset: SplitDataset, lists: dict) -> Iterator[Finding]:
    # Listed images only: those of a FolderImages are what the folders hold.
    paths = _all_paths(
        {part: None if isinstance(items, FolderImages) else items for part, items in lists.items()}
    )
    missing = _missing(paths)
    if not missing:
        yield Finding(OK, "image files", f"all {len(paths):,} are there")
        return
    first = relative_path(missing[0], dataset.image_dir)
    image_dir = Path(dataset.image_dir)
    advice = f"move {image_dir} away, then {_prepare(entry, folder)}"
    for deeper in sorted(image_dir.glob("*/")):
        if (deeper / first).is_file():
            advice = f"they lie one level too deep: move what is in {deeper} up"
    if (folder / first).is_file():
        advice = f"they lie one level too high: move the class folders into {image_dir}"
    yield Finding(WRONG, "image files", _some(missing, len(paths), "are missing", dataset.image_dir), advice)


def _all_paths(lists: dict) -> list[str]:
    """Paths of all images, each once, in order."""
    return list(dict.fromkeys(item.impath for items in lists.values() for item in items or ()))


def _missing(paths: Iterable[str]) -> list[str]:
    """Those that do not exist, with one listing per folder."""
    present = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in present:
            present[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in present[folder] and not (present[folder] and os.path.isfile(path)):
            missing.append(path)
    return missing


def _some(paths: list[str], total: int, what: str, folder: str) -> str:
    shown = ", ".join(relative_path(path, folder) for path in paths[:SHOWN])
    more = f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else ""
    return f"{len(paths):,} of {total:,} {what}: {shown}{more}"


def _few_shot_picks(entry: Entry, dataset: SplitDataset, lists: dict) -> Iterator[Finding]:
    """Sample every published selection again and compare the digests of the paths."""
    selections = entry.published.get("fewshot", {})
    if not selections or (entry.split and not (Path(dataset.dataset_dir) / entry.split).is_file()):
        return
    differing = []
    for selection, wanted in selections.items():
        shots, seed = map(int, selection.split("-"))
        picks = sample_shots(lists["train"], lists["val"], shots, seed)
        if [list_digest(map(dataset.relative_path, items)) for items in picks] != wanted:
            differing.append(f"{shots} shots with seed {seed}")
    if differing:
        text = f"{len(differing)} of {len(selections)} selections are not CoOp's: {differing[0]}, ..."
        yield Finding(WRONG, "few-shot picks", text, "they follow from the lists: get those right first")
    else:
        text = f"CoOp's in all {len(selections)} selections (1, 2, 4, 8, 16 shots; seeds 1, 2, 3)"
        yield Finding(OK, "few-shot picks", text)


# Contents


def _decoded(lists: dict) -> Finding:
    paths = [path for path in _all_paths(lists) if os.path.isfile(path)]
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), 16)
    with ProcessPoolExecutor(workers) as pool:
        faults = list(tqdm(pool.map(_fault, paths, chunksize=64), "opening", len(paths), disable=None))
    broken = [fault for fault in faults if fault]
    if not broken:
        return Finding(OK, "opened", f"all {len(paths):,} images")
    shown = "; ".join(broken[:SHOWN]) + (f"; and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else "")
    return Finding(
        WRONG,
        "opened",
        f"{len(broken):,} of {len(paths):,} images cannot be: {shown}",
        "get these files again",
    )


def _fault(path: str) -> str:
    """What is wrong with an image file, or ""."""
    try:
        read_image(path)
    except OSError as error:
        return str(error)
    return ""


def _unchanged(folder: Path) -> Finding:
    try:
        demo.check_drawn(folder)
    except ValueError as error:
        return Finding(WRONG, "digest", str(error))
    return Finding(OK, "digest", "as drawn")


def _leftovers(entry: Entry, folder: Path) -> Iterator[Finding]:
    """Files that are not used, and what they are."""
    pickles = [path for path in sorted(folder.glob("split_fewshot/*.pkl"))]
    if pickles:
        yield Finding(
            NOTE, "not used", f"split_fewshot/ holds {len(pickles):,} of CoOp's caches; never opened here"
        )
    if (folder / "preprocessed.pkl").is_file():
        yield Finding(NOTE, "not used", "preprocessed.pkl is CoOp's list of images; never opened here")
    for part in sorted(folder.glob("*.part")):
        yield Finding(
            NOTE,
            "unfinished",
            f"{part.name} is a broken download",
            f"{_prepare(entry, folder)} goes on with it",
        )
    for source in entry.sources:
        unpacked = source.gives and all((folder / result).exists() for result in source.gives)
        if unpacked and (folder / source.file).is_file():
            yield Finding(NOTE, "not used", f"{source.file} is unpacked and may be removed")


def _prepare(entry: Entry, folder: Path) -> str:
    return f"python -m datasets.prepare {entry.name} --root {folder.parent}"


if __name__ == "__main__":
    sys.exit(main())
