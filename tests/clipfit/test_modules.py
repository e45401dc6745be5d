"""Our modules against those of the `clip` package, on random weights; what only ours can do."""

import copy

import pytest
import torch
from torch import nn

from clipfit import architectures
from clipfit.clip import CLIP
from clipfit.clip_package import prepare_import_of_clip
from clipfit.groups import count, select
from clipfit.modules import OpenAIModel, QuickGELU, convert_weights
from clipfit.prompts import tokenize

# embedding, resolution; vision layers, width, patch; context, vocabulary; text width, heads, layers
SIZES = {
    "ViT": (48, 64, 3, 128, 16, 77, 500, 128, 2, 3),
    "ResNet": (48, 64, (1, 2, 1, 1), 64, None, 77, 500, 128, 2, 3),
}
END = 499  # the highest id


@pytest.fixture(scope="module")
def package():
    """The module of the `clip` package that holds its model."""
    prepare_import_of_clip()
    return pytest.importorskip(
        "clip.model", reason="the package clip-anytorch, which is compared with, is not installed"
    )


@pytest.fixture(params=SIZES)
def pair(request, package):
    """The package's model and ours with the same weights, none at a special value such as 0."""
    torch.manual_seed(0)
    theirs, ours = package.CLIP(*SIZES[request.param]), OpenAIModel(*SIZES[request.param])
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        for name, buffer in theirs.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += torch.rand_like(buffer)
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def some(batch):
    """Images, and texts of different lengths."""
    generator = torch.Generator().manual_seed(batch)
    tokens = torch.randint(1, END, (batch, 77), generator=generator)
    for row, end in enumerate((5, 76, 1)[:batch]):
        tokens[row, end], tokens[row, end + 1 :] = END, 0
    return torch.randn(batch, 3, 64, 64, generator=generator), tokens


def close(actual, expected, tolerance=1e-6):
    return (actual - expected).abs().max() <= tolerance * expected.abs().max()


def test_names_shapes_and_their_order_are_the_packages(pair):
    theirs, ours = ([(name, tensor.shape) for name, tensor in model.state_dict().items()] for model in pair)
    assert ours == theirs
    theirs, ours = ([name for name, _ in model.named_parameters()] for model in pair)
    assert ours == theirs


@pytest.mark.parametrize("batch", [1, 3])
def test_features_and_logits_are_the_packages(pair, batch):
    theirs, ours = pair
    images, tokens = some(batch)
    with torch.no_grad():
        assert close(ours.encode_image(images), theirs.encode_image(images))
        assert close(ours.encode_text(tokens), theirs.encode_text(tokens))
        for actual, expected in zip(ours(images, tokens), theirs(images, tokens), strict=True):
            assert close(actual, expected)


def test_gradients_are_the_packages(pair):
    images, tokens = some(3)
    for model in pair:
        model(images, tokens)[0].log_softmax(dim=1).diagonal().sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in pair[0].parameters())
    for (name, expected), actual in zip(pair[0].named_parameters(), pair[1].parameters(), strict=True):
        torch.testing.assert_close(
            actual.grad / largest, expected.grad / largest, rtol=0, atol=1e-6, msg=name
        )


def test_the_mixed_half_layout_is_the_packages(pair, package):
    theirs, ours = map(copy.deepcopy, pair)
    package.convert_weights(theirs)
    convert_weights(ours)
    for (name, expected), actual in zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True):
        assert actual.dtype == expected.dtype and torch.equal(actual, expected), name


def test_training_from_nothing_starts_as_with_the_package(package):
    for sizes in SIZES.values():
        torch.manual_seed(1)
        expected = package.CLIP(*sizes).state_dict()
        torch.manual_seed(1)
        actual = OpenAIModel(*sizes).state_dict()
        assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_models_that_the_package_builds_work_with_what_is_ours(package):
    torch.manual_seed(0)
    model = package.build_model(package.CLIP(48, 64, 3, 128, 16, 77, 49_408, 128, 2, 3).state_dict()).float()
    clip, tokens = CLIP(model), tokenize(["a cat.", "a big dog."], ["cat", "dog"])
    with torch.no_grad():
        assert close(clip.text_encoder(clip.embed_prompts(tokens)), model.encode_text(tokens), 1e-5)
    chosen = select(clip, ["text.ffn_proj_bias", "image.layernorm"])
    assert [count(group.values()) for group in chosen.values()] == [3 * 128, 8 * 2 * 128]


# What the package does not have --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ViT-B/16", "RN50"])
def test_a_model_without_memory_holds_nothing_that_loading_would_not_fill(name):
    model = architectures.empty_model(half=False, **architectures.architecture_arguments(name))
    known = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    for module in model.modules():
        assert not [key for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        assert all(id(tensor) in known for tensor in own)


def test_the_activation_and_the_heads_are_chosen():
    quick, plain = (OpenAIModel(*SIZES["ViT"], activation=name) for name in ("quick_gelu", "gelu"))
    kinds = [{type(module) for module in model.modules()} for model in (quick, plain)]
    assert QuickGELU in kinds[0] and nn.GELU not in kinds[0]
    assert nn.GELU in kinds[1] and QuickGELU not in kinds[1]
    assert list(quick.state_dict()) == list(plain.state_dict())
    wide = OpenAIModel(*SIZES["ViT"], vision_heads=4)
    assert {block.attn.num_heads for block in wide.visual.transformer.resblocks} == {4}
    with pytest.raises(ValueError, match="activation 'relu' is unknown; choose one of quick_gelu, gelu"):
        OpenAIModel(*SIZES["ViT"], activation="relu")


def test_quick_gelu_is_its_formula():
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(QuickGELU()(x), x / (1 + torch.exp(-1.702 * x)))


def formula(x):
    return x * torch.sigmoid(1.702 * x)


def test_quick_gelu_has_the_gradients_of_its_formula():
    x = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(QuickGELU(), x) and torch.autograd.gradgradcheck(QuickGELU(), x)
    weight = torch.linspace(-2, 2, 25, dtype=torch.float64)
    (actual,), (expected,) = (
        torch.autograd.grad((function(x) * weight).sum(), x) for function in (QuickGELU(), formula)
    )
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_quick_gelu_in_mixed_precision_is_its_formula(dtype):
    torch.manual_seed(0)
    layer, rows = nn.Linear(8, 16), torch.randn(5, 8, requires_grad=True)
    found = []
    for function in (QuickGELU(), formula):
        with torch.autocast("cpu", dtype):
            output = function(layer(rows))
        assert output.dtype == dtype
        found.append((output, torch.autograd.grad(output.float().sum(), rows)[0]))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0.02, atol=0.01)


@pytest.mark.parametrize("activation", [QuickGELU(), nn.GELU()])
def test_activations_keep_their_input_alone(activation):
    x, stored = torch.randn(50, requires_grad=True) * 2, []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: stored.append(t) or t, lambda t: t):
        activation(x)
    assert [tensor.data_ptr() for tensor in stored] == [x.data_ptr()]


def test_without_gradients_quick_gelu_is_plain_operations():
    x = torch.randn(50, requires_grad=True)
    with torch.no_grad():
        without = QuickGELU()(x)
    assert torch.equal(without, QuickGELU()(x)) and QuickGELU()(x.detach()).grad_fn is None


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_last_block_gives_what_is_read_of_all_rows(activation):
    """Features, and the gradients of every parameter, of a tower that computes every row of every block."""
    torch.manual_seed(0)
    tower = OpenAIModel(*SIZES["ViT"], activation=activation).visual
    images, weight = torch.randn(3, 3, 64, 64), torch.randn(3, 48)
    rows = tower.conv1(images).flatten(2).transpose(1, 2)
    rows = torch.cat([tower.class_embedding.expand(3, 1, -1), rows], dim=1) + tower.positional_embedding
    rows = tower.ln_pre(rows).transpose(0, 1)
    for block in tower.transformer.resblocks:
        seen = block.ln_1(rows)
        rows = rows + block.attn(seen, seen, seen, need_weights=False)[0]  # torch's own attention
        rows = rows + block.mlp(block.ln_2(rows))
    expected, actual = tower.ln_post(rows[0]) @ tower.proj, tower(images)
    assert close(actual, expected)
    parameters = list(tower.parameters())
    gradients = [torch.autograd.grad((f * weight).sum(), parameters) for f in (actual, expected)]
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 3e-5 * other.norm()


def test_the_last_block_computes_the_class_token_alone():
    tower, computed = OpenAIModel(*SIZES["ViT"]).visual, []
    for block in tower.transformer.resblocks:
        block.mlp.c_fc.register_forward_hook(
            lambda module, inputs, output: computed.append(output[..., 0].numel())
        )
    tower(torch.zeros(2, 3, 64, 64))
    assert computed == [2 * 17, 2 * 17, 2]


def test_a_text_may_be_cut_behind_its_end():
    torch.manual_seed(0)
    model = OpenAIModel(*SIZES["ViT"]).eval()
    tokens = torch.tensor([[7, 8, 9, END, *[0] * 73]])
    with torch.no_grad():
        assert close(model.encode_text(tokens[:, :4]), model.encode_text(tokens), 1e-5)
