"""Encoding in chunks gives what one pass gives, features and gradients, within its bound."""

import pytest
import torch

from clipfit import chunks
from clipfit.clip import CLIP
from clipfit.prompts import fill, tokenize

NAMES = ["cat", "red", "golden retriever", "very old map of a town", "dog", "x-ray", "2012 audi r8 coupe"]
MANY = 10_000  # rows


def prompts_and_context(clip, groups):
    """Prompts that share the start token and two learned vectors, (2, W) or one pair per group."""
    shape = (groups, 2, 128) if groups else (2, 128)
    context = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    prompts = clip.embed_prompts(tokenize(fill("X X {}.", NAMES), NAMES))
    return prompts.with_context(context), context


def packed_rows(prompts, part=None):
    return len((part or prompts.layout).positions) * (len(prompts.prefix) if prompts.prefix.dim() == 3 else 1)


@pytest.mark.parametrize(
    "groups, rows",
    [
        pytest.param(0, 20, id="some classes"),
        pytest.param(0, 1, id="class by class"),
        pytest.param(5, 100, id="some groups"),
        pytest.param(5, 30, id="some classes of each group"),
    ],
)
def test_features_and_gradients_equal_one_pass(groups, rows, tiny_model):
    clip = CLIP(tiny_model)
    prompts, context = prompts_and_context(clip, groups)
    expected = clip.text_encoder(prompts)
    weight = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), context, retain_graph=True)

    sizes = []
    hook = clip.text_encoder.register_forward_pre_hook(
        lambda module, inputs: sizes.append(packed_rows(*inputs))
    )
    actual = chunks.encode(clip.text_encoder, prompts, rows)
    forward_passes = len(sizes)
    (gradient,) = torch.autograd.grad((actual * weight).sum(), context)
    hook.remove()

    assert actual.shape == expected.shape
    assert (actual - expected).norm() <= 1e-5 * expected.norm()
    assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm()
    assert forward_passes > 1 and max(sizes) <= max(rows, int(prompts.eot.max()) + 1)
    assert len(sizes) == 2 * forward_passes  # each once more, for the gradients


def test_gradients_reach_the_encoders_own_parameters_under_autocast(tiny_model):
    clip = CLIP(tiny_model)
    prompts, _ = prompts_and_context(clip, groups=3)
    bias = clip.text_encoder.transformer.resblocks[0].mlp.c_proj.bias
    gradients = []
    for rows in (MANY, 40):
        with torch.autocast("cpu", torch.bfloat16):
            features = chunks.encode(clip.text_encoder, prompts, rows).float()
        gradients.append(torch.autograd.grad(features.square().sum(), bias)[0])
    assert (gradients[0] - gradients[1]).norm() <= 0.02 * gradients[0].norm()


def test_chunks_keep_less_for_the_gradients(tiny_model):
    clip = CLIP(tiny_model)
    prompts, _ = prompts_and_context(clip, groups=6)
    kept = []
    for rows in (MANY, 60):
        stored = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, stored=stored: stored.setdefault(t.data_ptr(), t), lambda t: t
        ):
            chunks.encode(clip.text_encoder, prompts, rows)
        kept.append(sum(t.numel() for t in stored.values()))
    assert kept[1] < kept[0] / 5


def test_without_gradients_and_in_one_chunk_nothing_is_computed_twice(tiny_model):
    clip = CLIP(tiny_model)
    prompts, _ = prompts_and_context(clip, groups=4)
    passes = []
    hook = clip.text_encoder.register_forward_pre_hook(lambda *_: passes.append(1))
    chunks.encode(clip.text_encoder, prompts, MANY).sum().backward()
    assert len(passes) == 1
    counts = []
    for gradients in (True, False):
        passes.clear()
        with torch.set_grad_enabled(gradients):
            features = chunks.encode(clip.text_encoder, prompts, rows=100)
        if gradients:
            counts.append(len(passes))
            features.sum().backward()
        counts.append(len(passes))
    hook.remove()
    forward, with_gradients, without = counts
    assert forward > 1 and (with_gradients, without) == (2 * forward, forward)
