"""The text encoder gives what the plain computation over 77 tokens gives, features and gradients."""

import copy
import dataclasses
import functools

import pytest
import torch
from torch import Tensor

from clipfit import text
from clipfit.clip import CLIP
from clipfit.modules import OpenAIModel, convert_weights
from clipfit.prompts import fill, tokenize
from clipfit.text import Prompts
from clipfit.tokenizer import END_TOKEN

RAGGED = ["cat", "red", "golden retriever", "very old map of a town", "dog", "x-ray", "2012 audi r8 coupe"]
LONG = [
    "cat",
    " ".join(["dog"] * 69),
    " ".join(["dog"] * 70),
]  # 70: the longest name that fits "a photo of a {}."
MANY = [f"{first} {second}" for first in RAGGED[:5] for second in map(str, range(200))]


@pytest.fixture(params=["in buckets", "at once"])
def attention(request, monkeypatch):
    """Both ways in which prompts attend, whatever the device."""
    monkeypatch.setitem(text.AT_ONCE, "cpu", 0 if request.param == "in buckets" else 10_000)


both_ways = pytest.mark.usefixtures("attention")


def embed_and_encode(model: OpenAIModel, embedded: Tensor, tokens: Tensor) -> Tensor:
    """The slow, obvious computation: (K, 77, W) embeddings through the whole model's own blocks -> (K, D)."""
    rows = (embedded + model.positional_embedding.type(model.dtype)).permute(1, 0, 2)
    rows = model.ln_final(model.transformer(rows).permute(1, 0, 2)).type(model.dtype)
    return rows[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ model.text_projection


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).norm() <= tolerance * expected.norm()


def text_gradients(clip: CLIP, loss: Tensor) -> dict[str, Tensor]:
    named = dict(clip.text_encoder.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@both_ways
@pytest.mark.parametrize(
    "names, template",
    [
        pytest.param(RAGGED, "a photo of a {}.", id="ragged names"),
        pytest.param(RAGGED, "{} texture.", id="only the start token shared"),
        pytest.param(["cat", "dog", "sun"], "a photo of a {}.", id="equal lengths"),
        pytest.param(["cat"], "a photo of a {}.", id="one class"),
        pytest.param(["cat", "cat"], "a photo of a {}.", id="equal prompts"),
        pytest.param(LONG, "a photo of a {}.", id="up to 77 tokens"),
    ],
)
def test_features_and_gradients_equal_the_plain_computation_over_77_tokens(tiny_model, names, template):
    assert_equals_plain_computation(tiny_model, names, template)


def test_features_and_gradients_of_a_thousand_classes_equal_the_plain_computation(narrow_model):
    assert_equals_plain_computation(narrow_model, MANY, "a photo of a {}.")


def test_features_and_gradients_are_the_same_in_buckets_of_like_length(tiny_model, monkeypatch):
    monkeypatch.setattr(text, "BUCKET", 0)
    names = [*RAGGED, *LONG, "dog cat"]  # in no order of length
    clip = CLIP(tiny_model)
    lengths = tokenize(fill("a photo of a {}.", names), names).argmax(dim=-1).unique()
    layout = clip.embed_prompts(tokenize(fill("a photo of a {}.", names), names)).layout
    assert len(layout.buckets) == len(lengths) and all(bucket.cells is None for bucket in layout.buckets)
    assert_equals_plain_computation(tiny_model, names, "a photo of a {}.")


def test_one_long_name_costs_only_itself(narrow_model):
    clip = CLIP(narrow_model)

    def cells(names):
        layout = clip.embed_prompts(tokenize(fill("a photo of a {}.", names), names)).layout
        assert len(layout.buckets) <= 8
        return sum(bucket.grid[0] * bucket.grid[1] for bucket in layout.buckets)

    short = MANY[:999]
    assert cells([*short, " ".join(["dog"] * 25)]) <= 1.05 * cells([*short, "dog"])


def assert_equals_plain_computation(model: OpenAIModel, names: list[str], template: str) -> None:
    """Features, and gradients of every tensor of the text tower, against the whole model's `encode_text`."""
    tokens = tokenize(fill(template, names), names)
    plain, clip = copy.deepcopy(model), CLIP(copy.deepcopy(model))
    weight = torch.randn(len(names), 32, generator=torch.Generator().manual_seed(1))

    expected = plain.encode_text(tokens)
    expected_gradients = text_gradients(CLIP(plain), (expected * weight).sum())
    actual = clip.text_encoder(clip.embed_prompts(tokens))
    gradients = text_gradients(clip, (actual * weight).sum())

    assert_close(actual, expected)
    for name, gradient in gradients.items():
        assert_close(gradient, expected_gradients[name])


def test_few_prompts_attend_at_once_where_launches_cost_more_than_scores(tiny_model, monkeypatch):
    clip = CLIP(tiny_model)
    assert text.AT_ONCE["cpu"] == 0 and text.AT_ONCE["cuda"] > 0
    few, many = (clip.embed_prompts(tokenize(fill("a {}.", names), names)) for names in (RAGGED, MANY))
    monkeypatch.setitem(text.AT_ONCE, "cpu", 1024)
    assert few.layout.mask is not None and many.layout.mask is None


def test_a_mask_is_made_once_with_rows_that_cuda_takes_without_a_copy():
    mask = text.Mask(torch.ones(3, 21, dtype=torch.bool).tril())
    with torch.inference_mode():
        added = mask.added(torch.float16)
    assert added is mask.added(torch.float16) and not added.is_inference()
    assert added.stride() == (32, 1) and added.tolist()[1] == [0.0, 0.0, *[-float("inf")] * 19]


@both_ways
def test_gradients_reach_learned_context_that_all_prompts_share(tiny_model):
    tokens = tokenize(fill("X X X X {}.", RAGGED), RAGGED)
    clip = CLIP(tiny_model)
    context = torch.randn(4, 128, generator=torch.Generator().manual_seed(1), requires_grad=True)

    embedded = clip.embed(tokens).detach()
    embedded = torch.cat([embedded[:, :1], context.expand(len(tokens), -1, -1), embedded[:, 5:]], dim=1)
    expected = embed_and_encode(tiny_model, embedded, tokens)
    actual = clip.text_encoder(clip.embed_prompts(tokens).with_context(context))

    weight = torch.linspace(-1, 1, expected.numel()).view_as(expected)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), context)
    (gradient,) = torch.autograd.grad((actual * weight).sum(), context)
    assert_close(actual, expected)
    assert_close(gradient, expected_gradient)


@both_ways
def test_deep_context_replaces_hidden_states_before_later_blocks(tiny_model):
    tokens = tokenize(fill("X X {}.", RAGGED), RAGGED)
    clip, blocks = CLIP(tiny_model), len(tiny_model.transformer.resblocks)
    shape = (blocks - 1, 2, 128)
    deep = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)

    def replace(vectors, block, inputs):
        return torch.cat([inputs[0][:1], vectors[:, None].expand(-1, len(tokens), -1), inputs[0][3:]])

    hooks = [
        block.register_forward_pre_hook(functools.partial(replace, vectors))
        for block, vectors in zip(tiny_model.transformer.resblocks[1:], deep, strict=True)
    ]
    expected = embed_and_encode(tiny_model, clip.embed(tokens).detach(), tokens)
    for hook in hooks:
        hook.remove()
    actual = clip.text_encoder(clip.embed_prompts(tokens).with_deep_context(deep))

    weight = torch.linspace(-1, 1, expected.numel()).view_as(expected)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), deep)
    (gradient,) = torch.autograd.grad((actual * weight).sum(), deep)
    assert_close(actual, expected)
    assert_close(gradient, expected_gradient)


@both_ways
def test_gradients_reach_learned_context_of_each_class(tiny_model):
    tokens = tokenize(fill("X X {}.", RAGGED), RAGGED)
    clip = CLIP(tiny_model)
    context = torch.randn(len(tokens), 2, 128, generator=torch.Generator().manual_seed(1), requires_grad=True)

    embedded = clip.embed(tokens).detach()
    embedded = torch.cat([embedded[:, :1], context, embedded[:, 3:]], dim=1)
    expected = embed_and_encode(tiny_model, embedded, tokens)
    actual = clip.text_encoder(Prompts(embedded[0, :1], embedded[:, 1:], tokens.argmax(dim=-1)))

    (expected_gradient,) = torch.autograd.grad(expected.sum(), context)
    (gradient,) = torch.autograd.grad(actual.sum(), context)
    assert_close(actual, expected)
    assert_close(gradient, expected_gradient)


@both_ways
def test_one_context_per_image_gives_each_image_its_own_features(tiny_model):
    tokens = tokenize(fill("X X {}.", RAGGED), RAGGED)
    clip = CLIP(tiny_model)
    prompts = clip.embed_prompts(tokens)
    contexts = torch.randn(3, 2, 128, generator=torch.Generator().manual_seed(1), requires_grad=True)

    one_by_one = torch.stack([clip.text_encoder(prompts.with_context(context)) for context in contexts])
    together = clip.text_encoder(prompts.with_context(contexts))

    assert_close(together, one_by_one)
    weight = torch.linspace(-1, 1, together.numel()).view_as(together)
    (expected_gradient,) = torch.autograd.grad((one_by_one * weight).sum(), contexts)
    (gradient,) = torch.autograd.grad((together * weight).sum(), contexts)
    assert_close(gradient, expected_gradient)


def test_shared_tokens_are_computed_once_and_nothing_behind_the_end_is(tiny_model):
    tokens = tokenize(fill("a photo of a {}.", RAGGED), RAGGED)
    clip = CLIP(copy.deepcopy(tiny_model))
    computed = []
    hidden = clip.text_encoder.transformer.resblocks[0].mlp.c_fc
    hidden.register_forward_hook(lambda module, inputs, output: computed.append(output[..., 0].numel()))
    clip.text_encoder(clip.embed_prompts(tokens))

    shared = 5  # start token, "a photo of a"
    own = sum(row.index(END_TOKEN) + 1 - shared for row in tokens.tolist())
    assert computed == [shared + own]


def test_half_precision_matches_the_whole_model_in_half_precision(tiny_model):
    half = copy.deepcopy(tiny_model)
    convert_weights(half)
    tokens = tokenize(fill("a photo of a {}.", RAGGED), RAGGED)
    with torch.no_grad():
        actual = CLIP(half).text_encoder(CLIP(half).embed_prompts(tokens))
        expected = half.encode_text(tokens)
    assert actual.dtype == torch.float16
    assert_close(actual.float(), expected.float(), tolerance=3e-3)


def test_autocast_keeps_float32_gradients_close(tiny_model):
    tokens = tokenize(fill("a photo of a {}.", RAGGED), RAGGED)
    clip = CLIP(copy.deepcopy(tiny_model))
    prompts = clip.embed_prompts(tokens)
    exact = text_gradients(clip, clip.text_encoder(prompts).sum())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = clip.text_encoder(prompts)
    mixed = text_gradients(clip, features.float().sum())
    for name, gradient in mixed.items():
        assert gradient.dtype == torch.float32
        assert_close(gradient, exact[name], tolerance=0.05)


def test_prompts_moved_and_replaced_keep_their_meaning(tiny_model):
    tokens = tokenize(fill("a photo of a {}.", RAGGED), RAGGED)
    clip = CLIP(tiny_model)
    prompts = clip.embed_prompts(tokens)
    moved = prompts.to("cpu")
    assert moved.to("meta").layout.buckets[0].mask.visible.device.type == "meta"
    swapped = dataclasses.replace(moved, suffix=moved.suffix.flip(0), eot=moved.eot.flip(0))
    with torch.no_grad():
        assert_close(clip.text_encoder(swapped), clip.text_encoder(prompts).flip(0))


def test_context_longer_than_the_shared_rows_is_refused(tiny_model):
    prompts = CLIP(tiny_model).embed_prompts(tokenize(["X X cat.", "X X dog."], ["cat", "dog"]))
    with pytest.raises(ValueError, match="the prompts share 3 rows"):
        prompts.with_context(torch.zeros(4, 128))
    with pytest.raises(ValueError, match="the prompts share 3 rows"):
        prompts.with_deep_context(torch.zeros(2, 3, 128))


def test_prompts_longer_than_the_encoder_reads_are_refused(tiny_model):
    prompts = Prompts(torch.zeros(10, 128), torch.zeros(2, 70, 128), torch.tensor([20, 79]))
    with pytest.raises(ValueError, match="80 tokens; this text encoder reads at most 77"):
        CLIP(tiny_model).text_encoder(prompts)


@pytest.mark.parametrize("eot", [[3, 9], [5, 12]])
def test_ends_outside_the_suffix_are_refused(eot):
    with pytest.raises(ValueError, match="do not lie in the suffix"):
        Prompts(torch.zeros(5, 8), torch.zeros(2, 6, 8), torch.tensor(eot))
