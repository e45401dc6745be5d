"""Data folders made from the worked examples in tests/fixtures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

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
            WRITERS[entry["kind"]](path, entry)
        return tmp_path

    return write


def save_image(path, entry):
    Image.new("RGB", entry["size"], tuple(entry["color"])).save(path, format="JPEG")


def save_flower_labels(path, entry):
    savemat(path, {"labels": np.array([entry["labels"]], dtype=np.uint8)})


def save_car_annotations(path, entry):
    kind = [("class", object), ("fname", object)]
    rows = [(np.array([[item["class"]]]), item["fname"]) for item in entry["annotations"]]
    savemat(path, {"annotations": np.array([rows], dtype=kind)})


def save_car_names(path, entry):
    savemat(path, {"class_names": np.array([entry["class_names"]], dtype=object)})


WRITERS = {
    "image": save_image,
    "text": lambda path, entry: path.write_text(entry["content"], encoding="utf-8"),
    "json": lambda path, entry: path.write_text(json.dumps(entry["value"], indent=4), encoding="utf-8"),
    "mat_flower_labels": save_flower_labels,
    "mat_car_annotations": save_car_annotations,
    "mat_car_meta": save_car_names,
}


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
