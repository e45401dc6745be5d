"""A data set file dropped into datasets/ is known everywhere; the example of CONTRIBUTING.md ships one."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # every command is a process of its own

PROJECT = Path(__file__).parents[2]
# As such files are written for CoOp: everything happens in the constructor, which also writes files.
MY_PHOTOS = """
import os

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum

from .oxford_pets import OxfordPets


@DATASET_REGISTRY.register()
class MyPhotos(DatasetBase):
    dataset_dir = "my_photos"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.image_dir = os.path.join(self.dataset_dir, "pictures")
        os.makedirs(os.path.join(self.dataset_dir, "split_fewshot"), exist_ok=True)
        train, test = [], []
        for label, name in enumerate(sorted(os.listdir(self.image_dir))):
            for number, file in enumerate(sorted(os.listdir(os.path.join(self.image_dir, name)))):
                item = Datum(os.path.join(self.image_dir, name, file), label, classname=name)
                (test if number % 3 == 0 else train).append(item)
        train = self.generate_fewshot_dataset(train, num_shots=cfg.DATASET.NUM_SHOTS)
        train, test = OxfordPets.subsample_classes(train, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=train, val=test, test=test)
"""
COUNTS = {"blue fish": 6, "green star": 9, "red house": 6, "white tree": 6}


@pytest.fixture
def copy(tmp_path, demo_root):
    """Run commands in a copy of the project, on its own photos and the embedded data."""
    project = tmp_path / "project"
    folders = ("clipfit", "configs", "dassl", "datasets", "grid", "launch", "paper", "papers", "report")
    for name in (*folders, "trainers"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "reproduce.py", "CONTRIBUTING.md", "DATASETS.md"):
        shutil.copy(PROJECT / name, project)
    (project / "data").symlink_to(demo_root)

    def run(*words, cwd=project, status=0):
        done = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    run.project, run.data = project, demo_root
    return run


@pytest.fixture
def photos(copy):
    """Drop the file in, and lay out its folder; returns the copy."""
    (copy.project / "datasets/myphotos.py").write_text(MY_PHOTOS)
    for label, (name, count) in enumerate(COUNTS.items()):
        folder = copy.data / "my_photos/pictures" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (48, 48), (60 * label, 20 * number, 90)).save(folder / f"{number}.png")
    yield copy
    shutil.rmtree(copy.data / "my_photos")


def test_the_doctor_says_what_the_class_makes_of_its_folder(photos):
    said = photos("-m", "datasets.doctor", "myphotos")
    for line in (
        f"MyPhotos, {photos.project}/data/my_photos",
        "all below",
        "18 images, 4 to 6 of a class",
        "test            9 images, 2 to 3 of a class",
        "4, blue fish to white tree",
        "written         by the class of datasets/myphotos.py: split_fewshot",
        "all is well",
    ):
        assert line in said
    assert "val  " not in said  # it is the test list
    assert "myphotos" in photos("-m", "datasets.doctor", "--help")
    assert "did you mean 'myphotos'" in photos("-m", "datasets.doctor", "myphoto", status=1)

    code = MY_PHOTOS.replace("train, test = [], []", "train, test = {}['train'], []")
    (photos.project / "datasets/myphotos.py").write_text(code)
    said = photos("-m", "datasets.doctor", "myphotos", status=1)
    line = 1 + next(n for n, text in enumerate(code.splitlines()) if "{}['train']" in text)
    assert f"MyPhotos: KeyError in datasets/myphotos.py, line {line}: a lookup of 'train' failed" in said

    (photos.project / "datasets/myphotos.py").write_text(MY_PHOTOS)
    (photos.data / "my_photos/pictures").rename(photos.data / "my_photos/photos")
    said = photos("-m", "datasets.doctor", "MyPhotos", status=1)
    assert "MyPhotos: [Errno 2] No such file or directory" in said
    assert f"datasets/myphotos.py says what belongs into {photos.project}/data/my_photos" in said


def test_prepare_says_what_is_not_known_and_where_the_pictures_go(photos):
    said = photos("-m", "datasets.prepare", "myphotos", "--root", "nowhere", status=1)
    assert "nothing is known of where MyPhotos comes from" in said
    assert f"{photos.project}/nowhere/my_photos\nas datasets/myphotos.py reads them" in said


def test_it_trains_from_any_folder_with_the_plain_template(photos, tmp_path):
    words = ("--trainer", "ZeroshotCLIP", "--dataset", "myphotos", "--protocol", "base2new", "--seed", 1)
    photos(photos.project / "train.py", *words, "--root", photos.data, "--backbone", "demo", cwd=tmp_path)
    folder = tmp_path / "output/base2new/train_base/myphotos/shots_16/ZeroshotCLIP/demo/seed1"
    result = json.loads((folder / "result.json").read_text())
    assert (result["dataset"], result["dataset_file"]) == ("MyPhotos", "myphotos")
    assert (result["template"], result["num_classes"]) == ("a photo of a {}.", 2)


def test_its_tables_stand_beside_those_of_the_embedded_data(photos):
    (photos.project / "configs/datasets/myphotos.yaml").write_text(
        "_BASE_: ../_base_/demo.yaml\nDATASET: {NAME: MyPhotos}\n"
    )
    words = ("table1", "--methods", "ZeroshotCLIP", "CLIPAdapter", "--seeds", 1)
    planned = photos("reproduce.py", "plan", *words, "--datasets", "own", "demo_signs", "--commands")
    assert len(planned.splitlines()) == 8 and "--dataset myphotos " in planned

    photos(
        "reproduce.py", "run", *words[:3], "--seeds", 1, "--datasets", "myphotos", "demo_signs", "--jobs", 1
    )
    tables = photos.project / "output/report/tables"
    for name, dataset, data in (("own", "myphotos", "own"), ("embedded", "demo_signs", "embedded")):
        with open(tables / f"table1-{name}.csv", newline="", encoding="utf-8") as file:
            cells = list(csv.DictReader(file))
        assert {cell["row_group"] for cell in cells} == {dataset, "cost"}
        assert all(cell["mean"] for cell in cells if cell["row_group"] == dataset)
        assert not any(cell["printed"] for cell in cells)
        assert {cell["data"] for cell in cells} == {data}
    assert "did you mean 'myphotos'" in photos("reproduce.py", "plan", "--datasets", "myphoto", status=1)

    before = (tables / "table1-own.csv").read_bytes()
    (photos.project / "datasets/myphotos.py").unlink()
    said = photos("reproduce.py", "run", *words[:3], "--seeds", 1, "--datasets", "myphotos", "--jobs", 1)
    assert "2 runs, 0 to do" in said
    assert (tables / "table1-own.csv").read_bytes() == before


def test_the_models_of_a_source_are_tested_on_it(photos):
    words = ("table9", "--datasets", "demo_signs", "myphotos", "--seeds", 1, "--methods")
    planned = photos("reproduce.py", "plan", *words, "CLIPFit")
    for line in (
        "cross_dataset/test/myphotos/shots_16/CLIPFit/demo-",
        "cross_dataset/train/demo/shots_16/CLIPFit/demo/seed1",
        "--dataset myphotos ",
        "RUN.SOURCE demo MODEL.BACKBONE.NAME demo",
    ):
        assert line in planned
    assert "nothing of table9 is selected" in photos(
        "reproduce.py", "plan", "table9", "--datasets", "myphotos", status=1
    )
    said = photos("reproduce.py", "run", *words, "ZeroshotCLIP2", "--jobs", 1)
    assert "tested with its models: myphotos" in said
    with open(photos.project / "output/report/tables/table9-embedded.csv", encoding="utf-8") as file:
        means = {cell["row"]: cell["mean"] for cell in csv.DictReader(file)}
    assert means["demo_signs"] and means["myphotos"]

    shift = ("--protocol", "domain_shift", "--seed", 1, "--root", photos.data, "--trainer", "CLIPFit")
    few = ("few_shot", "--seed", 1, "--root", photos.data, "--trainer", "CLIPFit", "--dataset", "demo")
    fast = ("--shots", 1, "OPTIM.MAX_EPOCH", 1)
    photos("train.py", "--protocol", *few, *fast)
    setting = ("--dataset", "myphotos", "--backbone", "demo", "--eval-only", *fast, "RUN.SOURCE", "demo")
    said = photos("train.py", *shift, *setting, status=1)
    assert "tests on other images of the classes trained on, but 4 of the 4 classes of MyPhotos" in said


def test_the_example_of_contributing_ships_a_data_set(copy, tmp_path):
    text = (copy.project / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text[text.index("## A new data set\n") : text.index("## A new protocol\n")]
    blocks = [block for _, block in re.findall(r"^(`{3,})\w*\n(.*?)^\1$", section, re.DOTALL | re.MULTILINE)]
    paths = ("datasets/birds.py", "datasets/birds.yaml", "configs/datasets/birds.yaml")
    test = "tests/datasets/test_birds.py"
    assert re.findall(r"`([\w/]+/birds\.\w+|\S+test_birds\.py)`", section) == [*paths, test]
    shutil.copytree(PROJECT / "tests", copy.project / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for path, block in zip((*paths, test), blocks, strict=False):
        (copy.project / path).write_text(block, encoding="utf-8")
    row, template, described = blocks[4:]
    document = (copy.project / "DATASETS.md").read_text(encoding="utf-8")
    for line, new in (("| `demo`, ", row), ("| all others |", template)):
        document = document.replace(f"\n{line}", f"\n{new}{line}")
    (copy.project / "DATASETS.md").write_text(f"{document}\n{described}", encoding="utf-8")

    copy("-m", "pytest", "-q", "-p", "no:cacheprovider", test, "tests/datasets/test_datasets_md.py")
    said = copy("-m", "datasets.doctor", "birds", "--root", tmp_path, status=1)
    assert f"python -m datasets.prepare birds --root {tmp_path}" in said
    planned = copy(
        "reproduce.py", "plan", "table1", "--datasets", "birds", "--methods", "CLIPFit", "--seeds", 1
    )
    assert "base2new/train_base/birds/shots_16/CLIPFit/vit_b16/seed1" in planned
