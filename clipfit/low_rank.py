"""Low-rank changes of the linear maps of a CLIP: W x becomes W x + scale * up (down dropout(x)).

A map is `tower.map` or `tower.map[blocks]`, such as "image.q" or "text.ffn_in[0:6]", with the towers and the
block lists of clipfit/groups.py.
  map   q, k, v   the three thirds of attention's packed projection
        out       attention's output projection
        ffn_in, ffn_out   the two feed-forward layers
`up` starts at 0, so nothing changes at first, and `down` uniformly within 1 / sqrt(inputs). In eval mode the
model equals the one with scale * up down added to its weights, which `merge` does.

Source: Hu et al. 2022 (LoRA), https://arxiv.org/abs/2106.09685.
Shapes: W width, r rank, L tokens, B images or texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clipfit.group_names import MAPS, parse
from clipfit.groups import blocks, indices
from clipfit.modules.casts import Linear
from clipfit.modules.low_rank import PACKED, LowRank, LowRankAttention, LowRankLinear

LINEAR = {"out": "attn.out_proj", "ffn_in": "mlp.c_fc", "ffn_out": "mlp.c_proj"}
INSIDE = ".low_rank."  # in the names of the parameters that are added, and in no name of CLIP's own


class LowRankChange(NamedTuple):
    """What is added to a weight of CLIP: scale * up down."""

    name: str  # of the weight
    part: str  # q, k or v of a packed weight; "" for all of a weight
    down: Tensor  # (r, inputs)
    up: Tensor  # (outputs, r)
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """The changed weight, computed in single precision. Raises: ValueError for other shapes"""
        changed = weight.float().clone()
        rows = changed.unflatten(0, (len(PACKED), -1))[PACKED.index(self.part)] if self.part else changed
        if self.down.dim() != 2 or self.up.shape[1:] != self.down.shape[:1]:
            raise ValueError(
                f"{self.name}: {tuple(self.up.shape)} and {tuple(self.down.shape)} do not multiply"
            )
        if (len(self.up), self.down.shape[1]) != tuple(rows.shape):
            shape = len(self.up), self.down.shape[1]
            raise ValueError(f"{self.name}: a change of shape {shape} does not fit {tuple(rows.shape)}")
        rows += self.scale * (self.up.to(changed) @ self.down.to(changed))
        return changed.to(weight.dtype)


def add_low_rank(
    clip: nn.Module, maps: Sequence[str], rank: int, scale: float, dropout: float = 0.0
) -> dict[str, list[LowRank]]:
    """Give maps of a CLIP low-rank changes, in eval mode; all other parameters are left as they are.

    Returns: the changes of each map
    Raises:  ValueError for an unknown map, blocks out of range, one map twice, a tower without blocks
    """
    return {name: [_change(place, rank, scale, dropout) for place in _places(clip, name)] for name in maps}


def changes(clip: nn.Module) -> Iterator[LowRankChange]:
    """The low-rank changes of a CLIP, under the names of its weights, in forward order of each tower."""
    for name, module in clip.named_modules():
        if isinstance(module, (LowRankAttention, LowRankLinear)):
            for part, change in module.low_rank.items():
                weight = "in_proj_weight" if part in PACKED else "weight"
                yield LowRankChange(
                    f"{name}.{weight}", part if part in PACKED else "", change.down, change.up, change.scale
                )


def dropout_of(clip: nn.Module) -> float | None:
    """The dropout of a CLIP's low-rank changes in training; None where it has none."""
    return next((module.dropout.p for module in clip.modules() if isinstance(module, LowRank)), None)


@torch.no_grad()
def merge(clip: nn.Module) -> None:
    """Add the changes to the weights of a CLIP, in place, and take them away."""
    for change in list(changes(clip)):
        weight = clip.get_parameter(change.name)
        weight.copy_(change.added_to(weight))
    for module in list(clip.modules()):
        if isinstance(module, LowRankAttention):
            module.low_rank = nn.ModuleDict()
        for name, child in list(module.named_children()):
            if isinstance(child, LowRankLinear):
                setattr(module, name, Linear.of(child))


class _Place(NamedTuple):
    """Where a change belongs in a block of a transformer."""

    block: nn.Module
    map: str


def _places(clip: nn.Module, name: str) -> list[_Place]:
    tower_name, kind, layers = parse(name, of="map")
    tower = {"text": clip.text_encoder, "image": clip.image_encoder}[tower_name]
    found = blocks(tower)
    if not found:
        raise ValueError(
            f"{name}: this image tower is a ResNet, which has no transformer blocks; choose a ViT backbone, "
            f"or only from {', '.join(f'text.{known}' for known in MAPS)}"
        )
    return [_Place(found[index], kind) for index in indices(name, layers, len(found), "transformer blocks")]


def _change(place: _Place, rank: int, scale: float, dropout: float) -> LowRank:
    block, kind = place
    if kind in PACKED:
        if not isinstance(block.attn, LowRankAttention):
            block.attn = LowRankAttention(block.attn)
        if kind in block.attn.low_rank:
            raise ValueError(f"the map {kind} of a block is named twice; name each once")
        width = block.attn.embed_dim
        change = _made(block.attn.in_proj_weight, width, width, rank, scale, dropout)
        block.attn.low_rank[kind] = change
        return change
    if kind == "out" and not isinstance(block.attn, LowRankAttention):
        block.attn = LowRankAttention(block.attn)  # nn.MultiheadAttention never calls its output projection
    owner_name, _, name = LINEAR[kind].rpartition(".")
    owner = block.get_submodule(owner_name)
    linear = getattr(owner, name)
    if isinstance(linear, LowRankLinear):
        raise ValueError(f"the map {kind} of a block is named twice; name each once")
    change = _made(linear.weight, linear.in_features, linear.out_features, rank, scale, dropout)
    setattr(owner, name, LowRankLinear(linear, change))
    return change


def _made(weight: Tensor, inputs: int, outputs: int, *settings) -> LowRank:
    return LowRank(inputs, outputs, *settings).to(weight.device).eval()
