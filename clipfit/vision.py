"""The image tower of CLIP: with learned tokens beside the patches, and of many images on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clipfit.modules import ModifiedResNet, VisionTransformer
from clipfit.modules.casts import for_matmul, in_precision

PIECE = 8  # images


def encode_with_prompts(image_encoder: nn.Module, images: Tensor, prompts: Tensor) -> Tensor:
    """Image features of a vision transformer that reads M learned tokens behind the patches.

    The first M vectors join the sequence behind the positional embedding, so they have no position; before
    block j = 1..J-1 their hidden states are replaced by the next M.

    Args:    images (B, 3, H, W) in the tower's precision; prompts (J, M, W), J at most the tower's blocks
    Returns: (B, D) features, not normalized
    Raises:  ValueError if the tower is no plain vision transformer
    """
    check_transformer(image_encoder)
    patches = image_encoder.conv1(images).flatten(2).transpose(1, 2)  # (B, patches, W)
    count, prompts = len(images), prompts.to(patches.dtype)
    first = in_precision(image_encoder.class_embedding, patches.dtype).expand(count, 1, -1)
    positions = in_precision(image_encoder.positional_embedding, patches.dtype)
    rows = torch.cat([first, patches], dim=1) + positions
    rows = image_encoder.ln_pre(torch.cat([rows, prompts[0].expand(count, -1, -1)], dim=1))

    blocks = image_encoder.transformer.resblocks
    for number, block in enumerate(blocks):
        if 1 <= number < len(prompts):
            rows = torch.cat([rows[:, : -prompts.shape[1]], prompts[number].expand(count, -1, -1)], dim=1)
        only_class_token = {"first": 1} if number + 1 == len(blocks) else {}  # no other row is read behind it
        rows = block(rows.transpose(0, 1), **only_class_token).transpose(0, 1)
    return image_encoder.ln_post(rows[:, 0]) @ for_matmul(image_encoder.proj)


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
