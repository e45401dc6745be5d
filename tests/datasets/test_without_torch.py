"""Lists of images are made without torch, which takes seconds to import, and without scipy."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).parents[2]
BUILD = """
import sys
import datasets
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset

for name, root in zip(sys.argv[1::2], sys.argv[2::2]):
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.SEED = name, root, 1, 1
    print(name, len(build_dataset(cfg).train_x))
print("imported:", sorted({"torch", "torchvision", "scipy"} & set(sys.modules)))
"""


def test_data_sets_are_listed_without_torch_and_scipy(tmp_path, demo_root):
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(("banded", "woven")):
        for part in split:
            path = tmp_path / "dtd/images" / name / f"{part}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path)
            split[part].append([f"{name}/{part}.jpg", label, name])
    (tmp_path / "dtd/split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    for part in ("train", "val"):
        (tmp_path / f"imagenet/images/{part}/n01").mkdir(parents=True)
        (tmp_path / f"imagenet/images/{part}/n01/1.JPEG").touch()
    (tmp_path / "imagenet/classnames.txt").write_text("n01 tench\n")

    words = ["Demo", demo_root, "DescribableTextures", tmp_path, "ImageNet", tmp_path]
    out = subprocess.run(
        [sys.executable, "-c", BUILD, *map(str, words)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Demo 20\n" in out and "DescribableTextures 2\n" in out and "ImageNet 1\n" in out
    assert out.endswith("imported: []\n")


def test_the_package_of_loaders_offers_what_it_did():
    from dassl import data
    from dassl.data import DataManager, DatasetWrapper, build_data_loader, data_manager

    assert (DataManager, DatasetWrapper, build_data_loader) == (
        data_manager.DataManager,
        data_manager.DatasetWrapper,
        data_manager.build_data_loader,
    )
    assert set(data.__all__) == {"DataManager", "DatasetWrapper", "build_data_loader"}
