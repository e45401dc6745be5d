"""Parameter groups: "text.ffn_proj_bias", "image.layernorm[0:3]" -> the parameters of a CLIP.

A group is `tower.kind` or `tower.kind[layers]`.
  tower   text (clipfit.text.TextEncoder; the token embedding is not in it) or image
  kind    ffn_proj_bias   bias of each block's second feed-forward layer
          ffn_bias        biases of both feed-forward layers of each block
          bias            every bias inside the blocks, their LayerNorms' included
          layernorm       gains and biases of every LayerNorm of the tower
          block_layernorm those inside the blocks alone, without the ones before and behind them
          module_bias     bias of every Linear and LayerNorm of the tower; that of attention's packed q, k, v,
                          which belongs to no such module, is left out
          attn_in         weight and bias of attention's packed q, k, v
          attn_out        weight and bias of attention's output projection
          proj            the matrix into the joint space of both towers; one layer
          all             every parameter of the tower; takes no layers
  layers  comma list of Python indices and ranges: [0], [-1], [0:3], [0,5,9:]. They count blocks, or with
          `layernorm` the LayerNorms in forward order (image 0 is ln_pre; on 12 blocks 25 is ln_post) and with
          `module_bias` its modules
Parameters are found by the roles of their modules, not by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import nn

from clipfit.clip import CLIP
from clipfit.group_names import parse


def select(clip: CLIP, groups: Sequence[str] | str) -> dict[str, dict[str, nn.Parameter]]:
    """Parameters of each group, by group and then by their name in `clip`, in forward order.

    A parameter that two groups name appears once, in the first of them.
    Raises: ValueError for an unknown tower or kind, layers out of range, or a kind the tower does not have
    """
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    taken: set[int] = set()
    selection: dict[str, dict[str, nn.Parameter]] = {}
    for group in [groups] if isinstance(groups, str) else groups:
        chosen = selection.setdefault(group, {})
        for parameter in _parameters(clip, group):
            if id(parameter) not in taken:
                taken.add(id(parameter))
                chosen[names[id(parameter)]] = parameter
    return selection


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Number of values in `parameters`."""
    return sum(parameter.numel() for parameter in parameters)


def _parameters(clip: CLIP, group: str) -> Iterator[nn.Parameter]:
    tower_name, kind, layers = parse(group)
    tower = {"text": clip.text_encoder, "image": clip.image_encoder}[tower_name]
    if kind == "all":
        yield from tower.parameters()
        return
    words, is_counted, of_module = KINDS[kind]
    modules = [module for module in tower.modules() if is_counted(module)]
    if not modules:
        possible = [f"text.{known}" for known in (*KINDS, "all")] + ["image.all"]
        raise ValueError(
            f"{group}: this image tower is a ResNet, which has no {words}; choose a ViT "
            f"backbone, or only from {', '.join(possible)}"
        )
    for index in indices(group, layers, len(modules), words):
        yield from of_module(modules[index])


def indices(group: str, layers: list[dict[str, int]] | None, total: int, what: str) -> list[int]:
    """Positions that a parsed layer list names, in its order and each once."""
    if layers is None:
        return list(range(total))
    indices: list[int] = []
    for ends in layers:
        item = str(ends["index"]) if "index" in ends else f"{ends.get('first', '')}:{ends.get('last', '')}"
        highest = total - 1 if "index" in ends else total  # the end of a range is not in it
        if any(not -total <= end <= highest for end in ends.values()):
            raise ValueError(f"{group}: {item} is out of range; there are {total} {what}, 0 to {total - 1}")
        if "index" in ends:
            found = [ends["index"] % total]
        else:
            found = range(total)[ends.get("first") : ends.get("last")]
        if not found:
            raise ValueError(f"{group}: {item} names none of the {total} {what}")
        indices += found
    return list(dict.fromkeys(indices))


def _feed_forward(block: nn.Module) -> list[nn.Linear]:
    return [module for module in block.mlp.modules() if isinstance(module, nn.Linear)]


def _ffn_proj_bias(block: nn.Module) -> Iterator[nn.Parameter]:
    yield _feed_forward(block)[-1].bias


def _ffn_bias(block: nn.Module) -> Iterator[nn.Parameter]:
    for layer in _feed_forward(block):
        yield layer.bias


def _bias(block: nn.Module) -> Iterator[nn.Parameter]:
    for module in block.modules():
        if isinstance(module, nn.MultiheadAttention):
            yield module.in_proj_bias
        elif isinstance(module, (nn.Linear, nn.LayerNorm)):
            yield module.bias


def _block_layernorm(block: nn.Module) -> Iterator[nn.Parameter]:
    for module in block.children():
        if isinstance(module, nn.LayerNorm):
            yield from _layernorm(module)


def _module_bias(module: nn.Module) -> Iterator[nn.Parameter]:
    yield module.bias


def _attn_in(block: nn.Module) -> Iterator[nn.Parameter]:
    yield block.attn.in_proj_weight
    yield block.attn.in_proj_bias


def _attn_out(block: nn.Module) -> Iterator[nn.Parameter]:
    yield block.attn.out_proj.weight
    yield block.attn.out_proj.bias


def _proj(tower: nn.Module) -> Iterator[nn.Parameter]:
    yield next(getattr(tower, name) for name in PROJECTIONS if hasattr(tower, name))


def _layernorm(norm: nn.LayerNorm) -> Iterator[nn.Parameter]:
    yield norm.weight
    yield norm.bias


def is_block(module: nn.Module) -> bool:
    """A transformer block is what holds an attention and an MLP: ours, and that of the `clip` package."""
    return isinstance(getattr(module, "attn", None), nn.MultiheadAttention) and hasattr(module, "mlp")


def _is_layernorm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm)


def _has_bias(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None


def _is_projected(module: nn.Module) -> bool:
    return any(isinstance(getattr(module, name, None), nn.Parameter) for name in PROJECTIONS)


PROJECTIONS = ("proj", "text_projection")


# kind -> what its layers count, in words; whether a module is one; the parameters of one
KINDS: dict[str, tuple[str, Callable[[nn.Module], bool], Callable[[nn.Module], Iterator[nn.Parameter]]]] = {
    "ffn_proj_bias": ("transformer blocks", is_block, _ffn_proj_bias),
    "ffn_bias": ("transformer blocks", is_block, _ffn_bias),
    "bias": ("transformer blocks", is_block, _bias),
    "layernorm": ("LayerNorms", _is_layernorm, _layernorm),
    "block_layernorm": ("transformer blocks", is_block, _block_layernorm),
    "module_bias": ("modules with a bias", _has_bias, _module_bias),
    "attn_in": ("transformer blocks", is_block, _attn_in),
    "attn_out": ("transformer blocks", is_block, _attn_out),
    "proj": ("projections into the joint space", _is_projected, _proj),
}
