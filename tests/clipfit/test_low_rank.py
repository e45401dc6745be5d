"""Low-rank changes against weights that were changed by hand."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from clipfit import chunks
from clipfit.clip import CLIP
from clipfit.fit.names import openai_changes
from clipfit.groups import count
from clipfit.low_rank import LINEAR, MAPS, PACKED, add_low_rank, changes, merge
from clipfit.low_rank_files import read_released, write_released
from clipfit.prompts import tokenize

ALL = [f"{tower}.{name}" for tower in ("text", "image") for name in MAPS]
QKV = [f"{tower}.{name}" for tower in ("text", "image") for name in PACKED]
NAMES = ["a cat", "a very long name of a dog", "an owl"]


@pytest.fixture
def plain(tiny_model):
    """Three blocks in each tower, without changes."""
    return CLIP(copy.deepcopy(tiny_model)).eval().requires_grad_(False)


@pytest.fixture
def changed(plain):
    """Give a copy of the plain model changes that are not zero."""

    def make(maps, rank=3, scale=0.7, dropout=0.0):
        torch.manual_seed(3)
        clip = copy.deepcopy(plain)
        for found in add_low_rank(clip, maps, rank, scale, dropout).values():
            for change in found:
                torch.nn.init.normal_(change.up, std=0.3)
        return clip

    return make


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def features(clip):
    prompts = clip.embed_prompts(tokenize(NAMES, NAMES))
    return torch.cat([clip.encode_image(IMAGES), clip.text_encoder(prompts)])


def by_hand(clip, changed):
    """The plain model with scale * up down added to its weights, wherever the changed one has a change."""
    clip, modules = copy.deepcopy(clip), dict(changed.named_modules())
    width = clip.text_encoder.ln_final.weight.shape[0]
    with torch.no_grad():
        for name, module in modules.items():
            owner, _, part = name.rpartition(".low_rank.")
            if not owner or "." in part:
                continue
            change = module.scale * module.up @ module.down
            if part == "all":
                clip.get_parameter(f"{owner}.weight").add_(change)
            else:
                first = "qkv".index(part) * width
                clip.get_parameter(f"{owner}.in_proj_weight")[first : first + width] += change
    return clip


def test_at_first_nothing_changes_and_only_the_second_factor_has_a_gradient(plain):
    clip = copy.deepcopy(plain)
    added = add_low_rank(clip, ALL, rank=2, scale=1.0)
    found = features(clip)
    torch.testing.assert_close(found, features(plain), rtol=1e-5, atol=1e-5)
    found.square().sum().backward()
    for change in (one for each in added.values() for one in each):
        assert not change.down.grad.any() and change.up.grad.any()
        bound = 1 / math.sqrt(change.down.shape[1])
        assert 0.8 * bound < change.down.abs().max() <= bound


@pytest.mark.parametrize("maps", [ALL, QKV, ["text.k[1]", "image.out[0,2]"], ["image.v", "text.ffn_out"]])
def test_the_model_is_that_with_changed_weights_and_merges_into_it(maps, plain, changed):
    clip = changed(maps)
    expected = features(by_hand(plain, clip))
    assert (expected - features(plain)).abs().max() > 0.1
    torch.testing.assert_close(features(clip), expected, rtol=1e-4, atol=1e-4)
    merge(clip)
    torch.testing.assert_close(features(clip), expected, rtol=1e-4, atol=1e-4)
    assert clip.state_dict().keys() == plain.state_dict().keys() and not list(changes(clip))


def test_dropout_is_on_the_input_of_each_change_and_in_training_only(plain, changed):
    clip = changed(QKV, dropout=0.5)
    without = features(clip)
    assert torch.equal(features(clip), without)
    clip.train()
    assert clip.training is False  # nothing but the dropout acts in training
    torch.manual_seed(1)
    drawn = features(clip)
    torch.manual_seed(1)
    assert torch.equal(features(clip), drawn) and not torch.allclose(features(clip), drawn)
    clip.eval()
    assert torch.equal(features(clip), without)

    zero = copy.deepcopy(plain)  # the frozen path sees the whole input
    add_low_rank(zero, QKV, 2, 1.0, dropout=0.5)
    zero.train()
    torch.testing.assert_close(features(zero), features(plain), rtol=1e-5, atol=1e-5)


def test_q_k_and_v_have_masks_of_their_own_whose_mean_is_the_input(plain):
    clip = copy.deepcopy(plain)
    add_low_rank(clip, ["image.q[0]", "image.k[0]", "image.v[0]"], 2, 1.0, dropout=0.25)
    clip.train()
    found = clip.image_encoder.transformer.resblocks[0].attn.low_rank
    x = torch.ones(400, 128)
    masks = [found[part].dropout(x) for part in PACKED]
    for mask in masks:
        assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
        assert mask.mean() == pytest.approx(1, abs=0.02)
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])


ROWS = 10  # fewer than the prompts have


def test_chunks_that_are_computed_twice_draw_the_same_masks(changed):
    clip = changed(["text.q", "text.v"], dropout=0.5)
    clip.train()
    prompts = clip.embed_prompts(tokenize(NAMES, NAMES))
    trained = [one for change in changes(clip) for one in (change.down, change.up)]
    torch.manual_seed(5)
    found = torch.autograd.grad(chunks.encode(clip.text_encoder, prompts, rows=ROWS).square().sum(), trained)
    torch.manual_seed(5)
    parts, _ = prompts.layout.parts(ROWS // chunks.CHUNKS)
    assert len(parts) > 1
    features = [clip.text_encoder(prompts, part) for part in parts]
    expected = torch.autograd.grad(torch.cat(features).square().sum(), trained)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_half_precision_keeps_the_factors_in_single(tiny_model):
    from clipfit.modules import convert_weights

    model = copy.deepcopy(tiny_model)
    convert_weights(model)
    clip = CLIP(model).eval().requires_grad_(False)
    before = clip.encode_image(IMAGES)
    add_low_rank(clip, ["image.q", "image.ffn_in"], 2, 1.0)
    assert {change.down.dtype for change in changes(clip)} == {torch.float32}
    assert F.cosine_similarity(clip.encode_image(IMAGES).float(), before.float()).min() > 0.999


def test_count_of_query_key_and_value_on_vit_b16(vit_b16):
    clip = copy.deepcopy(vit_b16).requires_grad_(False)
    added = add_low_rank(clip, QKV, rank=2, scale=2**-0.5)
    values = {
        tower: sum(count(change.parameters()) for change in sum((added[f"{tower}.{p}"] for p in PACKED), []))
        for tower in ("text", "image")
    }
    assert values == {"text": 73_728, "image": 110_592}
    assert count(p for p in clip.parameters() if p.requires_grad) == 184_320


@pytest.mark.parametrize(
    "name, message",
    [
        ("text.query", "unknown map 'text.query'; .*a map is tower.kind.* q, k, v, out, ffn_in or ffn_out"),
        ("image.q[3]", "3 is out of range; there are 3 transformer blocks"),
    ],
)
def test_what_is_no_map_is_refused(name, message, plain):
    with pytest.raises(ValueError, match=message):
        add_low_rank(plain, [name], 2, 1.0)


def test_every_map_that_has_a_name_has_a_place():
    assert set(MAPS) == {*PACKED, *LINEAR}


def test_a_map_is_named_once_and_resnets_have_none(plain, rn50):
    with pytest.raises(ValueError, match="q of a block is named twice"):
        add_low_rank(copy.deepcopy(plain), ["image.q", "image.q[0]"], 2, 1.0)
    with pytest.raises(ValueError, match="out of a block is named twice"):
        add_low_rank(copy.deepcopy(plain), ["image.out", "image.out[0]"], 2, 1.0)
    with pytest.raises(ValueError, match="image.q: this image tower is a ResNet"):
        add_low_rank(rn50, ["image.q"], 2, 1.0)


# Files of the release -------------------------------------------------------------------------------


@pytest.mark.parametrize("maps", [QKV, ["text.q", "text.v"], ["image.k"]])
def test_a_file_of_the_release_is_written_and_read(maps, plain, changed, tmp_path):
    clip = changed(maps, rank=2, scale=2**-0.5)
    write_released(tmp_path / "lora_weights.pt", openai_changes(clip))
    content = torch.load(tmp_path / "lora_weights.pt", weights_only=True)
    assert content["metadata"]["r"] == 2 and content["metadata"]["alpha"] == pytest.approx(1)
    towers = {name.partition(".")[0] for name in maps}
    assert list(content["weights"]) == [f"layer_{number}" for number in range(3 * len(towers))]
    if maps == QKV:  # text first
        first = clip.text_encoder.transformer.resblocks[0].attn.low_rank["k"]
        assert torch.equal(content["weights"]["layer_0"]["k_proj"]["w_lora_A"], first.down)
        last = clip.image_encoder.transformer.resblocks[2].attn.low_rank["v"]
        assert torch.equal(content["weights"]["layer_5"]["v_proj"]["w_lora_B"], last.up)
    written = {(c.name, c.part): c for c in openai_changes(clip)}
    read = {(c.name, c.part): c for c in read_released(tmp_path / "lora_weights.pt", text_blocks=3)}
    assert read.keys() == written.keys()
    for key, change in read.items():
        assert torch.equal(change.down, written[key].down) and torch.equal(change.up, written[key].up)
        assert change.scale == pytest.approx(2**-0.5)


def test_what_the_release_s_files_cannot_hold_is_refused(changed, tmp_path):
    for maps in (["image.out"], ["image.q[1]"], ["image.q", "image.k[0]"]):
        with pytest.raises(ValueError, match="the release's files hold"):
            write_released(tmp_path / "x.pt", openai_changes(changed(maps)))
    assert not (tmp_path / "x.pt").exists()
    for content in ({"weights": {}}, {"weights": {}, "metadata": {"r": 0}}, [1]):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(ValueError, match=r"x.pt is no file of low-rank changes"):
            read_released(tmp_path / "x.pt", text_blocks=3)
