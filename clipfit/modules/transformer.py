"""The transformer of both towers, and the vision transformer.

Shapes: B images or texts, L tokens, W width, D embedding width. Rows between the blocks are (L, B, W); in
memory those of one image follow each other, which attention reads without copies.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipfit.modules.casts import Conv2d, Linear, for_matmul, in_precision
from clipfit.modules.low_rank import project

HEAD_WIDTH = 64  # of every CLIP that OpenAI published; the number of heads is in no file
# Numbers per row and unit of width that a block keeps for its backward pass if every parameter trains: input
# and output of both norms; query, key, value and result of attention; its sum over heads; both sides of the
# activation.
KEPT = 4 + 4 + 1 + 8


class LayerNorm(nn.LayerNorm):
    """LayerNorm in the precision of its own weights (float32), whatever that of its input."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows.type(self.weight.dtype)).type(rows.dtype)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), an approximation of GELU; OpenAI's weights are trained with it."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad and not torch.jit.is_tracing():
            return _QuickGELU.apply(x)
        return x * torch.sigmoid(1.702 * x)


class _QuickGELU(torch.autograd.Function):
    """Keeps its input alone; automatic differentiation would keep the sigmoid too, and 1.702 x meanwhile."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (1.702 * x).sigmoid_().mul_(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """d/dx = s + 1.702 x s (1 - s), s = sigmoid(1.702 x): that of SiLU at 1.702 x."""
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives, which the kernel below has not
            s = torch.sigmoid(1.702 * x)
            return gradient * s * (1 + 1.702 * x * (1 - s))
        return torch.ops.aten.silu_backward(gradient, 1.702 * x)


ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class ResidualAttentionBlock(nn.Module):
    """Pre-norm block: x + attention(ln_1(x)), then x + mlp(ln_2(x)), with a hidden width of 4 W."""

    def __init__(self, width: int, heads: int, activation: str = "quick_gelu"):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.attn.out_proj = Linear.of(self.attn.out_proj)
        self.ln_1 = LayerNorm(width)
        layers = {
            "c_fc": Linear(width, 4 * width),
            "gelu": _activation(activation),
            "c_proj": Linear(4 * width, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = LayerNorm(width)

    def forward(self, rows: Tensor, mask: Tensor | None = None, first: int | None = None) -> Tensor:
        """(L, B, W) -> (L, B, W), or with `first` the rows before that one alone, which see all.

        `mask` (L, L) is added to the attention scores.
        """
        rows = rows.transpose(0, 1)
        seen, rows = self.ln_1(rows), rows[:, :first]
        rows = rows + attention(self.attn, seen, mask, first)
        rows = rows + self.mlp(self.ln_2(rows))
        return rows.transpose(0, 1)


def attention(
    attn: nn.MultiheadAttention, rows: Tensor, mask: Tensor | None = None, first: int | None = None
) -> Tensor:
    """Self-attention of rows (B, L, W), or with `first` of those before that one to all of them.

    Args:    attn, whose weights are used; mask (L, L), added to the scores
    Returns: (B, L, W), or (B, first, W), output projection applied
    """
    if first is None:
        query, key, value = split_heads(attn, project(attn, rows), 3)
    else:
        (query,) = split_heads(attn, project(attn, rows[:, :first], ("q",)), 1)
        key, value = split_heads(attn, project(attn, rows, ("k", "v")), 2)
        mask = None if mask is None else mask[:first]
    return attn.out_proj(join_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=mask)))


def split_heads(attn: nn.MultiheadAttention, rows: Tensor, parts: int) -> Tensor:
    """(X, L, parts * W) -> (parts, X, heads, L, W / heads)."""
    return rows.unflatten(-1, (parts, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)


def join_heads(rows: Tensor) -> Tensor:
    """(X, heads, L, W / heads) -> (X, L, W)."""
    return rows.transpose(1, 2).flatten(2)


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

    @property
    def kept_per_row(self) -> int:
        """Numbers that the backward pass needs of one row, at most: as many as if every parameter trains."""
        return KEPT * self.width * self.layers

    def forward(self, rows: Tensor, first: int | None = None) -> Tensor:
        """(L, B, W) -> (L, B, W), or with `first` the rows before that one alone."""
        mask = _causal_mask(rows) if self.causal else None
        *blocks, last = self.resblocks
        for block in blocks:
            rows = block(rows, mask=mask)
        return last(rows, mask=mask, first=first)


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
        self.conv1 = Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(tokens, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj: nn.Parameter | None = nn.Parameter(width**-0.5 * torch.randn(width, output_dim))

    @property
    def kept_per_image(self) -> int:
        """Numbers that the backward pass needs of one image, at most."""
        return len(self.positional_embedding) * self.transformer.kept_per_row

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized pixels -> (B, D) features, not normalized.

        Only the class token's last state is read, so the last block computes no other.
        """
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, patches, W)
        count = images.shape[0]  # len() would fix the number of images in an exported graph
        first = in_precision(self.class_embedding, patches.dtype).expand(count, 1, -1)
        positions = in_precision(self.positional_embedding, patches.dtype)
        rows = torch.cat([first, patches], dim=1) + positions
        rows = self.transformer(self.ln_pre(rows).transpose(0, 1), first=1)
        features = self.ln_post(rows[0])
        return features if self.proj is None else features @ for_matmul(self.proj)  # clipfit/projection.py


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _causal_mask(rows: Tensor) -> Tensor:
    """(L, L) of zeros, minus infinity above the diagonal; for rows (L, B, W)."""
    length = len(rows)
    return torch.full((length, length), float("-inf"), dtype=rows.dtype, device=rows.device).triu(1)
