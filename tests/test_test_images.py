"""A run that only tests needs the images that it tests on, and no others."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset

PROJECT = Path(__file__).parent.parent
PARTS = {"train": 3, "val": 1, "test": 4}  # images per class


def config(name, root, test_only=True):
    import datasets  # noqa: F401 - every file there registers itself

    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.VERBOSE, cfg.SEED = name, str(root), False, 1
    cfg.RUN.TEST_ONLY = test_only
    return cfg


@pytest.fixture
def pictures(demo_root):
    """(part, class name, file) of some of the demo's pictures."""
    images = Path(build_dataset(config("Demo", demo_root)).image_dir)
    found = []
    for folder in sorted(images.iterdir())[:3]:
        files = iter(sorted(folder.iterdir()))
        found += [(part, folder.name, next(files)) for part, count in PARTS.items() for _ in range(count)]
    return found


@pytest.fixture
def dtd(pictures, tmp_path):
    """DTD whose images lie in a folder for each part, with the split file."""
    folder, split = tmp_path / "data/dtd", {part: [] for part in PARTS}
    labels = {name: label for label, name in enumerate(dict.fromkeys(name for _, name, _ in pictures))}
    for part, name, file in pictures:
        target = folder / "images" / part / name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        split[part].append([f"{part}/{name}/{file.name}", labels[name], name.replace("_", " ")])
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    return folder


@pytest.fixture
def run_dtd(run_train, dtd):
    """Run train.py on it with a method; pairs come last."""

    def run(trainer, output, *words):
        given = ["--root", dtd.parent, "--trainer", trainer, "--backbone", "demo", "--seed", 1]
        given += ["--output-dir", output, *words, "OPTIM.MAX_EPOCH", 1, "VERBOSE", "False"]
        return run_train(*given, "DATALOADER.NUM_WORKERS", 0, dataset="dtd")

    return run


def test_with_the_test_images_alone_a_model_is_tested_and_nothing_is_trained(run_dtd, dtd, result):
    assert run_dtd("CLIPFit", "trained") is None
    shutil.rmtree(dtd / "images/train")
    shutil.rmtree(dtd / "images/val")

    assert run_dtd("CLIPFit", "tested", "--eval-only", "--model-dir", "trained") is None
    trained, tested = result("trained"), result("tested")
    assert (tested["accuracy"], tested["total"]) == (trained["accuracy"], 12)
    assert run_dtd("ZeroshotCLIP", "zero-shot") is None
    assert result("zero-shot")["total"] == 12

    assert "12 of 24 images do not exist" in run_dtd("CLIPFit", "again")
    message = run_dtd("CLIPFit", "on-val", "--eval-only", "--model-dir", "trained", "TEST.SPLIT", "val")
    assert "3 of 3 images do not exist" in message and "images/val" in message


def test_a_test_on_missing_test_images_names_them(run_dtd, dtd):
    shutil.rmtree(dtd / "images/test")
    message = run_dtd("ZeroshotCLIP", "zero-shot")
    assert "12 of 12 images do not exist" in message and "--root" in message


def test_a_zero_shot_run_of_a_version_that_read_all_images_is_still_finished(run_dtd, result, capsys):
    assert run_dtd("ZeroshotCLIP", "old") is None
    done = result("old")
    assert done["inputs"]["lists"]["train"] is done["inputs"]["lists"]["val"] is None
    done["inputs"]["lists"] |= {part: {"images": 3, "digest": "0" * 64} for part in ("train", "val")}
    done["inputs"] |= {"train_images": "0" * 64, "by_content": 9, "test_images": "0" * 64}
    text = json.dumps(done)
    Path("old/result.json").write_text(text)
    capsys.readouterr()
    assert run_dtd("ZeroshotCLIP", "old") is None
    assert f"* accuracy: {done['accuracy']:.2f}%" in capsys.readouterr().out
    assert Path("old/result.json").read_text() == text


def test_folders_of_other_images_are_not_looked_at(dtd, monkeypatch):
    seen, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path=".": [seen.append(str(path)), listdir(path)][1])
    build_dataset(config("DescribableTextures", dtd.parent))
    assert {Path(path).parent.name for path in seen} == {"test"}
    build_dataset(config("DescribableTextures", dtd.parent, test_only=False))
    assert {Path(path).parent.name for path in seen} == set(PARTS)


def test_imagenet_is_tested_with_its_validation_folders_alone(pictures, tmp_path):
    folder = tmp_path / "imagenet"
    for part, name, file in pictures:
        if part != "val":
            target = folder / "images" / {"test": "val"}.get(part, part) / f"n-{name}" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    names = dict.fromkeys(name for _, name, _ in pictures)
    (folder / "classnames.txt").write_text("".join(f"n-{name} {name}\n" for name in names))

    whole = build_dataset(config("ImageNet", tmp_path, test_only=False))
    shutil.rmtree(folder / "images/train")
    dataset = build_dataset(config("ImageNet", tmp_path))
    assert dataset.lab2cname == whole.lab2cname and len(dataset.test) == 12
    assert [(i.impath, i.label) for i in dataset.test] == [(i.impath, i.label) for i in whole.test]

    halves = config("ImageNet", tmp_path)
    halves.DATASET.SUBSAMPLE_CLASSES, halves.DATASET.NUM_SHOTS = "new", 1
    new = build_dataset(halves)
    assert list(new.lab2cname.values()) == [list(names)[2]] and len(new.test) == 4
    with pytest.raises(FileNotFoundError, match="images/train does not exist"):
        build_dataset(config("ImageNet", tmp_path, test_only=False))


def test_a_split_that_was_made_here_is_not_compared_with_a_folder_that_a_test_needs_not(
    run_train, pictures, tmp_path, capsys
):
    for _, name, file in pictures:
        target = tmp_path / "data/dtd/images" / name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    words = ["--root", tmp_path / "data", "--trainer", "ZeroshotCLIP", "--backbone", "demo", "--seed", 1]
    assert run_train(*words, "--output-dir", "one", dataset="dtd") is None
    split = json.loads((tmp_path / "data/dtd/split_zhou_DescribableTextures.json").read_text())
    for path, *_ in split["train"]:
        (tmp_path / "data/dtd/images" / path).unlink()
    capsys.readouterr()
    assert run_train(*words, "--output-dir", "two", dataset="dtd") is None
    assert "have it made anew" not in "".join(capsys.readouterr())


def test_a_data_set_of_a_plugin_is_tested_so_too(pictures, tmp_path):
    gone = [Datum(str(tmp_path / "gone.png"), 0, 0, "one")]
    there = [Datum(str(file), 0, 0, "one") for _, _, file in pictures]

    @DATASET_REGISTRY.register()
    class OnlyItsTestImages(DatasetBase):
        def __init__(self, cfg):
            super().__init__(train_x=gone, val=gone, test=there)

    try:
        assert build_dataset(config("OnlyItsTestImages", tmp_path)).test is there
        with pytest.raises(FileNotFoundError, match="gone.png"):
            build_dataset(config("OnlyItsTestImages", tmp_path, test_only=False))
    finally:
        del DATASET_REGISTRY._objects["OnlyItsTestImages"]
