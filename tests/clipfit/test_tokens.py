"""Learned tokens inside the towers, against the whole model run block by block over all its rows."""

import pytest
import torch

from clipfit import chunks
from clipfit.clip import CLIP
from clipfit.prompts import fill, tokenize
from clipfit.tokens import Tokens
from clipfit.vision import encode_with_tokens, last_states

NAMES = ["cat", "red", "golden retriever", "very old map of a town", "dog", "x-ray", "2012 audi r8 coupe"]
TEMPLATES = ("a photo of a {}.", "{} texture.")  # five shared rows; the start token alone
M, BLOCKS = 4, 3
LEARNED = [pytest.param(first, depth, id=f"{depth} from block {first}") for first in (0, 1, 2)
           for depth in range(1, BLOCKS - first + 1)]  # fmt: skip


def vectors(count, width=128):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, M, width, generator=generator, requires_grad=True)


def assert_same(actual, expected, learned):
    """Features, and their gradients with respect to the learned vectors."""
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((actual * weight).sum(), learned)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), learned)
    for one, other in ((actual, expected), (gradient, expected_gradient)):
        assert one.shape == other.shape
        assert (one - other).norm() <= 1e-5 * other.norm()


def through(blocks, rows, learned, first, start, mask_of=lambda length: None, inside=False):
    """Rows (B, L, W) through the blocks; M learned ones join before `first` and are overwritten later.

    Args: inside, they are among the rows already
    """
    for number, block in enumerate(blocks):
        if first <= number < first + len(learned):
            new = learned[number - first].expand(len(rows), -1, -1)
            end = start + (0 if number == first and not inside else M)
            rows = torch.cat([rows[:, :start], new, rows[:, end:]], dim=1)
        rows = block(rows.transpose(0, 1), mask=mask_of(rows.shape[1])).transpose(0, 1)
    return rows


def causal(length):
    return torch.full((length, length), float("-inf")).triu(1)


def plain_text(model, tokens, learned, first):
    """All 77 tokens, or 77 + M, under the causal mask of that length."""
    rows = model.token_embedding(tokens).detach() + model.positional_embedding
    rows = through(model.transformer.resblocks, rows, learned, first, 1, causal)
    assert rows.shape[1] == 77 + (M if len(learned) else 0)
    ends = tokens.argmax(dim=-1) + (M if len(learned) else 0)
    return model.ln_final(rows)[torch.arange(len(tokens)), ends] @ model.text_projection


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("first, depth", LEARNED)
def test_tokens_join_behind_the_start_token_of_a_text(first, depth, template, tiny_model):
    tokens, learned = tokenize(fill(template, NAMES), NAMES), vectors(depth)
    clip = CLIP(tiny_model)
    prompts = clip.embed_prompts(tokens).with_tokens(learned, first)
    expected = plain_text(tiny_model, tokens, learned, first)
    assert_same(clip.text_encoder(prompts), expected, learned)


@pytest.mark.parametrize("rows", [30, 1])
def test_texts_with_tokens_are_encoded_in_chunks(rows, tiny_model):
    tokens, learned = tokenize(fill(TEMPLATES[0], NAMES), NAMES), vectors(2)
    clip = CLIP(tiny_model)
    prompts = clip.embed_prompts(tokens).with_tokens(learned, 1)
    actual = chunks.encode(clip.text_encoder, prompts, rows)
    assert_same(actual, plain_text(tiny_model, tokens, learned, 1), learned)


def test_one_class_and_the_longest_prompt_have_room_for_tokens(tiny_model):
    clip, learned = CLIP(tiny_model), vectors(1)
    for name in ("cat", " ".join(["dog"] * 70)):  # 77 tokens and 4 more
        tokens = tokenize(fill(TEMPLATES[0], [name]), [name])
        actual = clip.text_encoder(clip.embed_prompts(tokens).with_tokens(learned, 2))
        assert_same(actual, plain_text(tiny_model, tokens, learned, 2), learned)


@torch.no_grad()
def test_no_token_anywhere_leaves_the_features_as_they_are(tiny_model):
    clip, none = CLIP(tiny_model), torch.zeros(0, M, 128)
    prompts = clip.embed_prompts(tokenize(fill(TEMPLATES[0], NAMES), NAMES))
    assert torch.equal(clip.text_encoder(prompts.with_tokens(none, BLOCKS)), clip.text_encoder(prompts))
    images = torch.randn(2, 3, 32, 32)
    actual = encode_with_tokens(clip.image_encoder, images, Tokens(none, BLOCKS))
    assert torch.equal(actual, clip.encode_image(images))


def test_what_is_shared_is_still_computed_once(tiny_model):
    clip, computed = CLIP(tiny_model), []
    tokens = tokenize(fill(TEMPLATES[0], NAMES), NAMES)
    prompts = clip.embed_prompts(tokens)
    rows = len(prompts.layout.positions)
    hooks = [
        block.mlp.c_fc.register_forward_hook(lambda module, inputs, output: computed.append(output.shape[1]))
        for block in clip.text_encoder.transformer.resblocks
    ]
    clip.text_encoder(prompts.with_tokens(vectors(2), 1))
    for hook in hooks:
        hook.remove()
    assert computed == [rows, rows + M, rows + M]


def plain_image(model, images, learned, first, behind):
    """ln_post of all rows; the tokens are `behind` the patches, else behind the class token."""
    visual, blocks, count = model.visual, model.visual.transformer.resblocks, len(images)
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    rows = torch.cat([visual.class_embedding.expand(count, 1, -1), patches], dim=1)
    rows = rows + visual.positional_embedding
    start = rows.shape[1] if behind else 1
    if first > 0:
        return visual.ln_post(through(blocks, visual.ln_pre(rows), learned, first, start))
    rows = torch.cat([rows[:, :start], learned[0].expand(count, -1, -1), rows[:, start:]], dim=1)
    return visual.ln_post(through(blocks, visual.ln_pre(rows), learned[1:], 1, start, inside=True))


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("first, depth", LEARNED)
def test_tokens_join_the_patches_of_an_image(first, depth, behind, tiny_model):
    learned, images = vectors(depth), torch.randn(5, 3, 32, 32)
    tokens = Tokens(learned, first, start=None if behind else 1)
    visual = CLIP(tiny_model).image_encoder
    expected = plain_image(tiny_model, images, learned, first, behind)[:, 0] @ visual.proj
    assert_same(encode_with_tokens(visual, images, tokens), expected, learned)
    if not behind:
        expected = plain_image(tiny_model, images, learned, first, behind)[:, : 1 + M]
        assert_same(last_states(visual, images, tokens, 1 + M), expected, learned)


def test_the_last_block_computes_the_rows_that_are_read(tiny_model):
    visual, computed = CLIP(tiny_model).image_encoder, []
    last = visual.transformer.resblocks[-1].mlp.c_fc
    hook = last.register_forward_hook(lambda module, inputs, output: computed.append(output.shape[1]))
    images = torch.randn(2, 3, 32, 32)
    encode_with_tokens(visual, images, Tokens(vectors(2), 1))
    last_states(visual, images, Tokens(vectors(2), 1), 1 + M)
    hook.remove()
    assert computed == [1, 1 + M]


def test_tokens_have_the_precision_of_the_rows_that_they_join():
    rows = torch.zeros(2, 3, 8, dtype=torch.float16)
    assert Tokens(torch.ones(1, 2, 8), 0).enter(rows, 0).dtype == torch.float16
