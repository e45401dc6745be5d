"""CLIP's modules with OpenAI's parameter names, so that published state dicts load as they are.

Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020; names and shapes of the published files.
"""

from clipfit.modules.model import OpenAIModel, convert_weights
from clipfit.modules.resnet import ModifiedResNet
from clipfit.modules.transformer import (
    ACTIVATIONS,
    HEAD_WIDTH,
    LayerNorm,
    QuickGELU,
    ResidualAttentionBlock,
    Transformer,
    VisionTransformer,
)

__all__ = [
    "ACTIVATIONS",
    "HEAD_WIDTH",
    "LayerNorm",
    "ModifiedResNet",
    "OpenAIModel",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "convert_weights",
]
