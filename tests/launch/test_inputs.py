"""What a run reads: every change of it changes a digest, and nothing else does."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clipfit.families.openai import DEMO_FILE
from clipfit.io import digests
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.engine.run_files import fewshot_file
from dassl.utils import save_checkpoint, set_random_seed
from launch import inputs as inputs_module
from launch import registered
from launch.arguments import parse_args
from launch.inputs import model_files, read_inputs
from launch.resolve import resolve

PROJECT = Path(__file__).parents[2]
SPLIT = "split_zhou_DescribableTextures.json"
CLASSES = ("banded", "dotted", "woven")
COUNTS = {"train": 3, "val": 2, "test": 4}  # images per class, as conftest.py lays them out


@pytest.fixture(autouse=True)
def digests_are_remembered_at_once(monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", -(10**12))


def config(root, *words, dataset="dtd"):
    yaml = str(PROJECT / f"configs/datasets/{dataset}.yaml")
    flags = ["--dataset-config-file", yaml, "--seed", "1", "--root", str(root), "--trainer", "CLIPFit"]
    return resolve(parse_args([*flags, "--backbone", "demo", *map(str, words)])).cfg


def read(root, *words, **options):
    inputs, missing, *_ = read_inputs(config(root, *words), **options)
    assert missing == []
    return inputs


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def edit_split(root, change):
    path = root / "dtd" / SPLIT
    split = json.loads(path.read_text())
    change(split)
    path.write_text(json.dumps(split))


def changed(before, after):
    return {key for key in before if before[key] != after[key]}


def test_the_digests_are_those_of_the_described_lines(root):
    inputs = read(root)
    split = json.loads((root / "dtd" / SPLIT).read_text())
    images = root / "dtd/images"
    for part, entries in split.items():
        lines = "\n".join("\t".join(map(str, entry)) for entry in entries)
        assert inputs["lists"][part] == {"images": len(entries), "digest": sha256(lines.encode())}
    lines = [f"{path}\t{sha256((images / path).read_bytes())}" for path, _, _ in split["train"]]
    assert inputs["train_images"] == sha256("\n".join(lines).encode())
    assert inputs["by_content"] == len(split["train"])
    lines = []
    for part in ("test", "val"):
        sizes = [f"{path}\t{(images / path).stat().st_size}" for path, _, _ in split[part]]
        first = images / split[part][0][0]
        lines += [f"{sizes[0]}\t{sha256(first.read_bytes())}", *sizes[1:]]
    assert inputs["test_images"] == sha256("\n".join(lines).encode())
    assert inputs["classes"] == sha256(b"0\tbanded\n1\tdotted\n2\twoven")
    assert inputs["backbone"] == sha256(DEMO_FILE.read_bytes())
    assert inputs["model"] is None
    names = ("averages", "base", "clipfit", "fit", "graph")
    paths = [f"trainers/{name}.py" for name in names]
    files = {path: sha256((PROJECT / path).read_bytes()) for path in paths}
    assert inputs["code"] == files


def test_every_hundredth_test_image_counts_by_content(root, monkeypatch):
    monkeypatch.setattr(inputs_module, "SAMPLED", 3)
    before = read(root)
    images = root / "dtd/images"
    for name, expected in (("banded/test_0", True), ("banded/test_1", False), ("banded/test_3", True)):
        path = images / f"{name}.png"
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))
        assert changed(before, read(root)) == ({"test_images"} if expected else set()), name
        path.write_bytes(content)


def test_a_replaced_picture_of_equal_size_is_seen(root):
    before = read(root)
    path = root / "dtd/images/dotted/train_1.png"
    path.write_bytes(bytes(path.stat().st_size))
    assert changed(before, read(root)) == {"train_images"}


def test_a_test_picture_of_another_size_is_seen(root):
    before = read(root)
    with open(root / "dtd/images/dotted/test_1.png", "ab") as file:
        file.write(b"more")
    assert changed(before, read(root)) == {"test_images"}


def rename_a_class(split):
    for entry in (entry for part in split.values() for entry in part if entry[1] == 0):
        entry[2] = "striped"


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda split: split["train"].reverse(), {"lists", "train_images"}),
        (lambda split: split["test"].reverse(), {"lists", "test_images"}),
        (lambda split: split.update(train=split["test"], test=split["train"]), {"lists", "train_images"}),
        (rename_a_class, {"lists", "classes"}),
    ],
    ids=["train reversed", "test reversed", "exchanged", "a class renamed"],
)
def test_another_list_is_seen(root, change, expected):
    before = read(root)
    edit_split(root, change)
    assert expected <= changed(before, read(root)) <= expected | {"test_images", "by_content"}


def test_shots_and_seed_choose_the_images_and_so_does_a_list_by_its_content(root, tmp_path):
    one = read(root, "--shots", 1)
    assert one["lists"]["train"]["images"] == len(CLASSES)
    assert changed(one, read(root, "--shots", 1, "SEED", 2)) >= {"lists", "train_images"}
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(f"{name}/train_0.png" for name in CLASSES))
    before = read(root, "DATASET.FEWSHOT_LIST", listed)
    shutil.copy(listed, tmp_path / "copy.txt")
    assert read(root, "DATASET.FEWSHOT_LIST", tmp_path / "copy.txt") == before
    listed.write_text("\n".join(f"{name}/train_1.png" for name in CLASSES))
    assert {"lists", "train_images"} <= changed(before, read(root, "DATASET.FEWSHOT_LIST", listed))


def test_touched_and_moved_data_are_the_same(root, tmp_path):
    before = read(root)
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    assert read(root) == before
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    shutil.rmtree(root)
    assert read(moved) == before
    assert read(os.path.relpath(moved)) == before


def test_workers_and_threads_are_no_inputs(root):
    assert read(root, "DATALOADER.NUM_WORKERS", 0, "THREADS", 1) == read(root)


def test_beyond_digest_gb_a_training_image_counts_by_size(root):
    sizes = [path.stat().st_size for path in sorted((root / "dtd/images/banded").glob("train_*.png"))]
    few = ("RUN.DIGEST_GB", (sizes[0] + sizes[1]) / 1e9)
    before = read(root, *few)
    assert before["by_content"] == 2
    for name, expected in (("banded/train_1", True), ("dotted/train_1", False)):
        path = root / f"dtd/images/{name}.png"
        path.write_bytes(bytes(path.stat().st_size))
        assert ("train_images" in changed(before, read(root, *few))) is expected
        before = read(root, *few)
    assert read(root, "RUN.DIGEST_GB", 0)["by_content"] == 0


# The backbone


def test_the_backbone_is_known_by_content_and_openais_by_what_is_published(root, tmp_path):
    copy = tmp_path / "my_clip.pt"
    shutil.copy(DEMO_FILE, copy)
    assert read(root, "--backbone", copy) == read(root)
    from clipfit.published import OPENAI_URLS

    for name, url in OPENAI_URLS.items():
        published = read_inputs(config(root, "--backbone", name)).digests["backbone"]
        assert published == url.split("/")[-2], name
    assert read(root, "--backbone", "random:ViT-B/32")["backbone"] is None


# The tested model


def save(folder, name="prompt_learner", epoch=1, value=0.0, best=False, **more):
    state = {"state_dict": {"w": torch.full((2, 3), value)}, "epoch": epoch, "optimizer": None, **more}
    save_checkpoint(state, folder / name, model_name="model-best.pth.tar" if best else "")


def test_the_tested_model_is_the_best_else_the_newest_else_the_one_asked_for(tmp_path):
    save(tmp_path, epoch=2)
    save(tmp_path, epoch=10)
    assert model_files(tmp_path) == {"prompt_learner": tmp_path / "prompt_learner/model.pth.tar-10"}
    save(tmp_path, epoch=3, best=True)
    assert model_files(tmp_path) == {"prompt_learner": tmp_path / "prompt_learner/model-best.pth.tar"}
    assert model_files(tmp_path, epoch=2) == {"prompt_learner": tmp_path / "prompt_learner/model.pth.tar-2"}
    (tmp_path / "tensorboard").mkdir()
    save(tmp_path, name="adapter", epoch=2)
    assert list(model_files(tmp_path, epoch=2)) == ["adapter", "prompt_learner"]
    with pytest.raises(FileNotFoundError, match="epoch 7"):
        model_files(tmp_path, epoch=7)


def test_another_model_in_the_same_place_is_seen_and_a_copy_is_the_same(root, tmp_path):
    model = tmp_path / "model"
    save(model)
    test = ("--eval-only", "--model-dir")
    before = read(root, *test, model)
    content = (model / "prompt_learner/model.pth.tar-1").read_bytes()
    assert before["model"] == sha256(f"prompt_learner\t{sha256(content)}".encode())
    shutil.copytree(model, tmp_path / "copy")
    assert read(root, *test, tmp_path / "copy") == before
    save(model, value=1.0)
    assert changed(before, read(root, *test, model)) == {"model"}


def test_the_tensors_decide_where_the_file_of_a_model_differs(root, tmp_path):
    digests = []
    for number, more in enumerate(({}, {"val_result": 90.0}, {"value": 1.0})):
        save(tmp_path / str(number), **more)
        digests.append(read(root, "--eval-only", "--model-dir", tmp_path / str(number), tensors=True))
    assert digests[0]["model"] != digests[1]["model"]
    assert digests[0]["model_tensors"] == digests[1]["model_tensors"] != digests[2]["model_tensors"]
    lines = b"prompt_learner/w torch.float32 (2, 3)\n" + np.zeros((2, 3), np.float32).tobytes()
    assert digests[0]["model_tensors"] == sha256(lines)


def test_a_test_reads_its_test_images_only(root, tmp_path):
    save(tmp_path / "model")
    test = ("--eval-only", "--model-dir", tmp_path / "model")
    before = read(root, *test)
    assert before["lists"]["train"] is before["lists"]["val"] is before["train_images"] is None
    assert (
        before["lists"]["test"] == read(root)["lists"]["test"] and before["classes"] == read(root)["classes"]
    )
    for name in ("train_0", "val_0"):
        (root / f"dtd/images/banded/{name}.png").write_bytes(b"x")
    assert read(root, *test) == before
    on_val = read(root, *test, "TEST.SPLIT", "val")
    assert on_val["lists"]["test"] is None and on_val["lists"]["val"] == read(root)["lists"]["val"]


# Code


@pytest.fixture
def trainers(tmp_path, monkeypatch):
    """A folder of trainers: ours, and a plugin with its helper."""
    files = {
        "__init__": 'SHIPPED = ("base", "coop")\n',
        "base": "class Base: ...\n",
        "coop": "from .base import Base\n@TRAINER_REGISTRY.register()\nclass CoOp(Base): ...\n",
        "coop_original": "import trainers.helper\nfrom trainers import base\nimport torch\n"
        "@TRAINER_REGISTRY.register()\nclass CoOp(base.Base): ...\n",
        "helper": "def help():\n    from .deep import x\n",
        "deep": "from . import helper\nx = 1\n",
        "other": "from .coop import CoOp\n",
        "clipfit": "@TRAINER_REGISTRY.register()\nclass CLIPFit: ...\n",
    }
    monkeypatch.setattr(registered, "PROJECT", tmp_path)
    folder = tmp_path / "trainers"
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    "name, files",
    [
        ("CoOp", ["base", "coop"]),
        ("CoOp@coop_original", ["base", "coop_original", "deep", "helper"]),
        ("Unknown", []),
    ],
)
def test_the_code_of_a_trainer_is_its_file_and_what_that_imports_from_the_folder(root, trainers, name, files):
    cfg = config(root)
    cfg.TRAINER.NAME = name
    inputs = read_inputs(cfg).digests
    expected = {f"trainers/{file}.py": sha256((trainers / f"{file}.py").read_bytes()) for file in files}
    assert inputs["code"] == expected


# What is not there


@pytest.mark.parametrize(
    "what, keys, reason",
    [
        ("data", {"lists", "classes", "train_images", "test_images"}, "dtd does not exist"),
        ("image", {"lists", "classes", "train_images", "test_images"}, "train_0.png"),
        ("split", {"lists", "classes", "train_images", "test_images"}, "not valid JSON"),
        ("model", {"model"}, "no checkpoint of a model in"),
    ],
)
def test_what_is_missing_is_null_with_a_reason(root, tmp_path, what, keys, reason):
    save(tmp_path / "model")
    words = ("--eval-only", "--model-dir", tmp_path / "model") if what == "model" else ()
    before = read(root, *words)
    if what == "data":
        shutil.rmtree(root / "dtd")
    elif what == "image":
        (root / "dtd/images/banded/train_0.png").unlink()
    elif what == "split":
        (root / "dtd" / SPLIT).write_text("{")
    else:
        shutil.rmtree(tmp_path / "model")
    inputs, missing, *_ = read_inputs(config(root, *words))
    assert keys <= {key for key, value in inputs.items() if value in (None, dict.fromkeys(COUNTS))}
    assert {key for key in before if key not in keys | {"by_content"} and inputs[key] != before[key]} == set()
    assert len(missing) == 1 and reason in missing[0]


# As the run makes them


class DrawnLists(DatasetBase):
    """A data set that draws its lists from the global generators, as those of other repositories do."""

    def __init__(self, cfg):
        images = Path(cfg.DATASET.ROOT) / "dtd/images"
        items = [
            Datum(str(path), label, 0, name)
            for label, name in enumerate(CLASSES)
            for path in sorted((images / name).iterdir())
        ]
        random.shuffle(items)
        order = np.random.permutation(len(items))
        items = [items[index] for index in order]
        super().__init__(train_x=items[:20], test=items[20:])


def test_lists_of_a_data_set_that_draws_globally_are_those_of_the_run(root, monkeypatch):
    monkeypatch.setitem(DATASET_REGISTRY._objects, "DrawnLists", DrawnLists)
    cfg = config(root)
    cfg.DATASET.NAME = "DrawnLists"
    random.seed(99)
    inputs, missing, *_ = read_inputs(cfg)
    assert missing == []
    set_random_seed(cfg.SEED)  # launch/runtime.py
    images = fewshot_file(build_dataset(cfg), cfg)["images"]
    lines = [f"{path}\t{CLASSES.index(Path(path).parent.name)}\t{Path(path).parent.name}" for path in images]
    assert inputs["lists"]["train"] == {"images": 20, "digest": sha256("\n".join(lines).encode())}


def test_inputs_are_read_without_torch_and_say_nothing_on_standard_output(root, tmp_path):
    save(tmp_path / "model")
    code = (
        "import sys\n"
        "from launch.arguments import parse_args\n"
        "from launch.inputs import read_inputs\n"
        "from launch.resolve import resolve\n"
        "inputs, missing, *_ = read_inputs(resolve(parse_args(sys.argv[1:])).cfg)\n"
        "assert inputs['model'] and inputs['test_images'] and not missing, missing\n"
        "print(sorted({'torch', 'torchvision', 'scipy'} & set(sys.modules)))"
    )
    words = [
        "--trainer",
        "CLIPFit",
        "--seed",
        "1",
        "--shots",
        "16",
        "--backbone",
        "demo",
        "--root",
        str(root),
    ]
    words += ["--dataset-config-file", "configs/datasets/dtd.yaml", "--eval-only"]
    out = subprocess.run(
        [sys.executable, "-c", code, *words, "--model-dir", str(tmp_path / "model")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout == "[]\n" and "classes have fewer than" in out.stderr
