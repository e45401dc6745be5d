"""TRAIN.CUDA_GRAPH without a GPU: who may have it, and that a repeated pass is a step. None is recorded."""

import copy
import json

import pytest
import torch

from trainers import graph
from trainers.base import CLIPTrainer
from trainers.graph import GraphedStep, RecordedPass, why_no_graph

STATIC = ["CLIPFit", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MaPLe", "CLIPAdapter", "TipAdapter"]


@pytest.fixture
def make(build, small_clip):
    def _make(method, *words):
        pairs = ["OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", True, "DATASET.NUM_SHOTS", 2]
        return build(method, f"--backbone={small_clip}", *pairs, *words)

    return _make


@pytest.fixture
def stand_in(monkeypatch):
    """Repeats a pass by computing it again into the tensors of the first one, as a graph would."""
    repeated = []

    def record(work):
        left = work()

        def repeat():
            repeated.append(True)
            again = work()
            for name, value in left.summary.items():
                value.copy_(again.summary[name])
            pairs = zip(left.losses + left.gradients, again.losses + again.gradients, strict=True)
            for static, fresh in pairs:
                static.copy_(fresh)

        return left, repeat

    monkeypatch.setattr(graph, "record", record)
    monkeypatch.setattr(CLIPTrainer, "why_no_graph", lambda self: "")
    return repeated


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", STATIC)
def test_the_steps_of_these_methods_could_be_a_graph_on_a_gpu(method, make, monkeypatch):
    trainer = make(method)
    assert why_no_graph(trainer, CLIPTrainer) == "runs on a CPU, and graphs are for GPUs"
    monkeypatch.setattr(trainer, "device", torch.device("cuda"))
    assert why_no_graph(trainer, CLIPTrainer) == ""


@pytest.mark.parametrize(
    "method, reason",
    [
        ("CLIPFit", "CLIPFit runs on a CPU, and graphs are for GPUs; leave it False"),
        ("CLIPLoRA", r"CLIPLoRA takes its steps in a way of its own \(forward_backward\)"),
        ("TwoStage", r"TwoStage takes its steps in a way of its own \(forward_backward\)"),
    ],
)
def test_who_cannot_have_a_graph_is_told_before_training(method, reason, make):
    with pytest.raises(ValueError, match=f"TRAIN.CUDA_GRAPH is True, but {reason}"):
        make(method, "TRAIN.CUDA_GRAPH", True).train()


def test_a_feature_store_and_stages_are_no_graph(make, monkeypatch):
    trainer = make("CoOp", "FEATURES.STORE", True)
    assert "FEATURES.STORE" in why_no_graph(trainer, CLIPTrainer)
    trainer = make("CoOp")
    monkeypatch.setattr(type(trainer), "static_steps", False)
    assert why_no_graph(trainer, CLIPTrainer) == "does not compute the same in every step"


@pytest.mark.parametrize("method", ["CLIPFit", "ProGrad", "TipAdapter"])
def test_repeated_passes_train_as_steps_do(method, make, stand_in, tmp_path):
    words = ["DATALOADER.TRAIN_X.BATCH_SIZE", 4, "DATALOADER.TRAIN_X.DROP_LAST", False]
    eager = make(method, *words, f"--output-dir={tmp_path / 'eager'}")
    eager.train()
    assert not stand_in
    graphed = make(method, *words, "TRAIN.CUDA_GRAPH", True, f"--output-dir={tmp_path / 'graphed'}")
    graphed.train()
    assert len(stand_in) >= 5
    assert losses(tmp_path / "graphed") == losses(tmp_path / "eager")
    for name, tensor in eager.saved_tensors().items():
        assert torch.equal(tensor, graphed.saved_tensors()[name])


def test_a_batch_of_another_shape_takes_the_step_without_the_graph(make, stand_in):
    trainer = make("CLIPFit")
    step = GraphedStep(trainer)
    images, labels = torch.randn(4, 3, 48, 48), torch.arange(4)
    for count, expected in ((4, 0), (3, 0), (4, 1), (4, 2), (3, 2), (4, 3)):
        step(images[:count], labels[:count])
        assert len(stand_in) == expected


def test_a_loss_that_is_not_finite_is_noticed_behind_a_graph_too(make, stand_in, monkeypatch, tmp_path):
    trainer = make("CLIPFit", "TRAIN.CUDA_GRAPH", True, "DATALOADER.TRAIN_X.BATCH_SIZE", 4)
    parse, poisoned = trainer.parse_batch_train, []

    def poison(batch):
        images, labels = parse(batch)
        poisoned.append(True)
        return (images * float("nan") if len(poisoned) == 4 else images), labels

    monkeypatch.setattr(trainer, "parse_batch_train", poison)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        trainer.train()
    assert len(losses(tmp_path / "run")) == 3 and len(stand_in) >= 2


def test_a_pass_leaves_the_weights_alone(make):
    trainer = make("CLIPFit")
    before = copy.deepcopy(trainer.model.state_dict())
    step = GraphedStep(trainer)
    step._parameters = list(trainer.trained_parameters().values())
    step._images, step._labels = torch.randn(2, 3, 48, 48), torch.arange(2)
    left = step._pass()
    assert isinstance(left, RecordedPass) and len(left.losses) == 1
    assert all(gradient is not None for gradient in left.gradients)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
