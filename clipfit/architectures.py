"""OpenAI's architectures over our modules: from names, or around the tensors of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from clipfit.modules import HEAD_WIDTH, OpenAIModel, convert_weights
from clipfit.published import OPENAI_INPUT_SIZES
from clipfit.tokenizer import CONTEXT_LENGTH, VOCABULARY_SIZE
from clipfit.weights import architecture_of, check_state

RANDOM_SEED = 0

# Image tower: layers (ResNet: blocks per stage), width, patch; then text width, embedding width.
# Source: Radford et al. 2021, appendix F, https://arxiv.org/abs/2103.00020
ARCHITECTURES = {
    "RN50": ((3, 4, 6, 3), 64, None, 512, 1024),
    "RN101": ((3, 4, 23, 3), 64, None, 512, 512),
    "RN50x4": ((4, 6, 10, 6), 80, None, 640, 640),
    "RN50x16": ((6, 8, 18, 8), 96, None, 768, 768),
    "RN50x64": ((3, 15, 36, 10), 128, None, 1024, 1024),
    "ViT-B/32": (12, 768, 32, 512, 512),
    "ViT-B/16": (12, 768, 16, 512, 512),
    "ViT-L/14": (24, 1024, 14, 768, 768),
    "ViT-L/14@336px": (24, 1024, 14, 768, 768),
}
TEXT_LAYERS = 12


def build(
    state: dict[str, Tensor],
    path: str | os.PathLike,
    half: bool = False,
    activation: str = "quick_gelu",
    arguments: Mapping | None = None,
) -> OpenAIModel:
    """Model around the tensors of a state dict, which is emptied, so that there are never two copies of all.

    Args:    half: OpenAI's mixed float16 layout instead of float32
             arguments of `OpenAIModel`, where something says them; default: read off the shapes
    Raises:  ValueError naming `path` if names, shapes or values do not fit
    """
    arguments = architecture_of(state, path) if arguments is None else arguments
    model = empty_model(half=half, **{**arguments, "activation": activation})
    expected = model.state_dict()
    check_state(state, expected, path)
    state = {key: state.pop(key).to(tensor.dtype).contiguous() for key, tensor in expected.items()}
    model.load_state_dict(state, assign=True)
    return model


def build_random(architecture: str, half: bool = False, activation: str = "quick_gelu") -> OpenAIModel:
    """OpenAI's `architecture` with weights from a fixed seed; the global random state is left alone.

    Matrices are uniform with variance 1 / inputs, embeddings small, biases zero, norms the identity. What the
    mixed layout holds in float16 is rounded to float16, so all precisions start from the same values.
    """
    return random_model(half, activation=activation, **architecture_arguments(architecture))


def random_model(half: bool, **arguments) -> OpenAIModel:
    """As `build_random`, of any architecture; `arguments` of `OpenAIModel`."""
    model = empty_model(half=True, **arguments)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            _fill(name, tensor, generator)
    return model if half else model.float()


def empty_model(half: bool, **arguments) -> OpenAIModel:
    """The architecture without memory for its weights: all tensors on the meta device."""
    with torch.device("meta"):
        model = OpenAIModel(**arguments)
    if half:
        convert_weights(model)
    return model


def architecture_arguments(architecture: str) -> dict:
    """Arguments of `OpenAIModel` for one of OpenAI's names."""
    layers, width, patch, text_width, embed_dim = ARCHITECTURES[architecture]
    return {
        "embed_dim": embed_dim,
        "image_resolution": OPENAI_INPUT_SIZES[architecture],
        "vision_layers": layers,
        "vision_width": width,
        "vision_patch_size": patch,
        "context_length": CONTEXT_LENGTH,
        "vocab_size": VOCABULARY_SIZE,
        "transformer_width": text_width,
        "transformer_heads": text_width // HEAD_WIDTH,
        "transformer_layers": TEXT_LAYERS,
    }


def _fill(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    if name == "logit_scale":
        tensor.fill_(4.6052)  # log 100, as in OpenAI's weights
    elif "embedding" in name:
        tensor.uniform_(-0.02, 0.02, generator=generator)
    elif tensor.dim() >= 2:
        inputs = tensor.shape[0] if name in ("visual.proj", "text_projection") else tensor[0].numel()
        bound = (3 / inputs) ** 0.5
        tensor.uniform_(-bound, bound, generator=generator)
    elif name.endswith(("weight", "running_var")):
        tensor.fill_(1)  # LayerNorm, BatchNorm
    else:
        tensor.zero_()  # biases, BatchNorm's mean and counter
