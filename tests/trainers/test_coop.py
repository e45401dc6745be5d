"""CoOp against its formulas, written out plainly: every prompt spelled as 77 embedded tokens."""

import pytest
import torch
from torch.nn import functional as F

from clipfit import tokenizer
from clipfit.context import ContextPrompts
from clipfit.loading import load_clip
from tests.trainers.plain import LR, SGD, embed, encode, logits, plain_clip, rate, record_training

NAMES = ["cat", "very old map of a town", "x-ray", "dog"]


def plain_prompts(model, ctx, words, names, position):
    """Embedded prompts (K, 77, W) row by row: start, then context and name in the order of the position."""
    tokens, rows = embed(model, [f"{words} {name}." for name in names])
    prompts = []
    for k, name in enumerate(names):
        context = list(ctx[k] if ctx.dim() == 3 else ctx)
        length, n, half = len(context), len(tokenizer.encode(name)), len(context) // 2
        start, suffix = [rows[k, 0]], list(rows[k, 1 + length :])
        order = {
            "end": start + context + suffix,
            "middle": start + context[:half] + suffix[:n] + context[half:] + suffix[n:],
            "front": start + suffix[:n] + context + suffix[n:],
        }[position]
        prompts.append(torch.stack(order))
    return torch.stack(prompts), tokens


def coop(build, small_clip, *words):
    return build("CoOp", "--backbone=" + str(small_clip), "OPTIM.LR", LR, *words)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("csc", [False, True])
def test_features_and_gradients_equal_the_plain_computation(position, csc, build, small_clip):
    trainer = coop(
        *(build, small_clip, "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", 5),
        *("TRAINER.COOP.CSC", csc, "TRAINER.COOP.CLASS_TOKEN_POSITION", position),
    )
    names, ctx = trainer.classnames, trainer.model.ctx
    with torch.no_grad():
        ctx += torch.randn_like(ctx)
    model = plain_clip(small_clip)
    expected = encode(model, *plain_prompts(model, ctx, "X X X X X", names, position))
    actual = trainer.text_features()
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)

    weight = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), ctx)
    (gradient,) = torch.autograd.grad((actual * weight).sum(), ctx)
    assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm()


@pytest.mark.parametrize("words", ["X X", "a photo, of a"])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_names_of_different_lengths_stand_where_they_should(position, words, small_clip):
    clip, model = load_clip(str(small_clip)), plain_clip(small_clip)
    length = len(words.split())
    prompts = ContextPrompts(clip, words, length, NAMES, position)
    ctx = torch.randn(length, 64)
    actual = clip.text_encoder(prompts.fill(ctx))
    expected = encode(model, *plain_prompts(model, ctx, words, NAMES, position))
    torch.testing.assert_close(actual / actual.norm(dim=-1, keepdim=True), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("position", ["end", "middle"])
def test_the_loss_follows_the_formulas_step_by_step(position, build, small_clip):
    epochs = 4
    trainer = coop(
        *(build, small_clip, "OPTIM.MAX_EPOCH", epochs, "TRAINER.COOP.CTX_INIT", "a_photo_of_a"),
        *("TRAINER.COOP.CLASS_TOKEN_POSITION", position),
    )
    names = trainer.classnames
    steps, summaries = record_training(trainer)

    model = plain_clip(small_clip)
    ctx = model.token_embedding(torch.tensor([320, 1125, 539, 320])).clone()  # a photo of a
    ctx.requires_grad_(True)
    sgd, expected = SGD([ctx]), []
    for epoch, images, labels in steps:
        text = encode(model, *plain_prompts(model, ctx, "a photo of a", names, position))
        loss = F.cross_entropy(logits(model, images, text), labels)
        sgd.step(torch.autograd.grad(loss, [ctx]), rate(epoch, epochs))
        expected.append(loss.item())
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(trainer.model.ctx, ctx, rtol=1e-4, atol=1e-6)


def test_what_trains_on_vit_b16(build, shared_random_weights, capsys):
    trainer = build("CoOp", "--backbone=random:ViT-B/16")
    assert {name: tuple(p.shape) for name, p in trainer.trained_parameters().items()} == {"ctx": (4, 512)}
    assert "Training 2,048 of" in capsys.readouterr().out
    ids = torch.tensor([320, 1125, 539, 320])
    assert torch.equal(trainer.model.ctx, trainer.clip.token_embedding.weight[ids])


@pytest.mark.parametrize(
    "ctx_init, shape", [("", (16, 64)), ("False", (16, 64)), ("True", (4, 64)), ("an image of", (3, 64))]
)
def test_where_the_context_starts(ctx_init, shape, build, small_clip):
    pairs = ["TRAINER.COOP.N_CTX", 16, "TRAINER.COOP.CTX_INIT", ctx_init]
    first, second = (coop(build, small_clip, *pairs).model.ctx for _ in range(2))
    assert tuple(first.shape) == shape and torch.equal(first, second)
    if shape == (16, 64):
        assert 0.015 < first.std().item() < 0.025


def test_a_checkpoint_of_the_family_is_accepted_with_class_dependent_tensors_made_anew(build, small_clip):
    trainer = coop(build, small_clip)
    ctx = torch.randn(4, 64)
    state = {"ctx": ctx, "token_prefix": torch.zeros(7, 1, 64), "token_suffix": torch.zeros(7, 72, 64)}
    trainer.load_model_state("prompt_learner", state)
    assert torch.equal(trainer.model.ctx, ctx)


@pytest.mark.parametrize(
    "words, message",
    [
        (["TRAINER.COOP.CLASS_TOKEN_POSITION", "centre"], "is 'centre'; choose end, middle or front"),
        (["TRAINER.COOP.N_CTX", 0], "N_CTX is 0; a context has at least one vector"),
        (["TRAINER.COOP.N_CTX", 75, "TRAINER.COOP.CTX_INIT", ""], "striped red star.*at most 77"),
        (["--eval-only", "TRAINER.COOP.CSC", True, "TRAINER.COOP.CTX_INIT", ""], "the classes they were"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(words, message, build, small_clip):
    with pytest.raises(ValueError, match=message):
        coop(build, small_clip, *words)
