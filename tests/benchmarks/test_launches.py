"""How much a training step asks of a device, counted on the CPU."""

import argparse

import pytest
import torch

import trainers  # noqa: F401 - registers
from benchmarks import launches
from benchmarks.launches import as_on_a_gpu, counted, counts_of
from dassl.engine import TRAINER_REGISTRY
from launch.registered import shipped_methods

MOST = 1200  # of a CLIPFit step of 100 classes under autocast


def counts(method, tmp_path, precision="bf16", classes=20, **settings):
    """Of a step on `demo`, whose towers have as many blocks as those of ViT-B/16, and so as many launches."""
    args = argparse.Namespace(backbone="demo", classes=classes, images=2, precision=precision, **settings)
    with as_on_a_gpu():
        return counts_of(method, args, tmp_path)


def trained_methods():
    return [name for name in shipped_methods() if TRAINER_REGISTRY.get(name).trains]


def test_a_clipfit_step_of_100_classes_launches_at_most_1200_operations(tmp_path):
    found = counts("CLIPFit", tmp_path, classes=100)
    assert 500 < found.launches.total() <= MOST
    assert found.copies <= 300


def test_casts_of_frozen_weights_and_buckets_would_be_seen(tmp_path, monkeypatch):
    cast_once = counts("CLIPFit", tmp_path).launches["_to_copy"]
    monkeypatch.setattr("clipfit.modules.casts.in_precision", lambda weight, dtype: weight)
    assert counts("CLIPFit", tmp_path).launches["_to_copy"] >= cast_once + 180


@pytest.mark.slow
@pytest.mark.parametrize("method", trained_methods())
def test_no_step_waits_for_the_device(method, tmp_path):
    assert counts(method, tmp_path).waits == {}


@pytest.mark.parametrize("method", ["CLIPFit", "ProGrad"])
def test_under_fp16_a_step_waits_for_the_gradient_scaler_alone(method, tmp_path):
    assert counts(method, tmp_path, precision="fp16").waits == {"_local_scalar_dense": 1}


def test_a_classifier_stage_asks_the_device_nothing_either(tmp_path, monkeypatch):
    monkeypatch.setattr(launches, "PRECISIONS", {"bf16": ["amp", "bf16"]})
    words = ["--backbone", "demo", "TRAINER.TWOSTAGE.PREC", "amp", "TRAINER.TWOSTAGE.SHARE", "0.0"]
    words += ["DATALOADER.TRAIN_X.BATCH_SIZE", "2"]
    trainer = launches.build("TwoStage", 20, tmp_path, [*words, "TRAINER.AMP_DTYPE", "bf16"])
    trainer.stages.go_on()
    assert trainer.head_in_use
    assert launches.count_step(trainer).waits == {}


@pytest.mark.parametrize(
    "work, name",
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: bool((x > 0).all()), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.cpu(), "cpu"),
        (lambda x: x.to("cpu"), "to"),
        (lambda x: x[[0, 1]], "lift_fresh"),
        (lambda x: torch.tensor([1, 2]), "lift_fresh"),
    ],
)
def test_what_waits_for_a_device_is_counted(work, name):
    with counted() as found:
        work(torch.arange(3.0))
    assert found.waits == {name: 1}


def test_a_copy_that_is_under_way_is_no_wait_and_views_are_no_launches():
    x = torch.ones(4, 2)
    with counted() as found:
        late = x.sum().to("cpu", non_blocking=True, copy=True)
        x.view(2, 4).transpose(0, 1)[1:].unbind(0)
        late.item()
    assert found.waits == {} and found.launches == {"sum": 1, "_to_copy": 1}
