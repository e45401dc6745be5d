"""Runs with FEATURES.STORE: the same bits as without, fewer image passes, and nothing shared that differs."""

import json
import sqlite3
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipfit.clip import CLIP
from clipfit.frozen_features import FrozenFeatures, tensors_digest
from clipfit.io.feature_store import DATABASE
from clipfit.io.pictures import evaluation_transform
from dassl.data.transforms.in_bytes import in_two_parts

FROZEN = ["CoOp", "KgCoOp", "ProGrad", "CLIPAdapter", "TipAdapter", "CoCoOp"]
DATASETS = Path(__file__).parents[2] / "configs/datasets"
CLIPS = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
WRITTEN = ("metrics.jsonl", "predictions.jsonl")


@pytest.fixture
def run(run_train, tmp_path, monkeypatch):
    """A short run: what it writes, and how many images it encoded."""
    encode = CLIP.encode_image

    def _run(trainer, folder, *pairs, shots=1, words=()):
        count = []
        monkeypatch.setattr(
            CLIP, "encode_image", lambda self, images: count.append(len(images)) or encode(self, images)
        )
        where = ["--trainer", trainer, "--seed", 1, "--shots", shots, "--output-dir", tmp_path / folder]
        short = ["VERBOSE", "False", "OPTIM.MAX_EPOCH", 1, "THREADS", 1]
        short += ["TRAINER.TIPADAPTER.AUGMENT_EPOCH", 1] if trainer == "TipAdapter" else []
        assert run_train(*where, *words, *short, *pairs) is None
        files = {name: Path(tmp_path, folder, name) for name in WRITTEN}
        return {name: path.read_bytes() for name, path in files.items() if path.exists()}, sum(count)

    return _run


def entries(folder):
    database = sqlite3.connect(folder / DATABASE)
    return {key for (key,) in database.execute("SELECT key FROM features")}


@pytest.mark.slow
@pytest.mark.parametrize("trainer", FROZEN)
def test_with_and_without_the_store_a_run_writes_the_same_bits(trainer, run, tmp_path):
    store = ["FEATURES.STORE", tmp_path / "store"]
    without, all_passes = run(trainer, "without")
    filling, passes = run(trainer, "filling", *store)
    assert filling == without and 0 < passes <= all_passes
    assert run(trainer, "filled", *store) == (without, 0)


@pytest.mark.slow
def test_methods_share_training_views_and_test_features(run, tmp_path):
    store = ["FEATURES.STORE", tmp_path / "store"]
    run("CoOp", "coop", *store)
    for other in ("KgCoOp", "CLIPAdapter"):
        assert run(other, other, *store)[1] == 0


@pytest.mark.slow
def test_a_tower_that_trains_is_neither_kept_nor_found(run, tmp_path):
    for trainer, pairs in {"CLIPFit": [], "CoOp": ["TRAINER.UPDATE_LAYERNORM", True]}.items():
        run(trainer, trainer, "FEATURES.STORE", tmp_path / "store", *pairs)
        assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_what_differs_shares_no_entry(run, run_train, tmp_path):
    store = ["FEATURES.STORE", tmp_path / "store"]
    seen = set()

    def adds(folder, *pairs, **how):
        """Every image of the run is encoded: nothing was found."""
        _, passes = run("ZeroshotCLIP", folder, *store, *pairs, **how)
        tested = json.loads((tmp_path / folder / "result.json").read_text())["total"]
        new = entries(tmp_path / "store") - seen
        seen.update(new)
        return passes == tested and len(new) > 0

    assert adds("all")
    assert not adds("again")
    assert adds("mean", "INPUT.PIXEL_MEAN", [0.5, 0.5, 0.5])
    assert not adds("interpolation", "INPUT.INTERPOLATION", "bilinear")  # of no effect: nothing is resized
    assert adds("precision", "TRAINER.ZEROSHOT.PREC", "amp")
    assert adds("bf16", "TRAINER.ZEROSHOT.PREC", "amp", "TRAINER.AMP_DTYPE", "bf16")
    assert adds("other data", words=["--dataset-config-file", DATASETS / "demo_sketch.yaml"])
    new = "DATASET.SUBSAMPLE_CLASSES", "new"
    assert not adds("new", *new)  # three of the six batches of all classes, picture by picture
    plain, _ = run("ZeroshotCLIP", "new without", *new)
    found, passes = run("ZeroshotCLIP", "new in 50", *store, *new, "DATALOADER.TEST.BATCH_SIZE", 50)
    assert found.keys() == plain.keys() and 0 < passes < 300  # pieces that begin at other pictures are others


def test_two_transforms_of_one_picture_have_two_digests():
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    given = [
        (8, "bilinear", CLIPS),
        (8, "bicubic", CLIPS),
        (8, "bilinear", ([0.5] * 3, [0.5] * 3)),
        (9, "bilinear", CLIPS),
    ]
    parts = [in_two_parts(evaluation_transform((size, size), mode, *norm)) for size, mode, norm in given]
    assert len({one.digest(one.bytes_of(image)[None]) for one in parts}) == len(given)
    turned = parts[0].bytes_of(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert parts[0].digest(turned[None]) != parts[0].digest(parts[0].bytes_of(image)[None])


@pytest.mark.slow
def test_shots_share_only_what_is_equal(run, tmp_path):
    run("CoOp", "four", "FEATURES.STORE", tmp_path / "store", shots=4)
    before = entries(tmp_path / "store")
    _, passes = run("CoOp", "sixteen", "FEATURES.STORE", tmp_path / "store", shots=16)
    assert passes >= 300  # 20 classes, 16 shots, full batches of 32: the training is not that of 4 shots
    assert len(entries(tmp_path / "store") - before) == passes // 32


class Tower(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale), requires_grad=False)
        self.bn = torch.nn.BatchNorm2d(3)


def test_another_tower_and_another_precision_find_nothing(tmp_path):
    images = torch.ones(2, 3)

    def encoded(scale, precision, digests=("batch",), train=False):
        calls = []
        tower = Tower(scale).train(train).requires_grad_(False)
        features = FrozenFeatures(tower, torch.device("cpu"), precision, str(tmp_path), 1e9)
        features.note(images, digests)
        result = features.of(images, lambda x: calls.append(x) or x * scale)
        assert torch.equal(result, images * scale)
        return bool(calls)

    assert encoded(2.0, "fp32") and not encoded(2.0, "fp32")
    assert encoded(3.0, "fp32") and encoded(2.0, "amp fp16") and encoded(2.0, "fp32", digests=("other",))
    assert encoded(2.0, "fp32", digests=None)
    assert encoded(2.0, "fp32", train=True)  # counts statistics of batches


def test_batches_of_any_size_are_made_of_the_same_pieces(tmp_path):
    images, sizes = torch.randn(80, 3), []

    def encode(piece):
        sizes.append(len(piece))
        return piece * 2

    features = FrozenFeatures(
        Tower(1.0).eval().requires_grad_(False), torch.device("cpu"), "fp32", str(tmp_path), 1e9
    )
    features.note(images, ["first", "second", "third"])
    assert torch.equal(features.of(images, encode), images * 2) and sizes == [32, 32, 16]
    smaller = images[:32].clone()
    features.note(smaller, ["first"])
    assert torch.equal(features.of(smaller, encode), images[:32] * 2) and len(sizes) == 3
    assert torch.equal(features.of(images, encode), images * 2) and sizes[3:] == [32, 32, 16]  # not noted


def test_images_other_than_the_noted_ones_are_encoded(tmp_path):
    features = FrozenFeatures(
        Tower(1.0).eval().requires_grad_(False), torch.device("cpu"), "fp32", str(tmp_path), 1e9
    )
    images = torch.ones(2, 3)
    features.note(images, ["batch"])
    features.of(images, lambda x: x)
    assert torch.equal(features.of(images * 2, lambda x: x), images * 2)  # a plugin changed them


def test_the_digest_of_a_tower_is_of_its_names_types_and_bits():
    layer = torch.nn.Linear(2, 2)
    before = tensors_digest(layer)
    assert tensors_digest(layer) == before != tensors_digest(layer.half())
    layer.float().weight.data[0, 0] += 1e-3
    assert tensors_digest(layer) != before
