"""Images and classes that a data set lists more than once, under whatever name."""

import os
from collections import defaultdict
from collections.abc import Iterator

from clipfit.io.digests import Digests

SHOWN = 3  # names in a line


def same_files(train, test) -> dict[str, str]:
    """Path of a training image -> path of the test image that is the same file, by whatever path or link.

    Files are compared by device and inode; one that does not exist is left out.
    """
    tested = {}
    for item in test:
        if key := _file(item.impath):
            tested.setdefault(key, item.impath)
    shared = {}
    for item in train:
        key = _file(item.impath)
        if key in tested:
            shared[item.impath] = tested[key]
    return shared


def _file(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def warnings_of_copies(train, test) -> Iterator[str]:
    """What files of equal content say: few-shot images that are tested on, or that have two labels."""
    labels = {item.impath: (item.label, item.classname) for item in train}
    by_size = defaultdict(list)
    for path in labels:
        by_size[_size(path)].append(path)
    by_size.pop(-1, None)
    same_size = [item.impath for item in test if _size(item.impath) in by_size]
    crowded = [path for group in by_size.values() if len(group) > 1 or same_size for path in group]
    with Digests() as digests:
        trained = defaultdict(list)
        for path, digest in zip(crowded, digests.of_files(crowded), strict=True):
            trained[digest].append(path)
        copies = [
            f"{path} of {trained[digest][0]}"
            for path, digest in zip(same_size, digests.of_files(same_size), strict=True)
            if digest in trained
        ]
    if copies:
        yield _some(copies, "test images that are copies of images trained on, which helps the result")
    unequal = [
        " and ".join(f"{path} ({labels[path][1]})" for path in group)
        for group in trained.values()
        if len({labels[path][0] for path in group}) > 1
    ]
    if unequal:
        yield _some(unequal, "training images of equal content in different classes")


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def warnings_of_lists(lists: dict) -> Iterator[str]:
    """What is wrong with listed paths: an image listed twice in one list, or with two labels in any.

    Args: lists, name -> list of `Datum` or None
    """
    labels, unequal, seen = {}, {}, set()
    for name, items in lists.items():
        if not items or id(items) in seen:  # of ImageNet val and test are one list
            continue
        seen.add(id(items))
        paths, twice = set(), {}
        for item in items:
            path = os.path.normpath(item.impath)
            if path in paths:
                twice[path] = None
            paths.add(path)
            first = labels.setdefault(path, item)
            if first.label != item.label:
                unequal[path] = f"{path} ({first.classname} and {item.classname})"
        if twice:
            yield _some(list(twice), f"images listed twice in {name}")
    if unequal:
        yield _some(list(unequal.values()), "images with two labels")


def warnings_of_names(names: dict[int, str]) -> Iterator[str]:
    """Classes that get one prompt, because case, underscores and spaces make no difference to it.

    Args: names, label -> class name
    """
    same = defaultdict(list)
    for label, name in sorted(names.items()):
        same[" ".join(name.replace("_", " ").casefold().split())].append(f"{name!r} (label {label})")
    groups = [" and ".join(group) for group in same.values() if len(group) > 1]
    if groups:
        yield _some(groups, "classes with one prompt, which their names do not tell apart")


def _some(items: list[str], what: str) -> str:
    more = f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    return f"{what} ({len(items):,}): {', '.join(items[:SHOWN])}{more}"
