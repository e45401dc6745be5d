"""The script behind the embedded backbone, and the file that it made."""

import importlib.util
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from clipfit.loading import load_clip
from clipfit.prompts import ENSEMBLE, PLAIN, fill, tokenize
from datasets import demo
from launch.registered import data_sets

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "clipfit" / "demo.pt"


@pytest.fixture(scope="module")
def pretrain():
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "scripts" / "demo" / "pretrain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def checkpoint():
    return torch.load(CHECKPOINT, weights_only=True)


def test_no_class_of_a_data_set_is_shown_but_all_of_their_words_are(pretrain):
    shown = pretrain.class_names()
    assert not set(shown) & set(demo.HELD_OUT)
    words = {word for name in shown for word in name.split()}
    assert {word for name in demo.HELD_OUT for word in name.split()} <= words


def test_cloth_is_named_in_one_order_so_that_no_held_out_one_is_shown_mirrored(pretrain):
    pairs = {tuple(name.split()[:3:2]) for name in (*pretrain.class_names(), *demo.CLOTH) if "cloth" in name}
    assert not pairs & {pair[::-1] for pair in pairs}


def test_captions_come_in_every_template_and_behind_contexts(pretrain):
    rng = np.random.default_rng(0)
    seen = {pretrain.write_captions(["plain red fish"], rng, 0)[0] for _ in range(1000)}
    templates = {PLAIN, *ENSEMBLE, *(t for one in data_sets() for t in one.facts.templates.values())}
    assert seen == {template.format("plain red fish") for template in templates}
    (caption,) = pretrain.write_captions(["plain red fish"], rng, 16)
    assert len(caption.split("plain red fish")[0].split()) >= 16


def test_loss_equals_the_sum_over_pairs_written_out(pretrain):
    logits, rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 2])
    over_texts, over_images = logits.softmax(dim=1).log(), logits.softmax(dim=0).log()
    images = -sum(over_texts[b, rows[b]] for b in range(4)) / 4
    texts = -((over_images[0, 0] + over_images[1, 0]) / 2 + over_images[2, 1] + over_images[3, 2]) / 3
    torch.testing.assert_close(pretrain.contrastive_loss(logits, rows), (images + texts) / 2)


def test_two_steps_train_and_give_the_same_numbers_twice(pretrain):
    names = ["plain red fish", "dotted blue star", "red circle sign with a star", "red and blue wavy cloth"]
    pictures = np.stack([pretrain.render((name, 2, 1)) for name in names])
    known = pretrain.known_tokens(names)
    args = Namespace(steps=2, classes=4, per_class=2, lr=1e-3, seed=1)

    def run():
        torch.manual_seed(1)
        model = pretrain.new_model(len(known))
        before = model.text_projection.detach().clone()
        pretrain.train(model, pretrain.batches(names, pictures, known, args), args)
        assert (model.text_projection != before).any()
        return pretrain.openai_state(model, known)

    first, second = run(), run()
    assert all(torch.equal(first[name], second[name]) for name in first)
    trained = first["token_embedding.weight"].ne(0).any(dim=1).nonzero().flatten()
    assert trained.tolist() == known[1:].tolist()


# clipfit/demo.pt


def test_checkpoint_is_small_half_precision_and_finite(checkpoint):
    assert CHECKPOINT.stat().st_size < 5e6
    assert all(tensor.dtype == torch.half and tensor.isfinite().all() for tensor in checkpoint.values())


def test_checkpoint_knows_exactly_the_tokens_of_its_captions(pretrain, checkpoint):
    rows = checkpoint["token_embedding.weight"].ne(0).any(dim=1).nonzero().flatten()
    assert rows.tolist() == pretrain.known_tokens(pretrain.class_names())[1:].tolist()


def test_checkpoint_has_twelve_blocks_a_tower_and_a_logit_scale_of_100(checkpoint):
    for tower in ("transformer", "visual.transformer"):
        assert sum(name.startswith(f"{tower}.resblocks.") for name in checkpoint) == 12 * 12
    assert checkpoint["logit_scale"].exp().item() == pytest.approx(100, rel=0.01)


@torch.no_grad()
def test_checkpoint_recognizes_clean_pictures_of_classes_it_never_saw(pretrain):
    clip = load_clip("demo")
    pictures = np.concatenate([pretrain.render((name, 4, k)) for k, name in enumerate(demo.DEMO)])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (pretrain.MEAN, pretrain.STD))
    texts = clip.text_encoder(clip.embed_prompts(tokenize(fill(PLAIN, demo.DEMO), demo.DEMO)))
    logits = clip.logits(clip.encode_image((pixels - mean) / std), texts)
    labels = torch.arange(len(demo.DEMO)).repeat_interleave(4)
    assert (logits.argmax(dim=1) == labels).float().mean() > 0.6  # chance: 0.05
