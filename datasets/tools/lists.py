"""What the doctor says about the lists that a loader makes of a folder, and about the images on them."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from tqdm import tqdm

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.datasets.base_dataset import FolderImages, group_by_label
from dassl.utils import list_digest, read_image
from datasets.splits import LISTS, SplitDataset, relative_path, sample_shots
from datasets.tools.findings import OK, WRONG, Finding, how_to_get
from datasets.tools.known import Entry

SHOWN = 3  # names of files in a line
WARNING = "Warning: "  # in front of a line that a loader prints


def read_lists(entry: Entry, root: Path) -> tuple[object, dict[str, list | None], list[str]]:
    """The lists that the loader of a data set makes of all its images.

    Ours are asked for their lists without their check that all images exist, and without writing a file. Any
    other class is constructed as a run would, and may write what it writes.

    Returns: the loader, perhaps not fully constructed, its lists by name, and what it warned of
    """
    loader = DATASET_REGISTRY.get(entry.registry)
    with redirect_stdout(StringIO()) as said:  # what else loaders say is said here in other words
        if getattr(loader, "__init__", None) is SplitDataset.__init__:
            dataset = loader.__new__(loader)
            dataset.read_only = True
            dataset.locate(str(root))
            lists = dict(zip(LISTS, dataset.read_or_make_split(seed=1), strict=True))
        else:
            cfg = get_cfg_default()
            cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.SEED = entry.registry, str(root), 1
            dataset = loader(cfg)
            lists = {"train": dataset.train_x, "val": dataset.val, "test": dataset.test}
    warned = [line.removeprefix(WARNING) for line in said.getvalue().splitlines() if line.startswith(WARNING)]
    return dataset, lists, warned


def counts(entry: Entry, folder: Path, lists: dict) -> Iterator[Finding]:
    advice = f"compare with DATASETS.md; {how_to_get(entry, folder)}"
    for part in LISTS:
        stated, items = getattr(entry, part), lists[part]
        if stated == 0 or items is None or (part != "test" and items is lists["test"]):  # another one's copy
            continue
        if stated is None:
            yield Finding(OK, part, f"{len(items):,} images, {_per_class(items)}")
        elif len(items) == stated:
            yield Finding(OK, part, f"{len(items):,} images, as published")
        else:
            yield Finding(WRONG, part, f"{len(items):,} images; published are {stated:,}", advice)


def _per_class(items) -> str:
    sizes = [len(group) for group in group_by_label(items).values()] or [0]
    least, most = min(sizes), max(sizes)
    return f"{least:,} to {most:,} of a class" if least < most else f"{least:,} of each class"


def class_names(entry: Entry, folder: Path, train) -> Iterator[Finding]:
    _, names = SplitDataset.get_lab2cname(train)
    wanted = entry.published.get("classnames_sha256")
    if entry.classes is not None and len(names) != entry.classes:
        text = f"{len(names):,}; published are {entry.classes:,}"
        yield Finding(WRONG, "classes", text, how_to_get(entry, folder))
    elif wanted and list_digest(names) != wanted:
        advice = "names come from the split file, else from folders or annotations: get these again"
        yield Finding(WRONG, "classes", f"{len(names):,}, but not called as in CoOp", advice)
    else:
        yield Finding(OK, "classes", f"{len(names):,}, {names[0]} to {names[-1]}")


def layout(entry: Entry, lists: dict) -> Iterator[Finding]:
    """Where the listed images lie, for a data set of which nothing is stated."""
    paths = _all_paths(lists)
    if not entry.images and paths:
        yield Finding(OK, "images", f"all below {os.path.commonpath(map(os.path.dirname, paths))}")


def missing_images(entry: Entry, folder: Path, dataset, lists: dict, deep: bool = False) -> Iterator[Finding]:
    # Listed images only: those of a FolderImages are what the folders hold.
    paths = _all_paths(
        {part: None if isinstance(items, FolderImages) else items for part, items in lists.items()}
    )
    missing = _missing(paths)
    if not missing:
        unopened = "" if deep else "; whether they can be read was not looked at (--deep opens every one)"
        yield Finding(OK, "image files", f"all {len(paths):,} are there{unopened}")
        return
    image_dir = Path(getattr(dataset, "image_dir", folder))
    first = relative_path(missing[0], str(image_dir))
    advice = f"move {image_dir} away, then {how_to_get(entry, folder)}"
    for deeper in sorted(image_dir.glob("*/")):
        if (deeper / first).is_file():
            advice = f"they lie one level too deep: move what is in {deeper} up"
    if (folder / first).is_file():
        advice = f"they lie one level too high: move the class folders into {image_dir}"
    yield Finding(WRONG, "image files", _some(missing, len(paths), "are missing", str(image_dir)), advice)


def few_shot_picks(entry: Entry, dataset: SplitDataset, lists: dict) -> Iterator[Finding]:
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


def decoded(lists: dict) -> Finding:
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
