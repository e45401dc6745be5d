"""A step in little memory equals that of the whole batch; what a run does when it has less than that."""

import json

import pytest
import torch
import yaml

from clipfit import memory
from clipfit.modules import casts
from clipfit.vision import PIECE
from dassl.engine import TRAINER_REGISTRY

LITTLE, PLENTY = memory.Sizes(rows=60, images=3), memory.Sizes(rows=10_000, images=100)
LOSS, GRADIENT = 1e-6, 3e-5  # relative
IN_PARTS = {
    "CLIPFit": ["TRAINER.CLIPFIT.REGULARIZER", "kd"],
    "CLIPFit mse": ["TRAINER.CLIPFIT.REGULARIZER", "mse"],
    "CoOp": [],
    "KgCoOp": [],
    "ProGrad": [],
    "MaPLe": [],
    "PromptSRC": [],
    "MMRL": [],
    "CLIPAdapter": [],
    "CLIPFit all": ["TRAINER.CLIPFIT.UNFREEZE", "['text.all', 'image.all']"],
}
UL = "TRAINER.UPDATE_LAYERNORM"


@pytest.fixture
def make(build, small_clip):
    """A trainer on batches of eight images."""

    def _make(case, *words):
        pairs = ["DATASET.NUM_SHOTS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 8]
        return build(case.split()[0], f"--backbone={small_clip}", *pairs, *words)

    return _make


def step(trainer, sizes, monkeypatch):
    """Summary, gradients by name, and the image counts that the image tower saw, of a step in such sizes."""
    batch, seen = next(iter(trainer.train_loader_x)), []
    trainer.epoch = trainer.batch_idx = 0
    trainer.num_batches = 2
    hook = trainer.clip.image_encoder.ln_pre.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    with monkeypatch.context() as patch:
        patch.setattr(memory, "sizes", lambda *_: sizes)
        patch.setattr(trainer, "model_update", lambda names=None: None)
        summary = {name: value.item() for name, value in trainer.forward_backward(batch).items()}
    hook.remove()
    return summary, {name: p.grad.clone() for name, p in trainer.trained_parameters().items()}, seen


def same_batches(monkeypatch, trainer):
    batch = next(iter(trainer.train_loader_x))
    monkeypatch.setattr(trainer, "train_loader_x", [batch])
    with torch.no_grad():  # off the values that a training starts from, where gradients may vanish
        generator = torch.Generator().manual_seed(2)
        for parameter in trainer.trained_parameters().values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.1 * parameter.abs().mean().clamp(min=0.1) * noise


@pytest.mark.parametrize("more", [(), (UL, True)], ids=["", "+UL"])
@pytest.mark.parametrize("case", IN_PARTS)
def test_a_step_in_micro_batches_and_chunks_is_that_of_the_whole_batch(case, more, make, monkeypatch):
    trainer = make(case, *IN_PARTS[case], *more)
    same_batches(monkeypatch, trainer)
    whole, gradients, seen = step(trainer, PLENTY, monkeypatch)
    parts, in_parts, pieces = step(trainer, LITTLE, monkeypatch)
    assert max(seen) == 8 and max(pieces) == (3 if trainer.image_tower_learns else 8)
    assert parts == pytest.approx(whole, rel=LOSS)
    assert in_parts.keys() == gradients.keys()
    for name, gradient in in_parts.items():
        assert (gradient - gradients[name]).norm() <= GRADIENT * gradients[name].norm(), name


@pytest.mark.parametrize("method", ["CoCoOp", "TipAdapter"])
def test_methods_whose_loss_is_no_sum_over_images_keep_the_plain_step(method, make, monkeypatch):
    trainer = make(method)
    same_batches(monkeypatch, trainer)
    whole, gradients, _ = step(trainer, PLENTY, monkeypatch)
    parts, in_parts, _ = step(trainer, LITTLE, monkeypatch)
    assert parts == pytest.approx(whole, rel=LOSS)
    for name, gradient in in_parts.items():
        assert (gradient - gradients[name]).norm() <= GRADIENT * gradients[name].norm(), name


@pytest.mark.parametrize("case", ["CLIPFit", "ProGrad", "MaPLe"])
def test_the_gradient_scaler_scales_every_part(case, make, monkeypatch):
    node = {"ProGrad": "COOP"}.get(case, case.upper())
    trainer = make(case, *IN_PARTS[case], UL, True, f"TRAINER.{node}.PREC", "amp")
    same_batches(monkeypatch, trainer)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)  # no gradient overflows
    whole, gradients, _ = step(trainer, PLENTY, monkeypatch)
    parts, in_parts, pieces = step(trainer, LITTLE, monkeypatch)
    assert max(pieces) == 3
    assert parts == pytest.approx(whole, rel=2e-3)
    for name, gradient in in_parts.items():
        assert torch.isfinite(gradient).all(), name
        assert (gradient - gradients[name]).norm() <= 0.03 * gradients[name].norm(), name


@pytest.mark.parametrize("method", ["CLIPFit", "MaPLe"])
def test_images_are_tested_in_pieces_with_the_same_logits(method, make):
    trainer = make(method)
    images = torch.randn(PIECE + 3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    expected = trainer.model_inference(images)
    seen = []
    trainer.clip.image_encoder.ln_pre.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    with torch.no_grad():
        actual = trainer.model_inference(images)
    assert seen == [PIECE, 3]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


# What a run does ----------------------------------------------------------------------------------


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_gpu_that_runs_out_of_memory_goes_on_with_half_the_budget(
    make, small_clip, tmp_path, monkeypatch, capsys
):
    short = ["OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", True]
    undisturbed = make("CLIPFit", *short, f"--output-dir={tmp_path / 'undisturbed'}")
    undisturbed.train()

    trainer = make("CLIPFit", *short, "MODEL.MEMORY_GB", 0.0104, f"--output-dir={tmp_path / 'run'}")
    assert trainer.sizes.images == 8
    encode, monkeyed = trainer.image_features, []

    def image_features(images):
        if trainer.epoch == 1 and len(images) > 2:
            monkeyed.append(len(images))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return encode(images)

    monkeypatch.setattr(trainer, "image_features", image_features)
    monkeypatch.setattr(memory, "LEAST", 0.0)
    capsys.readouterr()
    trainer.train()

    assert monkeyed == [8, 4]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Out of memory")]
    assert said[0].startswith("Out of memory: MODEL.MEMORY_GB goes from 0.0104 to 0.0052, at most 4 images")
    assert len(said) == 2
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["MODEL"]["MEMORY_GB"] == 0.0026
    starts = (tmp_path / "run/starts.jsonl").read_text().splitlines()
    assert len(starts) == json.loads((tmp_path / "run/result.json").read_text())["starts"] == 3
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "undisturbed"), rel=1e-5)


@pytest.mark.parametrize("where", ["image_features", "optim.step"])
def test_memory_that_a_smaller_budget_would_not_help_is_an_error(where, make, monkeypatch):
    trainer = make("CLIPFit", "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True, "MODEL.MEMORY_GB", 0.1)

    def refuse(*words):
        raise torch.OutOfMemoryError("CUDA out of memory")

    owner = trainer.optim if where == "optim.step" else trainer
    monkeypatch.setattr(owner, where.rpartition(".")[2], refuse)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train()
    assert trainer.memory_gb == 0.1


def test_a_run_in_micro_batches_that_is_interrupted_goes_on_in_the_same_bits(make, tmp_path, monkeypatch):
    def trained(folder, stop_in=None, budget=0.0026):
        pairs = ["OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", True, "MODEL.MEMORY_GB", budget]
        trainer = make("CLIPFit", *pairs, f"--output-dir={tmp_path / folder}")
        trainer.resume_interval = 0.0
        original = trainer.forward_backward

        def forward_backward(batch):
            if trainer.epoch == stop_in:
                raise KeyboardInterrupt
            return original(batch)

        trainer.forward_backward = forward_backward
        trainer.train()
        return trainer

    undisturbed = trained("undisturbed")
    assert undisturbed.sizes.images == 2
    with pytest.raises(KeyboardInterrupt):
        trained("run", stop_in=1)
    resumed = trained("run", budget=0.0)  # the resume point says which
    assert resumed.memory_gb == 0.0026
    for name, tensor in undisturbed.saved_tensors().items():
        assert torch.equal(tensor, resumed.saved_tensors()[name])


def test_going_on_with_another_budget_is_said(make, capsys):
    pairs = ["OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", True]
    first = make("CLIPFit", *pairs, "MODEL.MEMORY_GB", 0.5)
    first.resume_interval = 0.0
    first.after_epoch = lambda: first.epoch == 0 or _stop()
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = make("CLIPFit", *pairs, "MODEL.MEMORY_GB", 0.25)
    capsys.readouterr()
    second.train()
    said = capsys.readouterr().out
    assert "begun with MODEL.MEMORY_GB 0.5 and goes on with 0.25, so its last bits may differ" in said
    assert second.memory_gb == 0.25


def _stop():
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["CLIPFit", "ProGrad", "TwoStage", "CLIPLoRA"])
def test_a_mixed_run_has_the_bits_that_it_has_if_autocast_casts_every_weight_anew(method, make, tmp_path):
    """Also behind a change of stages, in its test, and when its model is loaded into another trainer."""

    def run(folder):
        node = TRAINER_REGISTRY.get(method)._node()
        words = ["OPTIM.MAX_EPOCH", 2, f"TRAINER.{node}.PREC", "amp", "TRAINER.AMP_DTYPE", "bf16"]
        trainer = make(method, *words, f"--output-dir={tmp_path / folder}")
        trainer.train()
        again = make(method, *words, f"--output-dir={tmp_path / folder}-again")
        images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            again.model_inference(images)  # with other weights first
            again.load_model(str(tmp_path / folder))
            return losses(tmp_path / folder), trainer, again.model_inference(images)

    expected_losses, expected, expected_logits = run("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(casts, "in_precision", lambda weight, dtype: weight)
        found_losses, found, found_logits = run("autocast")
    assert found_losses == expected_losses
    assert found._last_test["accuracy"] == expected._last_test["accuracy"]
    for name, tensor in expected.saved_tensors().items():
        assert torch.equal(tensor, found.saved_tensors()[name]) and tensor.dtype != torch.bfloat16
    assert torch.equal(found_logits, expected_logits)
