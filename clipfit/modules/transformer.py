"""The transformer of both towers, and the vision transformer.

Shapes: B images or texts, L tokens, W width, D embedding width. Rows between the blocks are (L, B, W).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

HEAD_WIDTH = 64  # of every CLIP that OpenAI published; the number of heads is in no file


class LayerNorm(nn.LayerNorm):
    """LayerNorm in the precision of its own weights (float32), whatever that of its input."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows.type(self.weight.dtype)).type(rows.dtype)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), an approximation of GELU; OpenAI's weights are trained with it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class ResidualAttentionBlock(nn.Module):
    """Pre-norm block: x + attention(ln_1(x)), then x + mlp(ln_2(x)), with a hidden width of 4 W."""

    def __init__(self, width: int, heads: int, activation: str = "quick_gelu"):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = LayerNorm(width)
        layers = {
            "c_fc": nn.Linear(width, 4 * width),
            "gelu": _activation(activation),
            "c_proj": nn.Linear(4 * width, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = LayerNorm(width)

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """(L, B, W) -> (L, B, W). `mask` (L, L) is added to the attention scores."""
        seen = self.ln_1(rows)
        rows = rows + self.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
        return rows + self.mlp(self.ln_2(rows))


class Transformer(nn.Module):
    """Blocks one after the other. In a causal one a token sees only itself and those before it."""

    def __init__(
        self, width: int, layers: int, heads: int, causal: bool = False, activation: str = "quick_gelu"
    ):
        super().__init__()
        self.width, self.layers, self.causal = width, layers, causal
        self.resblocks = nn.Sequential(
            *(ResidualAttentionBlock(width, heads, activation) for _ in range(layers))
        )

    def forward(self, rows: Tensor) -> Tensor:
        """(L, B, W) -> (L, B, W)."""
        mask = _causal_mask(rows) if self.causal else None
        for block in self.resblocks:
            rows = block(rows, mask=mask)
        return rows


class VisionTransformer(nn.Module):
    """Image tower: square patches and a class token; the class token's last state is projected."""

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.input_resolution, self.output_dim = input_resolution, output_dim
        tokens = (input_resolution // patch_size) ** 2 + 1
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(tokens, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, output_dim))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized pixels -> (B, D) features, not normalized."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, patches, W)
        count = images.shape[0]  # len() would fix the number of images in an exported graph
        first = self.class_embedding.to(patches.dtype).expand(count, 1, -1)
        rows = torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        rows = self.transformer(self.ln_pre(rows).transpose(0, 1))
        return self.ln_post(rows[0]) @ self.proj


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _causal_mask(rows: Tensor) -> Tensor:
    """(L, L) of zeros, minus infinity above the diagonal; for rows (L, B, W)."""
    length = len(rows)
    return torch.full((length, length), float("-inf"), dtype=rows.dtype, device=rows.device).triu(1)
