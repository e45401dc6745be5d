"""Data folders made from the worked examples in tests/fixtures."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dassl.config import get_cfg_default

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture
def example():
    """Read a worked example by name."""
    return lambda name: json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def lay_out(tmp_path):
    """Write the files of a worked example below tmp_path and return that folder."""

    def write(example):
        for entry in example["files"]:
            path = tmp_path / entry["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry["kind"] == "image":
                Image.new("RGB", entry["size"], tuple(entry["color"])).save(path)
            else:
                path.write_text(json.dumps(entry["value"], indent=4), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def config():
    """A config for the data below `root`."""

    def make(root, shots=-1, seed=1, subsample="all", fewshot_list=""):
        cfg = get_cfg_default()
        cfg.DATASET.ROOT = str(root)
        cfg.DATASET.NUM_SHOTS = shots
        cfg.DATASET.SUBSAMPLE_CLASSES = subsample
        cfg.DATASET.FEWSHOT_LIST = str(fewshot_list)
        cfg.SEED = seed
        return cfg

    return make


@pytest.fixture
def entries():
    """Lists of Datum as [path below root, label, name], the form of the worked examples."""
    return lambda root, items: [
        [Path(item.impath).relative_to(root).as_posix(), item.label, item.classname] for item in items
    ]
