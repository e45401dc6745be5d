"""The image tower of CLIP: with learned tokens beside the patches, and of many images on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clipfit.modules import ModifiedResNet, VisionTransformer
from clipfit.modules.casts import for_matmul, in_precision
from clipfit.tokens import Tokens

PIECE = 8  # images


def encode_with_tokens(image_encoder: nn.Module, images: Tensor, tokens: Tokens) -> Tensor:
    """Image features of a vision transformer in which learned tokens stand.

    Args:    images (B, 3, H, W); tokens, of which those of block 0 stand before ln_pre
    Returns: (B, D) features, not normalized
    Raises:  ValueError if the tower is no plain vision transformer
    """

    def read(states: Tensor) -> Tensor:
        return states[:, 0] @ for_matmul(image_encoder.proj)

    return last_states(image_encoder, images, tokens, 1, read)


def last_states(
    image_encoder: nn.Module,
    images: Tensor,
    tokens: Tokens,
    count: int,
    read: Callable[[Tensor], Tensor] = lambda states: states,
) -> Tensor:
    """`read` of the states behind ln_post of the first `count` rows; row 0 is the class token.

    The last block computes these rows alone, since no other is read behind it.

    Args:    as of `encode_with_tokens`; read, of states (B, count, W), on a CPU of a few images at a time
    Returns: (B, ...), without `read` the states
    Raises:  ValueError if the tower is no plain vision transformer
    """
    check_transformer(image_encoder)

    def encode(some: Tensor) -> Tensor:
        return read(_last_states(image_encoder, some, tokens, count))

    return in_pieces(encode, images.type(image_encoder.conv1.weight.dtype))


def _last_states(image_encoder: nn.Module, images: Tensor, tokens: Tokens, count: int) -> Tensor:
    patches = image_encoder.conv1(images).flatten(2).transpose(1, 2)  # (B, patches, W)
    first = in_precision(image_encoder.class_embedding, patches.dtype).expand(len(images), 1, -1)
    positions = in_precision(image_encoder.positional_embedding, patches.dtype)
    rows = torch.cat([first, patches], dim=1) + positions
    rows = image_encoder.ln_pre(tokens.enter(rows, 0))
    blocks = image_encoder.transformer.resblocks
    for number, block in enumerate(blocks):
        rows = tokens.enter(rows, number) if number else rows
        is_last = number + 1 == len(blocks)
        rows = block(rows.transpose(0, 1), first=count if is_last else None).transpose(0, 1)
    return image_encoder.ln_post(rows)


def in_pieces(encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """`encode(images)`, on a CPU without gradients a few images at a time: their rows stay in its cache."""
    if torch.is_grad_enabled() or images.device.type != "cpu" or len(images) <= PIECE:
        return encode(images)
    return torch.cat([encode(piece) for piece in images.split(PIECE)])


def check_transformer(image_encoder: nn.Module) -> None:
    """Raises: ValueError if the image tower is a ResNet, or no plain vision transformer."""
    if isinstance(image_encoder, ModifiedResNet):
        raise ValueError(
            "this image tower is a ResNet, which has no tokens to add learned ones to; choose a ViT backbone"
        )
    if not isinstance(image_encoder, VisionTransformer):
        raise ValueError(
            f"this image tower is a {type(image_encoder).__name__} of open_clip and no plain vision "
            "transformer, to which learned tokens can be added; choose a ViT of OpenAI's form"
        )
