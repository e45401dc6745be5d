"""Linear maps with a low-rank change: W x becomes W x + scale * up (down dropout(x)).

Source: Hu et al. 2022 (LoRA), https://arxiv.org/abs/2106.09685.
Shapes: W width, r rank, L tokens, B images or texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipfit.modules.casts import Linear, for_matmul

PACKED = ("q", "k", "v")  # the order of their rows in attention's in_proj_weight


class LowRank(nn.Module):
    """scale * up (down dropout(x)) for x (..., inputs); both factors are in single precision."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float, dropout: float = 0.0):
        super().__init__()
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.images: tuple[int, int, int] | None = None  # start..stop of so many, if x is a part of a batch
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        low = F.linear(self._dropped(x), self.down.to(x.dtype))
        return self.scale * F.linear(low, self.up.to(x.dtype))

    def _dropped(self, x: Tensor) -> Tensor:
        """dropout(x), whose mask for a part of a batch is that part of the batch's mask."""
        if self.images is None or not (self.training and self.dropout.p):
            return self.dropout(x)
        start, stop, count = self.images
        if len(x) != stop - start:  # the batch is computed in micro-batches
            return self.dropout(x)
        return x * self.dropout(x.new_ones(count, *x.shape[1:]))[start:stop]


class LowRankAttention(nn.MultiheadAttention):
    """Self-attention with the weights of another one, whose maps may have low-rank changes (`low_rank`)."""

    def __init__(self, attn: nn.MultiheadAttention):
        super().__init__(attn.embed_dim, attn.num_heads, device="meta")  # its weights are replaced
        for name in ("in_proj_weight", "in_proj_bias", "out_proj"):
            setattr(self, name, getattr(attn, name))
        self.low_rank = nn.ModuleDict()

    def forward(self, query, key, value, need_weights=False, attn_mask=None):
        """Rows (L, B, W) -> (L, B, W) and None, as nn.MultiheadAttention; all three are the same rows."""
        parts = project(self, query).unflatten(-1, (len(PACKED), self.num_heads, self.head_dim))
        heads = parts.permute(2, 1, 3, 0, 4)  # (3, B, heads, L, W / heads)
        mask = None if attn_mask is None else attn_mask.to(heads.dtype)
        rows = F.scaled_dot_product_attention(*heads, attn_mask=mask)  # (B, heads, L, W / heads)
        return self.out_proj(rows.permute(2, 0, 1, 3).flatten(2)), None


class LowRankLinear(Linear):
    """A linear layer with the weights of another one and a low-rank change."""

    def __init__(self, linear: nn.Linear, change: LowRank):
        super().__init__(linear.in_features, linear.out_features, device="meta")  # weights are replaced
        self.weight, self.bias = linear.weight, linear.bias
        self.low_rank = nn.ModuleDict({"all": change})

    def forward(self, x: Tensor) -> Tensor:
        rows = super().forward(x)
        return rows + self.low_rank["all"](x).to(rows.dtype)


def project(attn: nn.MultiheadAttention, rows: Tensor, parts: Sequence[str] = PACKED) -> Tensor:
    """Some neighbours of q, k, v of rows (..., W), low-rank changes included.

    Every computation of attention goes through here, since a change with dropout is no change of the weight.
    Returns: (..., len(parts) * W), packed
    """
    width = rows.shape[-1]
    some = slice(PACKED.index(parts[0]) * width, (PACKED.index(parts[-1]) + 1) * width)
    weight, bias = for_matmul(attn.in_proj_weight), for_matmul(attn.in_proj_bias)
    packed = F.linear(rows, weight[some], bias[some])
    if not isinstance(attn, LowRankAttention) or not attn.low_rank:
        return packed
    changes = [
        attn.low_rank[part](rows).to(packed.dtype) if part in attn.low_rank else torch.zeros_like(rows)
        for part in parts
    ]
    return packed + torch.cat(changes, dim=-1)


def train_dropout(clip: nn.Module, mode: bool) -> None:
    """Let the dropout of low-rank changes act, and nothing else, or not."""
    for module in clip.modules():
        if isinstance(module, LowRank):
            module.train(mode)


def draws(module: nn.Module) -> bool:
    """Whether a forward pass draws random numbers."""
    return any(isinstance(one, nn.Dropout) and one.training and one.p > 0 for one in module.modules())
