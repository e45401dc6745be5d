"""Parameter groups: "text.ffn_proj_bias", "image.layernorm[0:3]" -> the parameters of a CLIP.

A group is `tower.kind` or `tower.kind[layers]`.
  tower   text (the encoder; the token embedding is not in it) or image
  kind    ffn_proj_bias   bias of the last feed-forward layer of each block
          ffn_bias        biases of all feed-forward layers of each block
          bias            every bias inside the blocks, their LayerNorms' included
          layernorm       gains and biases of every LayerNorm of the tower, those of its pooling too
          subnorm         of the LayerNorms inside attention or MLP, which `layernorm` leaves out (EVA-02)
          block_layernorm of the blocks' own LayerNorms, without those before and behind the blocks
          module_bias     bias of every Linear and LayerNorm of the tower; that of attention's packed q, k, v,
                          which belongs to no such module, is left out
          attn_in         weight and bias of attention's packed q, k, v
          attn_out        weight and bias of attention's output projection
          proj            the matrix into the joint space of both towers; one layer
          all             every parameter of the tower; takes no layers
  layers  comma list of Python indices and ranges: [0], [-1], [0:3], [0,5,9:]. They count blocks, or with
          `layernorm` the LayerNorms in forward order (image 0 is ln_pre; on 12 blocks 25 is ln_post) and with
          `module_bias` its modules
Parameters are found by the roles of their modules, in our modules and in those of open_clip, timm and
transformers. BatchNorm and RMSNorm are no LayerNorms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import nn

from clipfit.clip import CLIP
from clipfit.group_names import parse
from clipfit.modules import ModifiedResNet


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
        yield from _all(tower, tower_name)
        return
    words, modules_of, of_module = KINDS[kind]
    modules = [module for module in modules_of(tower) if any(True for _ in of_module(module))]
    if not modules:
        raise ValueError(_none_of(clip, group, words))
    for index in indices(group, layers, len(modules), words):
        yield from of_module(modules[index])


def _none_of(clip: CLIP, group: str, words: str) -> str:
    """That a tower has nothing of a kind, and what groups there are."""
    towers = {"text": clip.text_encoder, "image": clip.image_encoder}
    possible = [
        f"{name}.{kind}"
        for name, tower in towers.items()
        for kind, (_, modules_of, of_module) in KINDS.items()
        if any(True for module in modules_of(tower) for _ in of_module(module))
    ]
    tower = group.partition(".")[0]
    reason = f"this {tower} tower has no {words}"
    if isinstance(towers[tower], ModifiedResNet):
        reason = f"this image tower is a ResNet, which has no {words}"
    advice = "choose a ViT backbone, or only from" if tower == "image" else "choose from"
    return f"{group}: {reason}; {advice} {', '.join([*possible, 'text.all', 'image.all'])}"


def indices(group: str, layers: list[dict[str, int]] | None, total: int, what: str) -> list[int]:
    """Positions that a parsed layer list names, in its order and each once."""
    if layers is None:
        return list(range(total))
    chosen: list[int] = []
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
        chosen += found
    return list(dict.fromkeys(chosen))


# Roles ----------------------------------------------------------------------------------------------

ATTENTION = ("attn", "self_attn", "attention")  # what the attention of a block is called
FEED_FORWARD = (("mlp",), ("intermediate", "output"))  # and its MLP; BERT's has two parts


def _all(tower: nn.Module, name: str) -> Iterator[nn.Parameter]:
    """Every parameter; of a text tower without the token embedding, which some libraries keep inside."""
    embeddings = [module for module in tower.modules() if isinstance(module, nn.Embedding)]
    outside = {id(max(embeddings, key=lambda one: one.num_embeddings).weight)} if embeddings else set()
    yield from (one for one in tower.parameters() if name == "image" or id(one) not in outside)


def _parts(block: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    return [part for name in names if isinstance(part := getattr(block, name, None), nn.Module)]


def _mlp(block: nn.Module) -> list[nn.Module]:
    """The MLP of a block, in one part or two; [] for a module that is no block."""
    for names in FEED_FORWARD:
        if len(parts := _parts(block, names)) == len(names) and _parts(block, ATTENTION):
            return parts
    return []


def blocks(tower: nn.Module) -> list[nn.Module]:
    """The transformer blocks in forward order: what holds an attention and an MLP."""
    return [module for module in tower.modules() if _mlp(module)]


def _layernorms(tower: nn.Module) -> list[nn.Module]:
    inside = set(map(id, _subnorms(tower)))
    return [one for one in tower.modules() if isinstance(one, nn.LayerNorm) and id(one) not in inside]


def _subnorms(tower: nn.Module) -> list[nn.Module]:
    """The LayerNorms inside attention and MLP. BERT's blocks have none: those there are the blocks' own."""
    found = []
    for block in blocks(tower):
        if _parts(block, ("mlp",)):
            parts = _parts(block, (*ATTENTION, "mlp"))
            found += [one for part in parts for one in part.modules() if isinstance(one, nn.LayerNorm)]
    return found


def _feed_forward(block: nn.Module) -> list[nn.Linear]:
    return [one for part in _mlp(block) for one in part.modules() if isinstance(one, nn.Linear)]


def _ffn_proj_bias(block: nn.Module) -> Iterator[nn.Parameter]:
    yield from _given(layer.bias for layer in _feed_forward(block)[-1:])


def _ffn_bias(block: nn.Module) -> Iterator[nn.Parameter]:
    yield from _given(layer.bias for layer in _feed_forward(block))


def _bias(block: nn.Module) -> Iterator[nn.Parameter]:
    for module in block.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias" or name.endswith("_bias"):
                yield parameter


def _of_norm(norm: nn.LayerNorm) -> Iterator[nn.Parameter]:
    yield from _given((norm.weight, norm.bias))


def _block_layernorms(block: nn.Module) -> Iterator[nn.Parameter]:
    for module in block.children():
        if isinstance(module, nn.LayerNorm):
            yield from _of_norm(module)


def _module_bias(module: nn.Module) -> Iterator[nn.Parameter]:
    yield module.bias


def _attn_in(block: nn.Module) -> Iterator[nn.Parameter]:
    for attn in _parts(block, ATTENTION):
        if isinstance(attn, nn.MultiheadAttention):
            yield from _given((attn.in_proj_weight, attn.in_proj_bias))
        else:
            yield from (one for layer in _parts(attn, ("qkv",)) for one in layer.parameters())


def _attn_out(block: nn.Module) -> Iterator[nn.Parameter]:
    for attn in _parts(block, ATTENTION):
        yield from (one for layer in _parts(attn, ("out_proj", "proj")) for one in layer.parameters())


def _proj(tower: nn.Module) -> Iterator[nn.Parameter]:
    yield next(one for name in PROJECTIONS if isinstance(one := getattr(tower, name, None), nn.Parameter))


def _with_bias(tower: nn.Module) -> list[nn.Module]:
    linear_or_norm = (one for one in tower.modules() if isinstance(one, (nn.Linear, nn.LayerNorm)))
    return [one for one in linear_or_norm if one.bias is not None]


def _projected(tower: nn.Module) -> list[nn.Module]:
    found = (isinstance(getattr(tower, name, None), nn.Parameter) for name in PROJECTIONS)
    return [tower] if any(found) else []


def _given(parameters: Iterable[nn.Parameter | None]) -> Iterator[nn.Parameter]:
    yield from (one for one in parameters if one is not None)


PROJECTIONS = ("proj", "text_projection")  # into the joint space, as plain matrices


# kind -> what its layers count, in words; these modules of a tower; the parameters of one
KINDS: dict[
    str,
    tuple[str, Callable[[nn.Module], list[nn.Module]], Callable[[nn.Module], Iterator[nn.Parameter]]],
] = {
    "ffn_proj_bias": ("transformer blocks", blocks, _ffn_proj_bias),
    "ffn_bias": ("transformer blocks", blocks, _ffn_bias),
    "bias": ("transformer blocks", blocks, _bias),
    "layernorm": ("LayerNorms", _layernorms, _of_norm),
    "subnorm": ("LayerNorms inside attention or MLP", _subnorms, _of_norm),
    "block_layernorm": ("transformer blocks", blocks, _block_layernorms),
    "module_bias": ("modules with a bias", _with_bias, _module_bias),
    "attn_in": ("transformer blocks", blocks, _attn_in),
    "attn_out": ("transformer blocks", blocks, _attn_out),
    "proj": ("projections into the joint space", _projected, _proj),
}
