"""CLIP-LoRA against its formulas, written out plainly."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import clipfit
from clipfit.fit.compare import average, changes
from clipfit.fit.files import fit_folder, read_fit
from clipfit.low_rank import merge
from clipfit.prompts import fill
from launch.resolve import load_recipe
from tests.trainers.plain import embed, encode, plain_clip, record_training, unit
from tests.trainers.test_two_stage import AdamW

FULL = ("TRAINER.CLIPLORA.LOGIT_SCALE", 100.0)
WITHOUT_DROPOUT = (*FULL, "TRAINER.CLIPLORA.DROPOUT", 0.0)
NODE = "TRAINER.CLIPLORA"


@pytest.fixture
def lora(build, small_clip):
    return lambda *words, **more: build("CLIPLoRA", f"--backbone={small_clip}", *words, **more)


class PlainAttention(torch.nn.Module):
    """q, k and v with A and B of their own, scores and softmax written out."""

    def __init__(self, attn, low):
        super().__init__()
        self.attn, self.factors = attn, {part: (low[part].down, low[part].up) for part in "qkv"}
        self.factors = {
            part: tuple(f.detach().clone().requires_grad_(True) for f in pair)
            for part, pair in self.factors.items()
        }

    def forward(self, query, key, value, need_weights=False, attn_mask=None):
        x, (length, count, width) = query, query.shape
        rows = {}
        for number, part in enumerate("qkv"):
            some = slice(number * width, (number + 1) * width)
            a, b = self.factors[part]
            change = (x @ a.t()) @ b.t() / math.sqrt(2)
            rows[part] = x @ self.attn.in_proj_weight[some].t() + self.attn.in_proj_bias[some] + change
        heads = {part: row.reshape(length, count, self.attn.num_heads, -1) for part, row in rows.items()}
        scores = torch.einsum("ibhd,jbhd->bhij", heads["q"], heads["k"]) / math.sqrt(heads["q"].shape[-1])
        if attn_mask is not None:
            scores = scores + attn_mask
        mixed = torch.einsum("bhij,jbhd->ibhd", scores.softmax(dim=-1), heads["v"])
        return self.attn.out_proj(mixed.reshape(length, count, width)), None


class PlainBlock(torch.nn.Module):
    """A block with another attention; where the first rows are asked for, it computes all."""

    def __init__(self, block, attn):
        super().__init__()
        self.block, self.attn = block, attn

    def forward(self, rows, mask=None, first=None):
        seen = self.block.ln_1(rows)
        rows = rows + self.attn(seen, seen, seen, attn_mask=mask)[0]
        return (rows + self.block.mlp(self.block.ln_2(rows)))[:first]


def plain_lora(path, trainer):
    """The whole model with the trainer's first factors, and these."""
    model, factors = plain_clip(path), []
    towers = (
        (model.transformer, trainer.clip.text_encoder.transformer),
        (model.visual.transformer, trainer.clip.image_encoder.transformer),
    )
    for tower, ours in towers:
        for number, other in enumerate(ours.resblocks):
            block = tower.resblocks[number]
            attn = PlainAttention(block.attn, other.attn.low_rank)
            tower.resblocks[number] = PlainBlock(block, attn)
            factors += [factor for pair in attn.factors.values() for factor in pair]
    return model, factors


def test_the_loss_follows_the_formulas_step_by_step(lora, small_clip):
    trainer = lora(*WITHOUT_DROPOUT, "OPTIM.MAX_EPOCH", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 48)
    model, factors = plain_lora(small_clip, trainer)
    tokens, rows = embed(model, fill("a photo of a {}.", trainer.classnames))
    steps, summaries = record_training(trainer)
    assert len(steps) == 2 * 4  # 160 images, and no batch is left out
    optimizer, expected = AdamW(factors, trainer.cfg.OPTIM.LR, len(steps)), []
    for number, (_, images, labels) in enumerate(steps):
        logits = 100 * unit(model.encode_image(images)) @ encode(model, rows, tokens).t()
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, factors)
        assert number > 0 or not any(gradient.any() for gradient in gradients[::2])  # of A, as B is 0
        optimizer.step(gradients)
        expected.append(loss.item())
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-3)


def test_the_first_logits_are_those_of_zero_shot_clip(build, lora, small_clip):
    trainer = lora()
    template = ("DATASET.PROMPT_TEMPLATE", "a photo of a {}.")
    zero_shot = build("ZeroshotCLIP", f"--backbone={small_clip}", *template)
    images = next(iter(trainer.test_loader))["img"][:8]
    with torch.no_grad():
        found, expected = trainer.model_inference(images), zero_shot.model_inference(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_dropout_acts_in_training_and_follows_from_seed_epoch_and_batch(lora, tmp_path):
    losses = {}
    for name, words in (("drawn", ()), ("again", ()), ("none", ("TRAINER.CLIPLORA.DROPOUT", 0.0))):
        trainer = lora(f"--output-dir={tmp_path / name}", "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True, *words)
        torch.rand(len(name))  # whatever others draw
        losses[name] = [summary["loss"] for summary in record_training(trainer)[1]]
    assert losses["drawn"] == losses["again"]
    assert losses["drawn"][0] == pytest.approx(losses["none"][0])  # B is 0
    assert losses["drawn"][2] != losses["none"][2]


@pytest.mark.slow
def test_dropout_does_not_depend_on_the_number_of_workers(lora, tmp_path):
    losses = []
    for workers in (0, 1):
        words = ("OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True, "DATALOADER.NUM_WORKERS", workers)
        trainer = lora(f"--output-dir={tmp_path / str(workers)}", *words)
        losses.append([summary["loss"] for summary in record_training(trainer)[1]])
    assert losses[0] == losses[1]


def test_a_trained_model_merges_into_a_plain_clip(lora):
    trainer = lora("OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", True)
    trainer.train()
    trainer.set_model_mode("eval")
    images = next(iter(trainer.test_loader))["img"][:8]
    merged = copy.deepcopy(trainer.clip)
    merge(merged)
    with torch.no_grad():
        expected = trainer.model_inference(images)
        found = merged.logits(merged.encode_image(images), merged.text_encoder(trainer.prompts))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_fit_holds_the_factors_and_predicts_merged(run_train, tmp_path, result):
    words = ("--trainer", "CLIPLoRA", "--backbone", "demo", "--seed", 1, "--output-dir", "run")
    quick = ("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.01)
    assert run_train(*words, *quick) is None
    fit = read_fit(fit_folder(tmp_path / "run"))
    assert not fit.replaced and len(fit.deltas) == 3 * 24 and fit.facts["features"] == "text"
    values = sum(delta.down.numel() + delta.up.numel() for delta in fit.deltas)
    assert values == result(tmp_path / "run")["trainable_params"]
    assert [delta.scale for delta in fit.deltas] == pytest.approx([2**-0.5] * 72)
    assert fit.facts["logit_scale"] == pytest.approx(100)
    moved = changes(tmp_path / "run")
    assert len(moved) == 24 and all(change.name.endswith("attn.in_proj_weight") for change in moved)
    assert all(change.largest > 0 for change in moved)
    assert fit.facts["low_rank_dropout"] == 0.25
    average([str(tmp_path / "run"), str(tmp_path / "run")], tmp_path / "mean")
    of_both = clipfit.load(tmp_path / "mean").class_features
    torch.testing.assert_close(of_both, clipfit.load(tmp_path / "run").class_features, rtol=0, atol=1e-5)
    assert clipfit.load(tmp_path / "run").with_classes(["zebra"]).facts["features"] == "text"


def test_a_damaged_change_of_a_fit_is_refused_with_words(run_train, tmp_path):
    words = ("--trainer", "CLIPLoRA", "--backbone", "demo", "--seed", 1, "--output-dir", "run")
    assert run_train(*words, "DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1) is None
    path = tmp_path / "run/fit/model.safetensors"
    tensors = load_file(path)
    key = "delta.visual.transformer.resblocks.0.attn.in_proj_weight.q"
    elsewhere = key.replace("blocks.0", "blocks.99")
    nowhere = {f"{elsewhere}.{part}": tensors[f"{key}.{part}"].clone() for part in ("down", "up", "scale")}
    for change, message in (
        ({f"{key}.up": torch.zeros(7, 2)}, "a change of shape .* does not fit"),
        ({f"{key}.up": torch.zeros(64, 5)}, "do not multiply"),
        ({f"{key}.scale": torch.zeros(3)}, "needs down, up and one scale"),
        (nowhere, "the backbone has no visual.*blocks.99"),
        ({f"{key}.left": torch.zeros(3)}, "left' is no tensor of a fit"),
    ):
        save_file({**tensors, **change}, path)
        with pytest.raises(ValueError, match=message):
            clipfit.load(tmp_path / "run")


@pytest.mark.slow
def test_count_on_vit_b16(build, capsys):
    trainer = build("CLIPLoRA", "--backbone=random:ViT-B/16")
    assert trainer.count_trained_parameters() == 184_320
    assert "image.q: 36,864 parameters in 12 changes of rank 2" in capsys.readouterr().out


def test_the_recipe_has_500_steps_per_shot_and_the_factor_is_a_setting(lora):
    assert load_recipe("CLIPLoRA", "few_shot", "EuroSAT", 4)[0]["OPTIM.MAX_STEPS"] == 2000
    for scaling, factor in (("root", 4 / math.sqrt(8)), ("rank", 0.5)):
        trainer = lora(f"{NODE}.RANK", 8, f"{NODE}.ALPHA", 4.0, f"{NODE}.SCALING", scaling)
        block = trainer.clip.text_encoder.transformer.resblocks[0]
        assert block.attn.low_rank["q"].scale == pytest.approx(factor)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MAPS", "[]", "MAPS is empty"),
        ("MAPS", "['image.query']", "TRAINER.CLIPLORA.MAPS: unknown map 'image.query'"),
        ("RANK", 0, "RANK is 0; choose at least 1"),
        ("DROPOUT", 1.0, "DROPOUT is 1.0; choose a share"),
        ("SCALING", "none", "SCALING is 'none'; choose root or rank"),
        ("LOGIT_SCALE", -1.0, "LOGIT_SCALE is -1.0"),
    ],
)
def test_what_has_no_meaning_is_refused(key, value, message, lora):
    with pytest.raises(ValueError, match=message):
        lora(f"{NODE}.{key}", value)
