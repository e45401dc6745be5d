"""A batch a few images at a time has the loss and the gradients of the whole batch, and keeps less."""

import copy
import weakref

import pytest
import torch
from torch.nn import functional as F

from clipfit.clip import CLIP
from clipfit.groups import select
from clipfit.micro_batches import mean_losses
from clipfit.prompts import fill, tokenize

NAMES = ["cat", "red", "golden retriever", "dog", "x-ray"]
LOSS, GRADIENT = 1e-6, 3e-5  # relative


@pytest.fixture
def clip(tiny_model):
    """Biases of the text tower and LayerNorms of the image tower train, as with CLIPFit."""
    clip = CLIP(copy.deepcopy(tiny_model)).requires_grad_(False)
    for group in select(clip, ["text.ffn_proj_bias", "image.layernorm"]).values():
        for parameter in group.values():
            parameter.requires_grad_(True)
    return clip


def batch(images=7):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(images, 3, 32, 32, generator=generator), torch.arange(images) % len(NAMES)


def trained(clip):
    return [parameter for parameter in clip.parameters() if parameter.requires_grad]


def text_features(clip):
    return clip.text_encoder(clip.embed_prompts(tokenize(fill("a photo of a {}.", NAMES), NAMES)))


def two_losses(clip, images, labels, w):
    """Cross entropies at two temperatures, and the logits."""
    logits = clip.logits(clip.encode_image(images), w)
    return *(F.cross_entropy(logits.float() / t, labels) for t in (1, 3)), logits


def losses_and_gradients(clip, most, autocast=False, scale=1.0):
    """(loss a, loss b, logits) and the gradients of a + |w|^2 and of b."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        w = text_features(clip).float()
        a, b, logits = mean_losses(
            lambda *words: two_losses(clip, *words),
            *(*batch(), w, trained(clip), most, lambda loss: loss * scale),
        )
        a = a + w.square().mean()
    gradients = [
        torch.autograd.grad(loss * scale, trained(clip), retain_graph=True, allow_unused=True)
        for loss in (a, b)
    ]
    return (a, b, logits), [one / scale for found in gradients for one in found]


@pytest.mark.parametrize("scale", [1.0, 1024.0])
@pytest.mark.parametrize("most", [1, 3, 6])
def test_losses_and_gradients_are_those_of_the_whole_batch(clip, most, scale):
    whole, gradients = losses_and_gradients(clip, most=7)
    parts, in_parts = losses_and_gradients(clip, most, scale=scale)
    for one, other in zip(parts, whole, strict=True):
        assert (one - other).norm() <= LOSS * other.norm()
    for one, other in zip(in_parts, gradients, strict=True):
        assert (one - other).norm() <= GRADIENT * other.norm()


def test_gradients_in_mixed_precision_are_those_of_the_whole_batch_where_everything_trains(tiny_model):
    clip = CLIP(copy.deepcopy(tiny_model))
    clip.token_embedding.requires_grad_(False)
    _, exact = losses_and_gradients(clip, most=7)
    _, mixed = losses_and_gradients(clip, most=2, autocast=True)
    for one, other in zip(mixed, exact, strict=True):
        assert one.dtype == other.dtype and F.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.99


def test_what_nobody_reads_has_no_gradient(clip):
    unread = torch.zeros(3, requires_grad=True)
    w = text_features(clip)
    a, _, _ = mean_losses(
        lambda *words: two_losses(clip, *words), *batch(), w, [*trained(clip), unread], most=3
    )
    a.backward()
    assert unread.grad is None
    assert all(parameter.grad is not None for parameter in trained(clip))


def test_without_gradients_the_losses_are_the_same(clip):
    (a, b, logits), _ = losses_and_gradients(clip, most=7)
    with torch.no_grad():
        w = text_features(clip)
        parts = mean_losses(lambda *words: two_losses(clip, *words), *batch(), w, trained(clip), most=2)
    torch.testing.assert_close(parts[1:], (b, logits), rtol=LOSS, atol=1e-6)
    assert not parts[0].requires_grad


def test_parts_are_even_and_nothing_of_one_is_kept_for_the_next(clip):
    alive, sizes = [], []

    def remember(module, inputs, output):
        assert not any(reference() is not None for reference in alive)
        sizes.append(len(inputs[0]))
        alive.append(weakref.ref(output))

    clip.image_encoder.register_forward_hook(remember)
    hidden = []
    clip.image_encoder.transformer.resblocks[0].mlp.c_fc.register_forward_hook(
        lambda module, inputs, output: hidden.append(weakref.ref(output))
    )
    losses_and_gradients(clip, most=4)
    assert sizes == [4, 3]
    assert not any(reference() is not None for reference in hidden)
