"""2SFS against its formulas, written out plainly."""

import math

import pytest
import torch
from torch.nn import functional as F

import clipfit
from clipfit.fit.files import fit_folder, read_fit
from clipfit.prompts import fill
from launch.resolve import load_recipe
from tests.trainers.plain import embed, encode, plain_clip, record_training, unit

EPS, BETAS, DECAY, LOWEST = 1e-8, (0.9, 0.999), 0.01, 1e-6
STAGE = (
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    48,
    "OPTIM.MAX_EPOCH",
    2,
)  # 160 images: 8 steps, 4 in stage 1


@pytest.fixture
def two_stage(build, small_clip):
    return lambda *words, **more: build("TwoStage", f"--backbone={small_clip}", *words, **more)


class AdamW:
    """The formulas, over a list of tensors, with half a cosine from lr to LOWEST over the steps."""

    def __init__(self, tensors, lr, steps):
        self.tensors, self.lr, self.steps, self.t = tensors, lr, steps, 0
        self.m, self.v = ([torch.zeros_like(tensor) for tensor in tensors] for _ in range(2))

    @torch.no_grad()
    def step(self, gradients):
        (b1, b2), t = BETAS, self.t
        lr = LOWEST + (self.lr - LOWEST) * (1 + math.cos(math.pi * t / self.steps)) / 2
        self.t += 1
        for i, (tensor, gradient) in enumerate(zip(self.tensors, gradients, strict=True)):
            self.m[i] = b1 * self.m[i] + (1 - b1) * gradient
            self.v[i] = b2 * self.v[i] + (1 - b2) * gradient**2
            tensor -= lr * DECAY * tensor
            root = (self.v[i] / (1 - b2**self.t)).sqrt() + EPS
            tensor -= lr * self.m[i] / (1 - b1**self.t) / root


def block_norms(model):
    norms = [
        norm
        for tower in (model.transformer, model.visual.transformer)
        for block in tower.resblocks
        for norm in (block.ln_1, block.ln_2)
    ]
    return [p.requires_grad_(True) for norm in norms for p in (norm.weight, norm.bias)]


def test_the_loss_follows_the_formulas_in_both_stages(two_stage, small_clip):
    trainer = two_stage(*STAGE, "OPTIM.LR", 0.002)
    steps, summaries = record_training(trainer)
    model = plain_clip(small_clip)
    trained, scale = block_norms(model), model.logit_scale.exp()
    tokens, rows = embed(model, fill("a photo of a {}.", trainer.classnames))
    first = int(0.6 * len(steps))
    assert (len(steps), first) == (8, 4)  # and no batch is left out

    optimizer, expected = AdamW(trained, 0.002, first), []
    for _, images, labels in steps[:first]:
        logits = scale * unit(model.encode_image(images)) @ encode(model, rows, tokens).t()
        loss = F.cross_entropy(logits, labels)
        optimizer.step(torch.autograd.grad(loss, trained))
        expected.append(loss.item())
    w = encode(model, rows, tokens).detach().requires_grad_(True)
    optimizer = AdamW([w], 0.002, len(steps) - first)
    for _, images, labels in steps[first:]:
        loss = F.cross_entropy(scale * unit(model.encode_image(images)).detach() @ unit(w).t(), labels)
        optimizer.step(torch.autograd.grad(loss, [w]))
        expected.append(loss.item())
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=2e-4)
    torch.testing.assert_close(trainer.model.head.weight, w, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shots, first, second", [(1, 180, 120), (16, 2880, 1920)])
def test_the_budget_is_shared_by_the_stages_whatever_the_data_set(shots, first, second, two_stage):
    trainer = two_stage("OPTIM.MAX_STEPS", 300 * shots, "DATASET.NUM_SHOTS", shots)
    assert [stage.steps for stage in trainer.stages.all] == [first, second]


def test_the_recipe_has_300_steps_per_shot():
    for protocol in ("base2new", "few_shot"):
        settings, _ = load_recipe("TwoStage", protocol, "EuroSAT", 4)
        assert settings["OPTIM.MAX_STEPS"] == 1200


def test_the_classifier_starts_where_the_towers_stand_and_leaves_new_classes_alone(two_stage):
    trainer = two_stage(*STAGE, "TEST.NO_TEST", True)
    images = next(iter(trainer.test_loader))["img"][:6]
    seen, original = [], trainer.begin_stage

    def recording(number):
        before, others = trainer.model_inference(images), text_of(trainer, ["a zebra", "an okapi"])
        original(number)
        seen.extend((before, trainer.model_inference(images), others))

    trainer.begin_stage = recording
    trainer.train()
    before, after, others = seen
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert torch.equal(text_of(trainer, ["a zebra", "an okapi"]), others)
    assert not torch.allclose(trainer.model_inference(images), after)  # stage 2 has moved the rows


@torch.no_grad()
def text_of(trainer, names):
    """Features that the model has for other classes."""
    known, prompts = trainer.classnames, trainer.prompts
    trainer.classnames = names
    trainer.prompts = trainer.clip.embed_prompts(trainer.tokenize(trainer.template))
    features = trainer.text_features()
    trainer.classnames, trainer.prompts = known, prompts
    return features


@pytest.mark.parametrize(
    "groups, share, values, counted",
    [
        ("['text.block_layernorm', 'image.block_layernorm']", 0.6, 61_440, 61_440 + 10 * 512),
        ("['text.layernorm', 'image.layernorm']", 1.0, 65_536, 65_536),
        ("['text.module_bias', 'image.module_bias']", 1.0, 124_928, 124_928),
    ],
)
def test_counts_on_vit_b16(groups, share, values, counted, build, shared_random_weights):
    words = ("TRAINER.TWOSTAGE.UNFREEZE", groups, "TRAINER.TWOSTAGE.SHARE", share)
    trainer = build("TwoStage", "--backbone=random:ViT-B/16", *words)
    assert sum(p.numel() for p in trainer.trained_parameters().values()) == values
    assert trainer.count_trained_parameters() == counted


def test_one_stage_tests_by_the_text_tower(two_stage, result):
    trainer = two_stage(*STAGE, "TRAINER.TWOSTAGE.SHARE", 1.0)
    trainer.train()
    assert result(trainer.output_dir)["inference"] == "unified"
    assert not hasattr(trainer.model, "head") and len(trainer.stages.all) == 1
    assert read_fit(fit_folder(trainer.output_dir)).facts["features"] == "text"


def test_low_rank_changes_can_train_in_the_first_stage(two_stage):
    words = ("TRAINER.TWOSTAGE.UNFREEZE", "[]", "TRAINER.TWOSTAGE.LOW_RANK", "['text.q', 'image.v']")
    trainer = two_stage(*STAGE, *words)
    assert all(".low_rank." in name for name in trainer.trained_parameters())
    trainer.train()
    assert list(trainer.trained_parameters()) == ["head.weight"]
    kinds = {name.partition(".")[0] for name in read_fit(fit_folder(trainer.output_dir)).tensors}
    assert kinds == {"delta", "class_features"}


def test_base_classes_have_trained_rows_and_new_ones_text_features(run_train, result, tmp_path):
    quick = ("OPTIM.MAX_EPOCH", 3, "DATASET.NUM_SHOTS", 4)
    words = ("--trainer", "TwoStage", "--protocol", "base2new", "--seed", 1)
    assert run_train(*words, *quick) is None
    assert run_train(*words, "--eval-only", *quick) is None
    (base, new) = (
        next((tmp_path / f"output/base2new/{place}").glob("**/seed1")) for place in ("train_base", "test_new")
    )
    assert [result(run)["inference"] for run in (base, new)] == ["per-class", "per-class"]
    facts = [read_fit(fit_folder(run)).facts for run in (base, new)]
    assert [one["features"] for one in facts] == ["trained", "text"]
    assert [one["seen"] for one in facts] == [list(range(10)), []]

    on_base, on_new = clipfit.load(base), clipfit.load(new)
    mixed = on_base.with_classes([on_new.classes[0], on_base.classes[3]])
    assert (mixed.facts["features"], mixed.facts["seen"]) == ("mixed", [1])
    expected = torch.stack([on_new.class_features[0], on_base.class_features[3]])
    torch.testing.assert_close(mixed.class_features, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "words, message",
    [
        (("SHARE", 1.5), "SHARE is 1.5; choose a share"),
        (("UNFREEZE", "[]"), "UNFREEZE and LOW_RANK are empty"),
        (("LOW_RANK", "['text.w']"), "LOW_RANK: unknown map 'text.w'"),
        (("RANK", 0), "RANK is 0"),
        (("DROPOUT", 1.0), "DROPOUT is 1.0"),
        (
            ("PREC", "fp16", "TRAINER.TWOSTAGE.UNFREEZE", "['text.bias']"),
            "epsilon is zero; choose amp",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(words, message, two_stage):
    with pytest.raises(ValueError, match=message):
        two_stage(f"TRAINER.TWOSTAGE.{words[0]}", *words[1:])
