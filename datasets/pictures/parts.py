"""Which pictures are trained on and which are tested on, where nobody has said so.

A picture's part follows from a hash of its file name without folders: a picture that is added later moves no
other, and one whose label is corrected stays where it is.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from datasets.pictures.found import LabelledPicture, plain_name


def position(path: str) -> float:
    """Where a picture stands between 0 and 1, by its file name; below the share that is tested on: test."""
    digest = hashlib.sha256(plain_name(path).encode()).digest()
    return int.from_bytes(digest[:7]) / 256**7


def settle_parts(pictures: Sequence[LabelledPicture], test_share: float) -> list[str]:
    """The part of every picture; those that have one keep it.

    A class that would have nothing to train on keeps its undecided picture of the highest position.

    Raises: ValueError for a share below 0, or of 1 and more
    """
    if not 0 <= test_share < 1:
        raise ValueError(
            f"--test-share (DATASET.TEST_SHARE) is {test_share}; give a part of 1, such as 0.2, or 0 to keep "
            "no pictures for testing"
        )
    parts = [one.part or ("test" if position(one.path) < test_share else "train") for one in pictures]
    numbers = defaultdict(list)
    for number, one in enumerate(pictures):
        numbers[one.label].append(number)
    for of_class in numbers.values():
        undecided = [number for number in of_class if not pictures[number].part]
        if undecided and all(parts[number] != "train" for number in of_class):
            kept = max(undecided, key=lambda n: (position(pictures[n].path), pictures[n].path))
            parts[kept] = "train"
    return parts
