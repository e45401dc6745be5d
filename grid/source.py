"""What a plan must know of trainers and data sets, read from their source: importing them imports torch."""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from clipfit.io.files import user_cache
from dassl.config import flatten
from dassl.run_folder import has_config, read_config
from launch.registered import class_fact, data_sets, is_drawn


@cache
def dataset_folder(registered: str) -> str | None:
    """Folder under the data root that a data set of ``datasets/`` (DATASET.NAME) reads; None if unknown."""
    return class_fact("datasets", registered, "dataset_dir", None)


def data_folder(registered: str, root: str) -> Path | None:
    """Where the pictures of a data set lie, or would: a folder, or a list of own ones. None if unknown.

    One that is drawn lies in the user's cache if the root cannot be written.
    """
    if images := next((one.images for one in data_sets() if one.name == registered), ""):
        return Path(images)
    name = dataset_folder(registered)
    if name is None:
        return None
    root = Path(root).expanduser()
    if is_drawn(registered) and not (root / name).is_dir() and root.is_dir() and not os.access(root, os.W_OK):
        return user_cache() / name
    return root / name


def data_sets_with_runs(output: Path, stems: Iterable[str]) -> dict[str, str]:
    """Stem -> DATASET.NAME of those data sets that an output folder has runs of, as their configs say it."""
    found = {}
    for stem in stems:
        folders = (run for place in ("*", "*/*") for run in output.glob(f"{place}/{stem}/shots_*/*/*/*"))
        if (run := next(filter(has_config, folders), None)) is not None:
            found[stem] = flatten(read_config(run)).get("DATASET.NAME", stem)
    return found


def trainers_with_runs(output: Path) -> set[str]:
    """Names of the trainers that an output folder has runs of (launch/folder.py says how they lie there)."""
    patterns = ("*/*/shots_*/*", "*/*/*/shots_*/*")
    return {path.name for pattern in patterns for path in output.glob(pattern) if path.is_dir()}
