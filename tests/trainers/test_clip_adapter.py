"""CLIP-Adapter against its formulas, written out plainly over 77 tokens."""

import pytest
import torch
from torch.nn import functional as F

from clipfit.prompts import fill
from tests.trainers.plain import LR, SGD, embed, encode, plain_clip, rate, record_training, unit

RATIO = 0.2


class PlainAdapter:
    """The text is encoded anew for every loss, as in the authors' code."""

    def __init__(self, model, names, first, second):
        self.model, self.names = model, names
        self.first, self.second = first.clone().requires_grad_(True), second.clone().requires_grad_(True)

    def loss(self, images, labels):
        tokens, rows = embed(self.model, fill("a photo of a {}.", self.names))
        text = encode(self.model, rows, tokens)
        f = self.model.encode_image(images)
        adapted = torch.relu(torch.relu(f @ self.first.t()) @ self.second.t())
        mixed = RATIO * adapted + (1 - RATIO) * f
        return F.cross_entropy((self.model.logit_scale.exp() * unit(mixed)) @ text.t(), labels)


def adapter(build, small_clip, *words):
    return build("CLIPAdapter", "--backbone=" + str(small_clip), "OPTIM.LR", LR, *words)


def plain_twin(trainer, small_clip):
    first, second = (trainer.model.fc[i].weight.detach() for i in (0, 2))
    return PlainAdapter(plain_clip(small_clip), trainer.classnames, first, second)


def test_the_loss_follows_the_formulas_step_by_step(build, small_clip):
    epochs = 4
    trainer = adapter(build, small_clip, "OPTIM.MAX_EPOCH", epochs)
    plain = plain_twin(trainer, small_clip)
    steps, summaries = record_training(trainer)

    weights = [plain.first, plain.second]
    sgd, expected = SGD(weights), []
    for epoch, images, labels in steps:
        loss = plain.loss(images, labels)
        sgd.step(torch.autograd.grad(loss, weights), rate(epoch, epochs))
        expected.append(loss.item())
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-5)
    for i, weight in ((0, plain.first), (2, plain.second)):
        torch.testing.assert_close(trainer.model.fc[i].weight, weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["amp", "fp16"])
def test_half_precision_optimises_the_same_loss_with_an_fp32_adapter(precision, build, small_clip):
    trainer = adapter(build, small_clip, "TRAINER.CLIPADAPTER.PREC", precision)
    plain = plain_twin(trainer, small_clip)
    batch = next(iter(trainer.train_loader_x))
    with trainer.autocast():
        loss, _ = trainer.loss(batch["img"], batch["label"])
    assert loss.item() == pytest.approx(plain.loss(batch["img"], batch["label"]).item(), rel=0.02)
    trainer.max_epoch = 1
    trainer.train()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in trainer.trained_parameters().values())


def test_what_trains_on_vit_b16(build, shared_random_weights, capsys):
    trainer = build("CLIPAdapter", "--backbone=random:ViT-B/16")
    assert {name: tuple(p.shape) for name, p in trainer.trained_parameters().items()} == {
        "fc.0.weight": (128, 512),
        "fc.2.weight": (512, 128),
    }
    assert "Training 131,072 of" in capsys.readouterr().out


def test_the_text_is_encoded_once(build, small_clip):
    trainer = adapter(build, small_clip)
    passes = []
    trainer.clip.text_encoder.register_forward_hook(lambda *_: passes.append(1))
    trainer.max_epoch = 1
    trainer.train()
    assert passes == []


@pytest.mark.parametrize("key, value", [("RATIO", 1.5), ("REDUCTION", 0)])
def test_settings_without_a_meaning_are_refused(key, value, build, small_clip):
    with pytest.raises(ValueError, match=f"TRAINER.CLIPADAPTER.{key} is {value}; choose"):
        adapter(build, small_clip, f"TRAINER.CLIPADAPTER.{key}", value)
