"""PromptSRC and IVLP against their formulas, written out plainly: 77 tokens, all rows, block by block."""

import math

import pytest
import torch
from torch.nn import functional as F

from clipfit.imagenet_templates import IMAGENET_TEMPLATES
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
from tests.trainers.plain import encode as encode_unit

LR = 0.0025
FIRST_GROUP = ["ImageNet", "Caltech101", "OxfordPets", "Food101", "UCF101", "SUN397"]
SECOND_GROUP = ["StanfordCars", "OxfordFlowers", "FGVCAircraft", "DescribableTextures", "EuroSAT"]


@pytest.fixture
def make(build, small_clip):
    """A trainer on the small CLIP, whose towers have tokens in so many layers."""

    def _make(method, *words, depths=(3, 3)):
        node = f"TRAINER.{method.upper()}"
        pairs = [f"{node}.PROMPT_DEPTH_TEXT", depths[0], f"{node}.PROMPT_DEPTH_VISION", depths[1]]
        return build(method, f"--backbone={small_clip}", *pairs, *words)

    return _make


class Plain:
    """The losses from tensors that start at a trainer's values."""

    def __init__(self, model, trainer):
        self.model = model
        self.names, trained = trainer.classnames, trainer.trained_parameters().values()
        self.tokens, self.rows = embed(model, [f"a photo of a {name}." for name in self.names])
        self.trained = [p.detach().clone().requires_grad_(True) for p in trained]
        self.ctx, *deep, self.image = self.trained
        self.deep = deep[0] if deep else []
        self.u = self.ensemble() if trainer.cfg.TRAINER.NAME == "PromptSRC" else None

    def features(self, images):
        text = text_with_tokens(self.model, self.rows, self.tokens, self.ctx, self.deep)
        return image_with_tokens(self.model, images, self.image), text

    def cross_entropy(self, images, labels):
        v, t = self.features(images)
        return F.cross_entropy(self.model.logit_scale.exp() * v @ t.t(), labels)

    @torch.no_grad()
    def ensemble(self):
        """Mean of the un-normalized features of sixty prompts."""
        total = 0
        for template in IMAGENET_TEMPLATES[:60]:
            tokens, rows = embed(self.model, [template.replace("{}", name) for name in self.names])
            assert torch.allclose(unit(self.model.encode_text(tokens)), encode_unit(self.model, rows, tokens))
            total = total + self.model.encode_text(tokens)
        return unit(total)

    def regularized(self, images, labels):
        s, u = self.model.logit_scale.exp(), self.u
        v, t = self.features(images)
        v0 = unit(self.model.encode_image(images))
        z, z0 = s * v @ t.t(), s * v0 @ u.t()
        p, p0 = z.softmax(dim=1), z0.softmax(dim=1)
        drift = (p0 * (p0.log() - p.log())).sum() / z.numel()
        text = (t - u).abs().sum() / t.numel()
        image = (v - v0).abs().sum() / v.numel()
        return F.cross_entropy(z, labels) + 25 * text + 10 * image + drift


@pytest.mark.parametrize("depths", [(1, 1), (3, 2)])
@pytest.mark.parametrize("method", ["IVLP", "PromptSRC"])
def test_the_loss_follows_the_formulas_step_by_step(method, depths, make, small_clip):
    shots = ("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 3, "TEST.NO_TEST", True)
    trainer = make(method, *shots, depths=depths)
    plain = Plain(plain_clip(small_clip), trainer)
    loss_of = plain.regularized if method == "PromptSRC" else plain.cross_entropy
    steps, summaries = record_training(trainer)

    sgd, expected, behind_epochs = SGD(plain.trained), [], []
    for number, (epoch, images, labels) in enumerate(steps):
        loss = loss_of(images, labels)
        # One warm-up epoch, then half a cosine of period 3: (1 + cos 0) / 2 and (1 + cos 60 degrees) / 2.
        sgd.step(torch.autograd.grad(loss, plain.trained), [1e-5, LR, 0.75 * LR][epoch])
        expected.append(loss.item())
        if number + 1 == len(steps) or steps[number + 1][0] > epoch:
            behind_epochs.append([tensor.detach().clone() for tensor in plain.trained])
    assert len(expected) == 6 and len(behind_epochs) == 3
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-5)

    shares = [0, 0, 1]
    if method == "PromptSRC":
        weights = [math.exp(-((epoch - 15) ** 2) / 2) for epoch in (1, 2, 3)]
        shares = [weight / sum(weights) for weight in weights]
    for number, parameter in enumerate(trainer.trained_parameters().values()):
        mean = sum(share * tensors[number] for share, tensors in zip(shares, behind_epochs, strict=True))
        torch.testing.assert_close(parameter, mean, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("depths", [(2, 3), (3, 2)])
def test_features_follow_the_formulas_far_from_where_they_start(depths, make, small_clip):
    """Tokens that start small hardly move a loss: only large ones show which stands where."""
    trainer = make("IVLP", depths=depths)
    for p in trainer.trained_parameters().values():
        p.copy_(torch.randn_like(p))
    images = next(iter(trainer.test_loader))["img"][:4]
    of_images, of_texts = Plain(plain_clip(small_clip), trainer).features(images)
    torch.testing.assert_close(trainer.text_features(), of_texts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unit(trainer.image_features(images)), of_images, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("budget, mean, std", [(0, 15.0, 2.0), (6, 9.0, 1.2), (11, 18.0, 2.4)])
def test_an_average_over_a_budget_in_steps_is_stretched_as_its_schedule(budget, mean, std, make):
    """Of MAX_EPOCH 5, by epochs of two steps: 3 of them in 6 steps, and 6 in 11."""
    node = "TRAINER.PROMPTSRC"
    words = (f"{node}.GPA_MEAN", 15.0, f"{node}.GPA_STD", 2.0, "OPTIM.MAX_EPOCH", 5)
    trainer = make("PromptSRC", "DATASET.NUM_SHOTS", 1, *words, "OPTIM.MAX_STEPS", budget)
    assert len(trainer.train_loader_x) == 2
    average = trainer.average()
    assert (average.mu, average.sigma) == pytest.approx((mean, std))


def test_a_wide_average_is_that_of_all_epochs(make):
    node = "TRAINER.PROMPTSRC"
    words = (f"{node}.GPA_MEAN", 2.0, f"{node}.GPA_STD", 1e6, "OPTIM.MAX_EPOCH", 3, "TEST.NO_TEST", True)
    trainer = make("PromptSRC", "DATASET.NUM_SHOTS", 1, *words)
    behind_epochs, original = [], trainer.forward_backward

    def recording(batch):
        summary = original(batch)
        if trainer.batch_idx + 1 == trainer.num_batches:
            behind_epochs.append([p.detach().clone() for p in trainer.trained_parameters().values()])
        return summary

    trainer.forward_backward = recording
    trainer.train()
    for parameter, *tensors in zip(trainer.trained_parameters().values(), *behind_epochs, strict=True):
        torch.testing.assert_close(parameter, sum(tensors) / 3, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(parameter, tensors[-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["IVLP", "PromptSRC"])
@pytest.mark.parametrize("depth, count", [(9, 46_080), (3, 15_360)])
def test_counts_on_vit_b16(method, depth, count, build, shared_random_weights):
    node = f"TRAINER.{method.upper()}"
    words = (f"{node}.PROMPT_DEPTH_TEXT", depth, f"{node}.PROMPT_DEPTH_VISION", depth)
    trainer = build(method, "--backbone=random:ViT-B/16", "--eval-only", *words)
    assert sum(p.numel() for p in trainer.trained_parameters().values()) == count
    assert trainer.count_trained_parameters() == count


@torch.no_grad()
def test_texts_of_one_layer_start_from_those_of_zero_shot_clip(make):
    trainer = make("PromptSRC", depths=(1, 3))
    tokens = trainer.tokenize("a photo of a {}.")
    expected = trainer.encode_text(trainer.clip.embed_prompts(tokens))
    torch.testing.assert_close(trainer.text_features(), expected, rtol=1e-6, atol=1e-6)
    assert "text" not in " ".join(trainer.trained_parameters())


def test_where_the_tokens_start(make):
    learner = make("IVLP").model.prompt_learner
    assert learner.text.shape == (2, 4, 64) and learner.image.shape == (3, 4, 64)
    assert all(0.015 < one.std().item() < 0.025 for one in (learner.text, learner.image))


def test_the_templates_are_those_that_open_clip_has():
    metadata = pytest.importorskip("open_clip.zero_shot_metadata")
    assert [write("{}") for write in metadata.OPENAI_IMAGENET_TEMPLATES] == list(IMAGENET_TEMPLATES)


def test_the_teacher_stays_clip_while_layernorms_train(make):
    trainer = make("PromptSRC", "TRAINER.UPDATE_LAYERNORM", True, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
    images, encode = next(iter(trainer.train_loader_x))["img"], torch.no_grad()(trainer.clip.encode_image)
    before = encode(images)
    trainer.train()
    assert not torch.allclose(encode(images), before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.no_grad()(trainer.teacher)(images), before, rtol=1e-5, atol=1e-6)


def test_templates_with_words_that_the_backbone_never_saw_are_counted(build, capsys):
    build("PromptSRC")  # on the embedded CLIP, which knows few words
    assert "Warning: 48 of the teacher's 60 templates have words new" in capsys.readouterr().out


def test_an_evaluation_builds_no_teacher(make):
    trainer = make("PromptSRC", "--eval-only")
    assert not hasattr(trainer, "u") and not hasattr(trainer, "teacher")


@pytest.mark.parametrize("data_set", [*FIRST_GROUP, *SECOND_GROUP])
def test_recipes_say_what_the_release_says(data_set):
    names = ("GPA_MEAN", "GPA_STD", "PROMPT_DEPTH_TEXT", "PROMPT_DEPTH_VISION")
    keys = ("OPTIM.MAX_EPOCH", *(f"TRAINER.PROMPTSRC.{name}" for name in names))

    def settings(protocol):
        recipe, trained_by = load_recipe("PromptSRC", protocol, data_set, 16)
        assert recipe["OPTIM.LR"] == LR and recipe["DATALOADER.TRAIN_X.BATCH_SIZE"] == 4
        return [recipe[key] for key in keys], trained_by

    assert settings("base2new") == ([20, 15, 1, 9, 9], "base2new")
    few_shot = [50, 45, 5, 9, 9] if data_set in SECOND_GROUP else [50, 30, 30, 9, 9]
    assert settings("few_shot") == (few_shot, "few_shot")
    assert settings("cross_dataset") == settings("domain_shift") == ([20, 6, 10, 3, 3], "cross_dataset")


@pytest.mark.parametrize("protocol", ["base2new", "few_shot", "cross_dataset", "domain_shift"])
def test_the_baseline_has_the_same_recipe_without_an_average(protocol):
    (own, _), (baseline, _) = (load_recipe(one, protocol, "EuroSAT", 16) for one in ("PromptSRC", "IVLP"))
    same = {key.replace("PROMPTSRC", "IVLP"): value for key, value in own.items() if ".GPA_" not in key}
    assert baseline == same


@pytest.mark.parametrize(
    "words, message",
    [
        (("PROMPT_DEPTH_VISION", 4), "PROMPT_DEPTH_VISION is 4, but .* 3 blocks; choose 1 to 3"),
        (("PROMPT_DEPTH_TEXT", 0), "PROMPT_DEPTH_TEXT is 0; choose at least 1"),
        (("N_CTX_VISION", 0), "N_CTX_VISION is 0; choose at least 1"),
        (("GPA_STD", 0.0), "is 0.0; choose epochs above 0"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(words, message, make):
    with pytest.raises(ValueError, match=message):
        make("PromptSRC", f"TRAINER.PROMPTSRC.{words[0]}", words[1])
