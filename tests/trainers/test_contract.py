"""What holds for every trainer in trainers/ that is built on CLIPTrainer: a new one is tested unedited."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dassl.data import data_manager
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint, stop_signals
from launch.registered import methods
from tests.trainers.conftest import own_contract
from tests.trainers.plain import record_training
from trainers.averages import LAST
from trainers.base import CLIPTrainer

METHODS = [name for name in methods() if issubclass(TRAINER_REGISTRY.get(name), CLIPTrainer)]
TRAINED = [name for name in METHODS if TRAINER_REGISTRY.get(name).trains]
WITHOUT_UPDATE = ["ZeroshotCLIP", "ZeroshotCLIP2", "TipAdapter", "ProLIP"]  # +UL has no meaning for them
FEW = ("DATASET.NUM_SHOTS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 10)  # two batches from ten classes
AUGMENTED = "('random_resized_crop', 'random_flip', 'normalize')"


@pytest.fixture
def small(build, small_clip):
    """Build a method on the small CLIP."""
    return lambda method, *words, **more: build(method, f"--backbone={small_clip}", *words, **more)


def node(method):
    return f"TRAINER.{TRAINER_REGISTRY.get(method)._node()}"


def step(trainer):
    """One training step on the first batch; returns the summary."""
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
    trainer.set_model_mode("train")
    return trainer.forward_backward(next(iter(trainer.train_loader_x)))


def snapshot(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def moved(trainer, before):
    return {name for name, p in snapshot(trainer).items() if not torch.equal(p, before[name])}


# Training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", TRAINED)
def test_one_step_moves_only_what_the_method_trains(method, small):
    trainer = small(method, *FEW)
    before = snapshot(trainer)
    step(trainer)
    assert moved(trainer, before) == set(trainer.trained_parameters())


class OuterProducts(TorchDispatchMode):
    """Notes every batched matrix product, forward or backward, whose factors are a column and a row."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("bmm", "baddbmm") and args[-1].shape[1] == 1:
            self.found.append((name, *(tuple(factor.shape) for factor in args[-2:])))
        return func(*args, **(kwargs or {}))


def test_the_gradient_of_a_batch_of_rows_is_noticed_as_outer_products():
    row, matrix = torch.ones(2, 1, 3, requires_grad=True), torch.ones(2, 3, 4, requires_grad=True)
    with OuterProducts() as products:
        (row @ matrix).sum().backward()
    assert products.found == [("bmm", (2, 3, 1), (2, 1, 4))]


@pytest.mark.parametrize("batch_size", [10, 1])
@pytest.mark.parametrize("method", TRAINED)
def test_no_step_needs_a_compiler(method, batch_size, small):
    """On a GPU torch 2.14 compiles its kernel for a batch of outer products when it meets the first one."""
    trainer = small(method, *FEW, "DATALOADER.TRAIN_X.BATCH_SIZE", batch_size)
    with OuterProducts() as products:
        step(trainer)
    assert products.found == []


@pytest.mark.parametrize("method", METHODS)
def test_no_method_reads_a_test_image_before_its_test(method, small, monkeypatch):
    read, original = set(), data_manager.read_image

    def recording(path, **options):
        read.add(path)
        return original(path, **options)

    monkeypatch.setattr(data_manager, "read_image", recording)
    trainer = small(method, *FEW, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
    trainer.train()
    dataset = trainer.dm.dataset
    training, test = ({item.impath for item in items} for items in (dataset.train_x, dataset.test))
    assert read.isdisjoint(test)
    assert training <= read if method in TRAINED else not read


@pytest.mark.parametrize("method", TRAINED)
def test_half_precision_starts_from_the_same_loss_and_trains(method, small, tmp_path):
    first = {}
    for precision, dtype in (("fp32", "fp16"), ("fp16", "fp16"), ("amp", "fp16"), ("amp", "bf16")):
        trainer = small(
            *(method, *FEW, f"--output-dir={tmp_path / precision / dtype}", "OPTIM.MAX_EPOCH", 2),
            *(f"{node(method)}.PREC", precision, "TRAINER.AMP_DTYPE", dtype, "TEST.NO_TEST", True),
        )
        before = snapshot(trainer)
        summary = record_training(trainer)[1][0]
        first[precision, dtype] = [value for name, value in summary.items() if "loss" in name]
        trained = trainer.trained_parameters().values()
        assert all(p.isfinite().all() for p in trained) and moved(trainer, before)
        assert precision == "fp16" or {p.dtype for p in trained} == {torch.float32}
    expected = first.pop(("fp32", "fp16"))
    for (_, dtype), losses in first.items():
        assert losses == pytest.approx(expected, rel=0.03 if dtype == "bf16" else 0.02)


SHORT = ["OPTIM.MAX_EPOCH", 10, "DATASET.NUM_SHOTS", 8]  # unless the method's contract says otherwise
LEFT = 0.8  # of the first epoch's loss in the last one, at most


@pytest.mark.parametrize("method", TRAINED)
def test_a_short_run_on_the_demo_learns_and_carries_over_to_new_classes(method, build, result, tmp_path):
    zero_shot = build("ZeroshotCLIP").test()
    short = [*SHORT, *own_contract(method)]
    trainer = build(method, *short, transforms=AUGMENTED)
    losses = [summary["loss"] for summary in record_training(trainer)[1]]
    steps = len(losses) // trainer.max_epoch
    assert sum(losses[-steps:]) < LEFT * sum(losses[:steps])
    assert result(trainer.output_dir)["accuracy"] > zero_shot + 5
    if not trainer.new_classes:
        return
    new = build(method, "--eval-only", *short)  # the other half of the classes
    new.load_model(tmp_path / "run")
    assert new.classnames != trainer.classnames
    assert all(torch.equal(p, trainer.trained_parameters()[n]) for n, p in new.trained_parameters().items())
    assert new.test() > 30  # of ten classes


# Files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", TRAINED)
def test_the_checkpoint_holds_the_trained_names_and_no_others(method, small, tmp_path):
    trainer = small(method, *FEW)
    step(trainer)
    trainer.save_model(0, tmp_path)
    saved = load_checkpoint(tmp_path / trainer.registered_name / "model.pth.tar-1")["state_dict"]
    assert {name.removeprefix(LAST) for name in saved} == {*trainer.trained_parameters(), *trainer.also_saved}

    fresh = small(method, *FEW)
    fresh.load_model(tmp_path, epoch=1)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in fresh.saved_tensors().items())


@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize("method", TRAINED)
def test_an_interrupted_run_goes_on_in_the_same_bits(method, precision, small, tmp_path, monkeypatch):
    def make(folder):
        trainer = small(
            *(method, *FEW, f"--output-dir={tmp_path / folder}", f"{node(method)}.PREC", precision),
            *("OPTIM.MAX_EPOCH", 3, "TEST.NO_TEST", True),
            transforms=AUGMENTED,
        )
        trainer.resume_interval = 0.0
        return trainer

    undisturbed = make("undisturbed")
    undisturbed.train()

    stopped = make("interrupted")  # in the first epoch, where hooks may prepare a training from scratch
    step_of_stopped = stopped.forward_backward

    def signal_in_the_first_step(batch):
        stop_signals._request = "SIGTERM", 0.0
        return step_of_stopped(batch)

    stopped.forward_backward = signal_in_the_first_step
    with monkeypatch.context() as patch, pytest.raises(stop_signals.Stopped):
        patch.setattr(stop_signals, "_request", None)
        stopped.train()

    interrupted = make("interrupted")
    original = interrupted.forward_backward

    def stop_in_the_third_epoch(batch):
        if interrupted.epoch == 2 and interrupted.batch_idx == 1:
            raise KeyboardInterrupt
        return original(batch)

    interrupted.forward_backward = stop_in_the_third_epoch
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    resumed = make("interrupted")
    resumed.train()

    assert resumed.start_epoch == 2
    for name, tensor in undisturbed.saved_tensors().items():
        assert torch.equal(tensor, resumed.saved_tensors()[name])
    metrics = [
        Path(tmp_path, folder, "metrics.jsonl").read_text() for folder in ("undisturbed", "interrupted")
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("method", ["CLIPFit", "KgCoOp", "ProGrad"])
def test_an_evaluation_builds_no_teacher(method, small):
    assert hasattr(small(method), "w0") and not hasattr(small(method, "--eval-only"), "w0")


# Settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name in TRAINED if name not in WITHOUT_UPDATE])
def test_layernorm_updating_adds_the_image_encoders_norms_and_all_train(method, small):
    plain = ["TRAINER.CLIPFIT.UNFREEZE", "['text.ffn_proj_bias']"] if method == "CLIPFit" else []
    without = small(method, *FEW, *plain).trained_parameters()
    trainer = small(method, *FEW, *plain, "TRAINER.UPDATE_LAYERNORM", True)
    norms = {
        f"image_encoder.{name}.{kind}"
        for name, module in trainer.clip.image_encoder.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
        for kind in ("weight", "bias")
    }
    assert set(trainer.trained_parameters()) == {*without, *norms} and len(norms) == 2 * (2 + 2 * 3)
    before = snapshot(trainer)
    step(trainer)
    assert moved(trainer, before) == set(trainer.trained_parameters())


@pytest.mark.parametrize("method", WITHOUT_UPDATE)
def test_layernorm_updating_is_refused_where_it_has_no_meaning(method, small):
    with pytest.raises(ValueError, match="UPDATE_LAYERNORM: .* choose another --trainer"):
        small(method, "TRAINER.UPDATE_LAYERNORM", True)


@pytest.mark.parametrize("method", METHODS)
def test_a_template_that_changes_nothing_is_said(method, small, capsys):
    losses, notes = [], []
    for template in ("a photo of a {}.", "one bright {}."):
        trainer = small(method, *FEW, "DATASET.PROMPT_TEMPLATE", template)
        batch = next(iter(trainer.train_loader_x))
        losses.append(trainer.loss(batch["img"], batch["label"])[0].item())
        notes.append("does not read DATASET.PROMPT_TEMPLATE" in capsys.readouterr().out)
    changes_nothing = losses[0] == losses[1]
    assert notes == [changes_nothing, changes_nothing]


def test_a_class_name_that_does_not_fit_the_context_is_named(small):
    with pytest.raises(ValueError, match="striped red star.*77"):
        small("CLIPFit", "DATASET.PROMPT_TEMPLATE", "photo " * 80 + "of {}")


# Results --------------------------------------------------------------------------------------------


def test_the_result_states_precision_and_template(small, small_clip, result):
    trainer = small("CLIPFit", "TRAINER.CLIPFIT.PREC", "amp", "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    record = result(trainer.output_dir)
    assert (record["precision"], record["template"]) == ("amp fp16", "a photo of a {}.")
    assert record["trainable_params"] == 1216 and record["extras"] == []
    assert (record["backbone"], record["epoch"], record["max_epoch"]) == (str(small_clip), 1, 1)
    assert json.loads(Path(trainer.output_dir, "environment.json").read_text())["packages"]["torch"]


@pytest.mark.parametrize("own, extras", [(True, ["val epoch"]), (False, ["test epoch"])])
def test_the_result_says_on_which_images_the_epoch_was_chosen(own, extras, small, result):
    trainer = small("CLIPFit", "OPTIM.MAX_EPOCH", 1, "TEST.FINAL_MODEL", "best_val")
    if not own:  # as on ImageNet
        trainer.dm.dataset._val = trainer.dm.dataset.test
    trainer.train()
    assert result(trainer.output_dir)["extras"] == extras
