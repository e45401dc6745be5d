"""CoCoOp against its formulas, written out plainly: one image after the other, 77 tokens each time."""

import pytest
import torch
from torch.nn import functional as F

from clipfit import memory
from tests.trainers.plain import LR, SGD, embed, encode, plain_clip, rate, record_training, unit


class PlainCoCoOp:
    """The context of "a photo of a" and the start weights of a trainer's meta net."""

    def __init__(self, model, names, meta_net):
        self.model = model
        self.tokens, rows = embed(model, [f"a photo of a {name}." for name in names])
        self.start, self.rest = rows[:, :1], rows[:, 5:]
        weights = [
            meta_net.linear1.weight,
            meta_net.linear1.bias,
            meta_net.linear2.weight,
            meta_net.linear2.bias,
        ]
        self.trained = [t.detach().clone().float() for t in (rows[0, 1:5], *weights)]
        for tensor in self.trained:
            tensor.requires_grad_(True)

    def logits(self, images):
        ctx, a1, b1, a2, b2 = self.trained
        rows = []
        for f in unit(self.model.encode_image(images)):
            shift = a2 @ torch.relu(a1 @ f + b1) + b2
            context = (ctx + shift).expand(len(self.tokens), -1, -1)
            w = encode(self.model, torch.cat([self.start, context, self.rest], dim=1), self.tokens)
            rows.append((self.model.logit_scale.exp() * f) @ w.t())
        return torch.stack(rows)


def cocoop(build, small_clip, *words):
    return build("CoCoOp", "--backbone=" + str(small_clip), "OPTIM.LR", LR, *words)


@pytest.mark.parametrize("batch_size, shots, epochs", [(1, 1, 3), (4, 2, 4)])
def test_the_loss_follows_the_formulas_step_by_step(batch_size, shots, epochs, build, small_clip):
    trainer = cocoop(
        *(build, small_clip, "OPTIM.MAX_EPOCH", epochs, "DATASET.NUM_SHOTS", shots),
        *("DATALOADER.TRAIN_X.BATCH_SIZE", batch_size, "TEST.NO_TEST", True),
    )
    plain = PlainCoCoOp(plain_clip(small_clip), trainer.classnames, trainer.model.meta_net)
    steps, summaries = record_training(trainer)

    sgd, expected = SGD(plain.trained), []
    for epoch, images, labels in steps:
        loss = F.cross_entropy(plain.logits(images), labels)
        sgd.step(torch.autograd.grad(loss, plain.trained), rate(epoch, epochs))
        expected.append(loss.item())
    assert len(expected) >= 20
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-5)
    for mine, reference in zip(trainer.trained_parameters().values(), plain.trained, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)


def test_logits_and_gradients_in_chunks_equal_the_plain_ones(build, small_clip, monkeypatch):
    trainer = cocoop(build, small_clip, "DATALOADER.TRAIN_X.BATCH_SIZE", 5)
    monkeypatch.setattr(memory, "sizes", lambda *_: memory.Sizes(rows=150, images=32))
    plain = PlainCoCoOp(plain_clip(small_clip), trainer.classnames, trainer.model.meta_net)
    passes = []
    trainer.clip.text_encoder.register_forward_pre_hook(lambda *_: passes.append(1))
    images = next(iter(trainer.train_loader_x))["img"]

    actual, expected = trainer.conditional_logits(images), plain.logits(images)
    assert len(passes) > len(images)  # the prompts of each image, some classes at a time
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)
    weight = torch.randn_like(expected)
    mine = torch.autograd.grad((actual * weight).sum(), list(trainer.trained_parameters().values()))
    for gradient, reference in zip(
        mine, torch.autograd.grad((expected * weight).sum(), plain.trained), strict=True
    ):
        assert (gradient - reference).norm() <= 1e-5 * reference.norm()


def test_what_trains_on_vit_b16(build, shared_random_weights, capsys):
    trainer = build("CoCoOp", "--backbone=random:ViT-B/16")
    assert {name: tuple(p.shape) for name, p in trainer.trained_parameters().items()} == {
        "ctx": (4, 512),
        "meta_net.linear1.weight": (32, 512),
        "meta_net.linear1.bias": (32,),
        "meta_net.linear2.weight": (512, 32),
        "meta_net.linear2.bias": (512,),
    }
    assert "Training 35,360 of" in capsys.readouterr().out
