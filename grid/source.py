"""What a plan must know of trainers and data sets, read from their source: importing them imports torch."""

from functools import cache
from pathlib import Path

from launch.registered import FIRST_VERSION, class_fact, class_lineage

DRAWN = "DrawnDataset"  # base of the data sets that are drawn on first use


@cache
def trainer_version(trainer: str) -> int:
    """The attribute ``version`` of a trainer of ``trainers/``; 1 for one that sets none."""
    return class_fact("trainers", trainer, "version", FIRST_VERSION)


@cache
def dataset_folder(registered: str) -> str | None:
    """Folder under the data root that a data set of ``datasets/`` (DATASET.NAME) reads.

    None if there need not be one: the data set is drawn on first use, or is none of ours.
    """
    if is_drawn(registered):
        return None
    return class_fact("datasets", registered, "dataset_dir", None)


@cache
def is_drawn(registered: str) -> bool:
    """Whether a data set of ``datasets/`` (DATASET.NAME) is drawn on first use: its pictures are embedded."""
    return any(source.name == DRAWN for source in class_lineage("datasets", registered))


def trainers_with_runs(output: Path) -> set[str]:
    """Names of the trainers that an output folder has runs of (launch/folder.py says how they lie there)."""
    patterns = ("*/*/shots_*/*", "*/*/*/shots_*/*")
    return {path.name for pattern in patterns for path in output.glob(pattern) if path.is_dir()}
