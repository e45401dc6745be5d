"""From a budget to how much goes through the towers at a time."""

import copy
import os

import pytest
import torch

from clipfit import memory
from clipfit.clip import CLIP
from clipfit.modules import OpenAIModel, convert_weights
from clipfit.prompts import fill, tokenize

RESNET = (48, 64, (1, 2, 1, 1), 64, None, 77, 49_408, 128, 2, 3)


def kept(function, parameters):
    """Numbers that automatic differentiation keeps of what `function` does, beside the parameters."""
    own, stored = {parameter.data_ptr() for parameter in parameters}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            stored[storage.data_ptr()] = tensor, storage.nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(count for _, count in stored.values())


@pytest.mark.parametrize("sizes", ["ViT", "ResNet"])
def test_towers_keep_what_they_say_for_an_image(sizes, tiny_model):
    clip = CLIP(copy.deepcopy(tiny_model) if sizes == "ViT" else OpenAIModel(*RESNET).eval())
    side, tower = clip.input_size, clip.image_encoder
    found = [
        kept(lambda count=count: tower(torch.zeros(count, 3, side, side)), tower.parameters())
        for count in (2, 4)
    ]
    each = (found[1] - found[0]) / 2
    assert each <= tower.kept_per_image <= 2 * each


def test_the_text_tower_keeps_what_it_says_for_a_row(tiny_model):
    clip = CLIP(copy.deepcopy(tiny_model))
    found = []
    for count in (20, 40):
        names = [f"{word} house tree car bird fish" for word in ("dog", "cat")] * (count // 2)
        prompts = clip.embed_prompts(tokenize(fill("{}.", names), names))
        found.append(
            (
                len(prompts.layout.positions),
                kept(lambda prompts=prompts: clip.text_encoder(prompts), clip.parameters()),
            )
        )
    each = (found[1][1] - found[0][1]) / (found[1][0] - found[0][0])
    assert 0.8 * each <= clip.text_encoder.kept_per_row <= 2 * each


def test_a_cpu_takes_4096_rows_and_8_images_of_vit_b16(vit_b16):
    sizes = memory.sizes(vit_b16, memory.MOST_ON_CPU)
    assert 4096 <= sizes.rows < 4200 and sizes.images == 8


def test_sizes_follow_the_budget_and_the_precision(tiny_model):
    clip, half = CLIP(tiny_model), copy.deepcopy(tiny_model)
    convert_weights(half)
    all_of_it, half_of_it = (memory.sizes(clip, gigabytes) for gigabytes in (1.0, 0.5))
    assert half_of_it.rows == all_of_it.rows // 2 and half_of_it.images == all_of_it.images // 2
    assert memory.sizes(CLIP(half), 0.5) == all_of_it
    assert memory.sizes(clip, 1e-9) == memory.Sizes(rows=1, images=1)


def test_a_tower_that_does_not_say_what_it_keeps_is_not_bounded(tiny_model):
    clip = CLIP(copy.deepcopy(tiny_model))
    clip.image_encoder = torch.nn.Flatten()
    assert memory.sizes(clip, 1.0).images > 1e9


@pytest.mark.parametrize("gigabytes, budget", [(4, 1.0), (8, 2.0), (512, memory.MOST_ON_CPU)])
def test_the_default_is_a_share_of_all_memory(gigabytes, budget, monkeypatch):
    pages = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": gigabytes * 1_000_000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    assert memory.default_budget(torch.device("cpu")) == budget


def test_a_system_that_does_not_say_how_much_it_has_gets_the_most(monkeypatch):
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert memory.default_budget(torch.device("cpu")) == memory.MOST_ON_CPU
