"""Frozen weights under autocast: cast once, in the bits of autocast, and nobody else notices."""

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clipfit.clip import CLIP
from clipfit.modules import ModifiedResNet, ResidualAttentionBlock, casts
from clipfit.modules.casts import Linear, for_matmul, in_precision
from clipfit.prompts import fill, tokenize

DTYPES = [torch.bfloat16, torch.float16]


def layer(trains: bool = False) -> Linear:
    torch.manual_seed(0)
    return Linear(8, 4).requires_grad_(trains)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("image_tower", ["vit", "resnet"])
def test_features_and_gradients_have_the_bits_of_autocasts_own_casts(tiny_model, image_tower, dtype):
    model = copy.deepcopy(tiny_model)
    if image_tower == "resnet":
        if dtype == torch.float16:
            pytest.skip("slow on a CPU")
        model.visual = small_resnet()
    clip = CLIP(model).eval().requires_grad_(False)
    names = ["cat", "golden retriever", "dog"]
    prompts = clip.embed_prompts(tokenize(fill("a photo of a {}.", names), names))
    trained = [p for name, p in clip.named_parameters() if name.endswith(("c_proj.bias", "ln_1.weight"))]
    for parameter in trained:
        parameter.requires_grad_(True)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def computed():
        with torch.autocast("cpu", dtype):
            features = torch.cat([clip.encode_image(images), clip.text_encoder(prompts)])
        return features.detach(), torch.autograd.grad(features.float().square().sum(), trained)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(casts, "in_precision", lambda weight, dtype: weight)  # autocast casts by itself
        expected, expected_gradients = computed()
    for _ in range(2):
        features, gradients = computed()
        assert torch.equal(features, expected)
        assert all(map(torch.equal, gradients, expected_gradients))
    assert all(tensor.dtype == torch.float32 for tensor in clip.state_dict().values() if tensor.dim())


def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    return ModifiedResNet((1, 1, 1, 1), 32, 2, 32, 8).eval()


def test_a_frozen_weight_is_cast_once():
    weight = layer().weight
    with torch.autocast("cpu", torch.bfloat16):
        first = for_matmul(weight)
        assert first.dtype == torch.bfloat16 and for_matmul(weight) is first
        assert torch.equal(first, weight.to(torch.bfloat16))
    with torch.autocast("cpu", torch.float16):
        assert for_matmul(weight).dtype == torch.float16


def test_outside_of_autocast_and_while_it_trains_a_weight_is_itself():
    linear = layer()
    assert for_matmul(linear.weight) is linear.weight and for_matmul(None) is None
    with torch.autocast("cpu", torch.bfloat16):
        linear.requires_grad_(True)
        assert for_matmul(linear.weight) is linear.weight
        linear(torch.ones(1, 8)).sum().backward()
        assert linear.weight.grad.dtype == torch.float32
        half = layer().half()
        assert for_matmul(half.weight) is half.weight


@pytest.mark.parametrize("change", ["in place", "loaded", "trained in between", "moved", "another tensor"])
def test_a_changed_weight_is_cast_anew(change):
    linear, x = layer(), torch.ones(1, 8)
    with torch.autocast("cpu", torch.bfloat16):
        before = linear(x)
        if change == "in place":
            with torch.no_grad():
                linear.weight.mul_(2.0)
        elif change == "loaded":
            linear.load_state_dict({name: 2 * tensor for name, tensor in linear.state_dict().items()})
        elif change == "trained in between":
            linear.requires_grad_(True)
            linear(x).sum().backward()
            torch.optim.SGD(linear.parameters(), lr=1.0).step()
            linear.requires_grad_(False)
        elif change == "moved":
            linear.weight.data = 2 * linear.weight.data
        else:
            linear.weight = nn.Parameter(2 * linear.weight, requires_grad=False)
        after = linear(x)
        assert not torch.equal(before, after)
        assert torch.equal(after, F.linear(x, linear.weight, linear.bias))


def test_a_copy_made_in_inference_mode_serves_a_training():
    linear = layer()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        linear(torch.ones(1, 8))
    x = torch.ones(1, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        linear(x).sum().backward()
    assert x.grad.isfinite().all()


def test_copies_live_no_longer_than_their_weights():
    gc.collect()
    before = len(casts._copies)
    linear = layer()
    in_precision(linear.weight, torch.bfloat16)
    assert len(casts._copies) == before + 1
    del linear
    gc.collect()
    assert len(casts._copies) == before


def test_the_draws_of_a_random_model_are_those_of_before():
    """Layers that take over weights draw none: every `random:` backbone has the values it always had."""
    torch.manual_seed(0)
    block = ResidualAttentionBlock(8, 2)
    torch.manual_seed(0)
    attn, c_fc = nn.MultiheadAttention(8, 2), nn.Linear(8, 32)
    assert torch.equal(block.attn.out_proj.weight, attn.out_proj.weight)
    assert torch.equal(block.mlp.c_fc.weight, c_fc.weight)
