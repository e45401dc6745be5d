"""MaPLe against its formulas, written out plainly: 77 tokens, all rows of both towers, block by block."""

import pytest
import torch
from torch.nn import functional as F

from clipfit import memory
from launch.resolve import load_recipe
from tests.trainers.plain import (
    SGD,
    embed,
    image_with_tokens,
    plain_clip,
    record_training,
    text_with_tokens,
    unit,
)

LR = 0.0035


class PlainMaPLe:
    """Features of both towers from tensors named as a trainer's, starting at its values."""

    def __init__(self, model, trainer, words="a photo of a"):
        self.model, self.depth = model, trainer.hp.PROMPT_DEPTH
        self.tokens, self.rows = embed(model, [f"{words} {name}." for name in trainer.classnames])
        self.t = {
            name.removeprefix("prompt_learner."): p.detach().clone().requires_grad_(True)
            for name, p in trainer.trained_parameters().items()
        }
        self.ctx = self.t["ctx"]
        self.deep = [self.t[f"compound_prompts_text.{i}"] for i in range(self.depth - 1)]

    def text_features(self):
        return text_with_tokens(self.model, self.rows, self.tokens, self.ctx, self.deep)

    def image_features(self, images):
        names = ["proj", *(f"compound_prompt_projections.{i}" for i in range(self.depth - 1))]
        texts = [self.ctx, *self.deep]
        prompts = [self.projected(name, text) for name, text in zip(names, texts, strict=True)]
        return image_with_tokens(self.model, images, prompts)

    def projected(self, name, text):
        return text @ self.t[f"{name}.weight"].t() + self.t[f"{name}.bias"]

    def logits(self, images):
        return (self.model.logit_scale.exp() * self.image_features(images)) @ self.text_features().t()


def maple(build, small_clip, *words):
    return build("MaPLe", "--backbone=" + str(small_clip), *words)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_loss_follows_the_formulas_step_by_step(depth, build, small_clip):
    trainer = maple(
        *(build, small_clip, "TRAINER.MAPLE.PROMPT_DEPTH", depth, "DATASET.NUM_SHOTS", 2),
        *("OPTIM.MAX_EPOCH", 3, "TEST.NO_TEST", True),
    )
    plain = PlainMaPLe(plain_clip(small_clip), trainer)
    steps, summaries = record_training(trainer)

    sgd, expected = SGD(list(plain.t.values())), []
    for epoch, images, labels in steps:
        loss = F.cross_entropy(plain.logits(images), labels)
        # One warm-up epoch, then half a cosine of period 3: (1 + cos 0) / 2 and (1 + cos 60 degrees) / 2.
        sgd.step(torch.autograd.grad(loss, list(plain.t.values())), [1e-5, LR, 0.75 * LR][epoch])
        expected.append(loss.item())
    assert len(expected) >= 12
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-5)
    for mine, reference in zip(trainer.trained_parameters().values(), plain.t.values(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [10_000, 30])
def test_features_and_gradients_equal_the_plain_ones_whatever_the_prompts(
    rows, build, small_clip, monkeypatch
):
    monkeypatch.setattr(memory, "sizes", lambda *_: memory.Sizes(rows=rows, images=32))
    trainer = maple(build, small_clip, "TRAINER.MAPLE.CTX_INIT", "", "TRAINER.MAPLE.N_CTX", 5)
    with torch.no_grad():
        for p in trainer.trained_parameters().values():
            p += 0.3 * torch.randn_like(p)
    plain = PlainMaPLe(plain_clip(small_clip), trainer, words="X X X X X")
    images = next(iter(trainer.train_loader_x))["img"]

    actual = trainer.text_features(), unit(trainer.image_features(images))
    expected = plain.text_features(), plain.image_features(images)
    weights = [torch.randn_like(features) for features in expected]
    losses = []
    for mine, reference, weight in zip(actual, expected, weights, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)
        losses.append(((mine * weight).sum(), (reference * weight).sum()))
    mine = torch.autograd.grad(losses[0][0] + losses[1][0], list(trainer.trained_parameters().values()))
    reference = torch.autograd.grad(losses[0][1] + losses[1][1], list(plain.t.values()))
    for gradient, expected_gradient in zip(mine, reference, strict=True):
        assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm()


@pytest.mark.parametrize("depth, count", [(9, 3_555_072), (3, 1_185_024), (1, 395_008)])
def test_what_trains_on_vit_b16(depth, count, build, shared_random_weights):
    trainer = build("MaPLe", "--backbone=random:ViT-B/16", "TRAINER.MAPLE.PROMPT_DEPTH", depth)
    shapes = {
        name.removeprefix("prompt_learner."): tuple(p.shape)
        for name, p in trainer.trained_parameters().items()
    }
    expected = {"ctx": (2, 512), "proj.weight": (768, 512), "proj.bias": (768,)}
    for i in range(depth - 1):
        expected[f"compound_prompts_text.{i}"] = (2, 512)
        expected[f"compound_prompt_projections.{i}.weight"] = (768, 512)
        expected[f"compound_prompt_projections.{i}.bias"] = (768,)
    assert shapes == expected
    assert sum(p.numel() for p in trainer.trained_parameters().values()) == count


def test_where_the_prompts_start(build, small_clip):
    trainer = maple(build, small_clip)
    learner, ids = trainer.model.prompt_learner, torch.tensor([320, 1125])  # "a photo"; "of a" stay words
    assert torch.equal(learner.ctx, trainer.clip.token_embedding.weight[ids])
    assert trainer.template == "a photo of a {}."
    first, second = learner.compound_prompt_projections
    assert torch.equal(first.weight, second.weight) and first.weight is not second.weight
    texts = torch.stack(list(learner.compound_prompts_text))
    assert 0.015 < texts.std().item() < 0.025 and not torch.equal(texts[0], texts[1])


@pytest.mark.parametrize("ctx_init, length", [("", 2), ("False", 2), ("a photo of a", 5)])
def test_a_context_without_enough_words_starts_at_random(ctx_init, length, build, small_clip, capsys):
    words = ["TRAINER.MAPLE.CTX_INIT", ctx_init, "TRAINER.MAPLE.N_CTX", length]
    first, second = (maple(build, small_clip, *words).model.prompt_learner.ctx for _ in range(2))
    assert tuple(first.shape) == (length, 64) and torch.equal(first, second)
    assert 0.012 < first.std().item() < 0.028
    assert ("has fewer than N_CTX 5 tokens" in capsys.readouterr().out) == (length == 5)


@pytest.mark.parametrize("precision, dtype", [("amp", torch.float32), ("fp16", torch.float16)])
def test_the_context_has_the_models_precision_and_what_is_deeper_fp32(precision, dtype, build, small_clip):
    learner = maple(build, small_clip, "TRAINER.MAPLE.PREC", precision).model.prompt_learner
    assert learner.ctx.dtype == learner.proj.weight.dtype == dtype
    assert learner.compound_prompts_text[0].dtype == torch.float32
    assert learner.compound_prompt_projections[0].weight.dtype == torch.float32


def test_a_checkpoint_of_the_family_which_holds_the_whole_model_is_accepted(build, small_clip, capsys):
    trainer = maple(build, small_clip)
    state = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    del state["token_embedding.weight"]
    learned = [name for name in state if name.startswith("prompt_learner.")]
    state |= {name: torch.randn_like(state[name]) for name in learned}
    state["prompt_learner.token_prefix"] = torch.zeros(7, 1, 64)
    state["prompt_learner.token_suffix"] = torch.zeros(7, 74, 64)
    trainer.load_model_state("MultiModalPromptLearner", state)
    assert len(learned) == 9
    assert all(torch.equal(trainer.model.state_dict()[name], state[name]) for name in learned)
    assert "9 trained tensors taken" in capsys.readouterr().out


@pytest.mark.parametrize(
    "protocol, trained_by, settings",
    [
        ("base2new", "base2new", (5, 0.0035, 9)),
        ("cross_dataset", "cross_dataset", (2, 0.0026, 3)),
        ("domain_shift", "cross_dataset", (2, 0.0026, 3)),
    ],
)
def test_recipes_say_what_the_release_says(protocol, trained_by, settings):
    recipe, model_from = load_recipe("MaPLe", protocol, "ImageNet", 16)
    keys = ("OPTIM.MAX_EPOCH", "OPTIM.LR", "TRAINER.MAPLE.PROMPT_DEPTH")
    assert tuple(recipe[key] for key in keys) == settings
    assert recipe["DATALOADER.TRAIN_X.BATCH_SIZE"] == 4 and recipe["TRAINER.MAPLE.N_CTX"] == 2
    assert model_from == trained_by


@pytest.mark.parametrize(
    "pairs, message",
    [
        (["TRAINER.MAPLE.PROMPT_DEPTH", 4], "PROMPT_DEPTH is 4, but .* 3 blocks; choose 1 to 3"),
        (["TRAINER.MAPLE.PROMPT_DEPTH", 0], "PROMPT_DEPTH is 0; choose at least 1"),
        (["TRAINER.MAPLE.N_CTX", 0], "N_CTX is 0; choose at least 1"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(pairs, message, build, small_clip):
    with pytest.raises(ValueError, match=message):
        maple(build, small_clip, *pairs)
