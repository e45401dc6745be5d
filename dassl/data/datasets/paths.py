"""Paths of images as records and digests hold them: the same on every machine."""

import os
from pathlib import Path


def relative_paths(dataset, items, root: str) -> list[str]:
    """Image paths with forward slashes, relative to the data set's image folder, else to ``root``."""
    if hasattr(dataset, "relative_path"):
        return [dataset.relative_path(item) for item in items]
    root = image_root(dataset, root)
    return [Path(os.path.relpath(item.impath, root)).as_posix() for item in items]


def image_root(dataset, root: str) -> str:
    """The folder that :func:`relative_paths` are relative to."""
    return (
        dataset.image_dir if hasattr(dataset, "relative_path") else os.path.abspath(os.path.expanduser(root))
    )
