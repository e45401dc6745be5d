"""A small data set on disk, and digests that are remembered nowhere."""

import json

import pytest
from PIL import Image

from clipfit.io import digests

CLASSES = ("banded", "dotted", "woven")
COUNTS = {"train": 3, "val": 2, "test": 4}  # images per class


@pytest.fixture(autouse=True)
def changes_are_seen_at_once(tmp_path, monkeypatch):
    """Files that were written a moment ago are read again at every look."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED", 10**12)


@pytest.fixture
def root(tmp_path):
    """A data root with a small DTD: pictures of three classes, all different."""
    folder, number = tmp_path / "data/dtd", 0
    split = {part: [] for part in COUNTS}
    for label, name in enumerate(CLASSES):
        (folder / "images" / name).mkdir(parents=True)
        for part, count in COUNTS.items():
            for index in range(count):
                number += 1
                path = f"{name}/{part}_{index}.png"
                Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / "images" / path)
                split[part].append([path, label, name])
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    return tmp_path / "data"
