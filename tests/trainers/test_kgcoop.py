"""KgCoOp against its formulas, written out plainly over 77 tokens."""

import pytest
import torch
from torch.nn import functional as F

from clipfit.prompts import fill
from tests.trainers.plain import LR, SGD, embed, encode, logits, plain_clip, rate, record_training

PETS = "a photo of a {}, a type of pet."


class PlainKgCoOp:
    def __init__(self, model, names, template, weight):
        self.model, self.weight = model, weight
        self.tokens, rows = embed(model, [f"a photo of a {name}." for name in names])
        self.start, self.ctx, self.rest = rows[:, :1], rows[0, 1:5].clone(), rows[:, 5:]
        tokens, rows = embed(model, fill(template, names))
        self.teacher = encode(model, rows, tokens)

    def loss(self, images, labels):
        context = self.ctx.expand(len(self.tokens), -1, -1)
        text = encode(self.model, torch.cat([self.start, context, self.rest], dim=1), self.tokens)
        distance = 1 - (text * self.teacher).sum(dim=-1).mean()
        return F.cross_entropy(logits(self.model, images, text), labels) + self.weight * distance, distance


def kgcoop(build, small_clip, *words):
    pairs = ("OPTIM.LR", LR, "DATASET.PROMPT_TEMPLATE", PETS, *words)
    return build("KgCoOp", "--backbone=" + str(small_clip), *pairs)


def test_the_loss_follows_the_formulas_step_by_step(build, small_clip):
    epochs = 4
    trainer = kgcoop(build, small_clip, "OPTIM.MAX_EPOCH", epochs)
    names = trainer.classnames
    steps, summaries = record_training(trainer)

    plain = PlainKgCoOp(plain_clip(small_clip), names, PETS, weight=8.0)
    plain.ctx.requires_grad_(True)
    sgd, expected = SGD([plain.ctx]), []
    for epoch, images, labels in steps:
        loss, distance = plain.loss(images, labels)
        assert distance > 1e-3  # the templates differ, so the term is there from the start
        sgd.step(torch.autograd.grad(loss, [plain.ctx]), rate(epoch, epochs))
        expected.append(loss.item())
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(trainer.model.ctx, plain.ctx, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["amp", "fp16"])
def test_half_precision_optimises_the_same_loss(precision, build, small_clip):
    """With a weight that makes the distance most of the loss."""
    batch = ("DATALOADER.TRAIN_X.BATCH_SIZE", 32)
    trainer = kgcoop(build, small_clip, *batch, "TRAINER.COOP.PREC", precision, "TRAINER.COOP.W", 100)
    plain = PlainKgCoOp(plain_clip(small_clip), trainer.classnames, PETS, weight=100)
    batch = next(iter(trainer.train_loader_x))
    with trainer.autocast():
        loss, _ = trainer.loss(batch["img"], batch["label"])
    expected, distance = plain.loss(batch["img"], batch["label"])
    assert 100 * distance > expected / 5
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    trainer.max_epoch = 1
    trainer.train()
    assert trainer.model.ctx.isfinite().all()


def test_what_trains_on_vit_b16(build, shared_random_weights, capsys):
    trainer = build("KgCoOp", "--backbone=random:ViT-B/16")
    assert {name: tuple(p.shape) for name, p in trainer.trained_parameters().items()} == {"ctx": (4, 512)}
    assert "Training 2,048 of" in capsys.readouterr().out


def test_layernorm_updating_leaves_the_teacher_alone(build, small_clip):
    trainer = kgcoop(build, small_clip, "TRAINER.UPDATE_LAYERNORM", "True", "OPTIM.MAX_EPOCH", 2)
    w0, before = trainer.w0.clone(), {n: p.detach().clone() for n, p in trainer.trained_parameters().items()}
    trainer.train()
    assert torch.equal(trainer.w0, w0)
    assert not any(torch.equal(p, before[name]) for name, p in trainer.trained_parameters().items())


def test_a_checkpoint_of_the_original_repository_is_accepted(build, small_clip):
    trainer = kgcoop(build, small_clip)
    ctx = torch.randn(4, 64)
    never_trained = {
        "bias_vectors": torch.zeros(1, 512),
        "meta_net.linear1.weight": torch.zeros(512, 512),
        "meta_net.linear1.bias": torch.zeros(512),
    }
    of_its_classes = {"token_prefix": torch.zeros(7, 1, 64), "token_suffix": torch.zeros(7, 72, 64)}
    trainer.load_model_state("prompt_learner", {"ctx": ctx, **never_trained, **of_its_classes})
    assert torch.equal(trainer.model.ctx, ctx)
