"""MMRL against its formulas, written out plainly, and its inference rule."""

import pytest
import torch
from torch.nn import functional as F

from clipfit.prompts import fill
from launch.resolve import load_recipe
from tests.trainers.plain import embed, plain_clip, record_training, unit
from trainers.base import mean_distance

NODE = "TRAINER.MMRL"
N = 5
LAMBDA = {
    **{"StanfordCars": 7, "FGVCAircraft": 6, "SUN397": 6, "DescribableTextures": 6, "Food101": 5},
    **{
        "OxfordFlowers": 4,
        "UCF101": 3,
        "ImageNet": 0.5,
        "Caltech101": 0.5,
        "OxfordPets": 0.2,
        "EuroSAT": 0.01,
    },
}


@pytest.fixture
def mmrl(build, small_clip):
    """On the small CLIP, with tokens in layers 2 and 3, as the method is defined."""

    def make(*words, **more):
        pairs = (f"{NODE}.FIRST_LAYER", 2, f"{NODE}.LOGIT_SCALE", 100.0, f"{NODE}.WIDTH", 32)
        return build("MMRL", f"--backbone={small_clip}", *pairs, *words, **more)

    return make


class Plain:
    """Features and loss from tensors that start at a trainer's values."""

    def __init__(self, model, trainer, first=1):
        self.model, self.first, self.t = model, first, {}  # first block with tokens, from 0
        for name, p in trainer.trained_parameters().items():
            short = name.removeprefix("representation.")
            self.t[short] = p.detach().clone().requires_grad_(True)
        self.tokens, self.rows = embed(model, fill(trainer.template, trainer.classnames))

    def learned(self, where, layer):
        return self.t["tokens"] @ self.t[f"{where}.{layer}.weight"].t() + self.t[f"{where}.{layer}.bias"]

    def through(self, blocks, x, where, causal):
        for i, block in enumerate(blocks):
            if i >= self.first:
                new = self.learned(where, i - self.first).expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], new, x[:, 1 if i == self.first else 1 + N :]], dim=1)
            length = x.shape[1]
            mask = torch.full((length, length), float("-inf")).triu(1) if causal else None
            x = block(x.permute(1, 0, 2), mask=mask).permute(1, 0, 2)
        return x

    def text(self):
        model = self.model
        x = self.rows + model.positional_embedding
        x = model.ln_final(self.through(model.transformer.resblocks, x, "to_text", causal=True))
        assert x.shape[1] == 82
        return x[torch.arange(len(x)), self.tokens.argmax(dim=-1) + N] @ model.text_projection

    def image(self, images):
        visual = self.model.visual
        patches = visual.conv1(images).flatten(2).permute(0, 2, 1)
        x = torch.cat([visual.class_embedding.expand(len(images), 1, -1), patches], dim=1)
        x = visual.ln_pre(x + visual.positional_embedding)
        x = visual.ln_post(self.through(visual.transformer.resblocks, x, "to_image", causal=False))
        each = x[:, 1 : 1 + N] @ self.t["proj"]
        return x[:, 0] @ visual.proj, each.mean(dim=1)

    def loss(self, images, labels, lam):
        t, (v, r) = unit(self.text()), map(unit, self.image(images))
        v0, t0 = unit(self.model.encode_image(images)), unit(self.model.encode_text(self.tokens))
        entropy = 0.7 * F.cross_entropy(100 * v @ t.t(), labels) + 0.3 * F.cross_entropy(
            100 * r @ t.t(), labels
        )
        return entropy + lam * (1 - (v * v0).sum(dim=1).mean()) + lam * (1 - (t * t0).sum(dim=1).mean())


@pytest.mark.parametrize("lam", [0.5, 6.0])
def test_the_loss_follows_the_formulas_step_by_step(lam, mmrl, small_clip):
    short = ("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 3, "TEST.NO_TEST", True)
    trainer = mmrl(f"{NODE}.LAMBDA", lam, *short)
    plain = Plain(plain_clip(small_clip), trainer)
    steps, summaries = record_training(trainer)
    optimizer = torch.optim.AdamW(list(plain.t.values()), lr=1.0, weight_decay=5e-4)
    expected = []
    for epoch, images, labels in steps:
        loss = plain.loss(images, labels, lam)
        optimizer.param_groups[0]["lr"] = [1e-5, 1e-3, 0.75e-3][epoch]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert len(expected) == 6
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("first", [2, 3])
def test_features_follow_the_formulas_far_from_where_they_start(first, mmrl, small_clip):
    """Maps of the layers start alike and tokens are small: only then their order shows."""
    trainer = mmrl(f"{NODE}.FIRST_LAYER", first, f"{NODE}.WIDTH", 16)
    for p in trainer.trained_parameters().values():
        p.copy_(torch.randn_like(p))
    plain = Plain(plain_clip(small_clip), trainer, first - 1)
    images = next(iter(trainer.test_loader))["img"][:4]
    torch.testing.assert_close(trainer.text_features(), unit(plain.text()), rtol=1e-4, atol=1e-5)
    for found, expected in zip(trainer.both_image_features(images), plain.image(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width, count", [(512, 4_992_256), (2048, 18_762_496)])
def test_counts_on_vit_b16(width, count, build, shared_random_weights):
    trainer = build("MMRL", "--backbone=random:ViT-B/16", "--eval-only", f"{NODE}.WIDTH", width)
    assert trainer.count_trained_parameters() == count
    learned = trainer.model.representation
    assert len(learned.to_image) == len(learned.to_text) == 7


def test_a_heavy_weight_leaves_the_distances_to_clip_alone(mmrl):
    """As LAMBDA grows, the gradient of t is that of the distance of text features to CLIP's."""
    trainer = mmrl(f"{NODE}.LAMBDA", 1e6)
    batch = next(iter(trainer.train_loader_x))
    with torch.no_grad():
        for p in trainer.trained_parameters().values():
            p += 0.1 * torch.randn_like(p)
    maps = list(trainer.model.representation.to_text.parameters())
    loss, _ = trainer.loss(batch["img"], batch["label"])
    found = torch.autograd.grad(loss / 1e6, maps)
    alone = torch.autograd.grad(mean_distance(trainer.text_features(), trainer.t0), maps)
    for gradient, expected in zip(found, alone, strict=True):
        assert (gradient - expected).norm() <= 1e-3 * expected.norm()


def test_where_the_learned_tensors_start(mmrl, small_clip):
    learned = mmrl().model.representation
    assert 0.01 < learned.tokens.std().item() < 0.03
    for maps in (learned.to_image, learned.to_text):
        first, second = maps
        assert torch.equal(first.weight, second.weight) and first.weight is not second.weight
    proj = plain_clip(small_clip).visual.proj
    assert not torch.allclose(learned.proj, proj) and 0.1 < learned.proj.std().item() < 0.15  # 64^-0.5
    assert torch.equal(mmrl(f"{NODE}.PROJ_INIT", "clip").model.representation.proj, proj)


# Inference ------------------------------------------------------------------------------------------


@torch.no_grad()
def both_logits(trainer, images):
    """What v and r say, each alone."""
    t, (v, r) = trainer.text_features(), trainer.both_image_features(images)
    return trainer.clip.logits(v, t), trainer.clip.logits(r, t)


@pytest.fixture
def trained(mmrl, tmp_path):
    trainer = mmrl("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
    trainer.train()
    return trainer


def said_of(trainer):
    """A test's logits of some images, and those of v and of r."""
    images = next(iter(trainer.test_loader))["img"][:8]
    with torch.no_grad():
        return trainer.model_inference(images), *both_logits(trainer, images)


def test_classes_of_the_training_have_both_logits_and_new_ones_those_of_clips_token(trained, mmrl, tmp_path):
    logits, of_v, of_r = said_of(trained)
    torch.testing.assert_close(logits, 0.7 * of_v + 0.3 * of_r)

    for classes, as_trained in (("base", True), ("new", False), ("all", False)):
        trainer = mmrl("--eval-only", "--protocol=few_shot", "DATASET.SUBSAMPLE_CLASSES", classes)
        trainer.load_model(tmp_path / "run")
        logits, of_v, of_r = said_of(trainer)
        assert trainer.is_as_trained == as_trained
        torch.testing.assert_close(logits, 0.7 * of_v + 0.3 * of_r if as_trained else of_v)
        assert trainer.describe()["inference"] == "decoupled"


def test_other_images_of_the_same_classes_are_another_data_set(trained, mmrl, tmp_path):
    trainer = mmrl("--eval-only", "--protocol=few_shot", "DATASET.SUBSAMPLE_CLASSES", "base")
    trainer.load_model(tmp_path / "run")
    trainer.cfg.defrost()
    trainer.cfg.DATASET.NAME = "DemoV2"
    assert not trainer.is_as_trained


# Settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_set", LAMBDA)
def test_recipes_say_what_the_release_says(data_set):
    keys = ("OPTIM.MAX_EPOCH", "DATALOADER.TRAIN_X.BATCH_SIZE", f"{NODE}.LAMBDA", f"{NODE}.WIDTH")

    def settings(protocol):
        recipe, trained_by = load_recipe("MMRL", protocol, data_set, 16)
        return [recipe[key] for key in keys], trained_by

    lam, width = LAMBDA[data_set], 2048 if data_set == "EuroSAT" else 512
    imagenet = data_set == "ImageNet"
    assert settings("base2new") == ([5, 32, lam, width] if imagenet else [10, 4, lam, width], "base2new")
    assert settings("few_shot") == ([5 if imagenet else 50, 32, lam, width], "few_shot")
    assert settings("cross_dataset") == settings("domain_shift") == ([1, 32, 0.2, 512], "cross_dataset")
    assert load_recipe("MMRL", "cross_dataset", data_set, 16)[0]["OPTIM.WARMUP_EPOCH"] == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (("FIRST_LAYER", 4), "FIRST_LAYER is 4, but .* 3 blocks; choose 1 to 3"),
        (("FIRST_LAYER", 0), "FIRST_LAYER is 0; choose at least 1"),
        (("N_TOKENS", 0), "N_TOKENS is 0; choose at least 1"),
        (("ALPHA", 1.5), "ALPHA is 1.5; choose a share"),
        (("PROJ_INIT", "clib"), "PROJ_INIT is 'clib'; choose random or clip"),
        (("LOGIT_SCALE", -1.0), "LOGIT_SCALE is -1.0"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(words, message, mmrl):
    with pytest.raises(ValueError, match=message):
        mmrl(f"{NODE}.{words[0]}", words[1])
