"""The names of parameter groups, such as "text.bias[0:3]", and of maps that low-rank changes are for.

clipfit/groups.py and clipfit/low_rank.py say what they mean.

Imports no torch: a name is checked while a config is resolved.
"""

import re

from clipfit.io.names import nearest

TOWERS = ("text", "image")
KINDS = (  # of single layers
    *("ffn_proj_bias", "ffn_bias", "bias", "layernorm", "subnorm"),
    *("block_layernorm", "module_bias", "attn_in", "attn_out", "proj"),
)
KINDS_AND_ALL = (*KINDS, "all")
MAPS = ("q", "k", "v", "out", "ffn_in", "ffn_out")  # kinds of linear maps
GROUPS_AND_MAPS = {"parameter group": KINDS_AND_ALL, "map": MAPS}  # what a name means -> its kinds
GROUP = re.compile(r"(?P<tower>\w+)\.(?P<kind>\w+)(\[(?P<layers>[^\[\]]*)\])?")
LAYER = re.compile(r"(?P<index>-?\d+)|(?P<first>-?\d+)?:(?P<last>-?\d+)?")


def parse(group: str, of: str = "parameter group") -> tuple[str, str, list[dict[str, int]] | None]:
    """ "text.bias[0:3,5]" -> ("text", "bias", [{"first": 0, "last": 3}, {"index": 5}]).

    The list is None without layers.
    Args:   of, what is named: a parameter group, or a map
    Raises: ValueError with the nearest name for an unknown tower or kind, or for layers that are none
    """
    match, kinds = GROUP.fullmatch(group.strip()), GROUPS_AND_MAPS[of]
    if match is None or match["tower"] not in TOWERS or match["kind"] not in kinds:
        names = [f"{tower}.{kind}" for tower in TOWERS for kind in kinds]
        guess = nearest(group.partition("[")[0].strip(), names)
        raise ValueError(
            f"unknown {of} {group!r}; {f'did you mean {guess!r}? ' if guess else ''}a {of.split()[-1]} is "
            f"tower.kind or tower.kind[layers] with tower {' or '.join(TOWERS)} and kind "
            f"{', '.join(kinds[:-1])} or {kinds[-1]}, as in 'image.{kinds[0]}[0:3]'"
        )
    if match["layers"] is None:
        return match["tower"], match["kind"], None
    if match["kind"] == "all":
        raise ValueError(f"{group}: 'all' is the whole tower and takes no layers; drop [{match['layers']}]")
    return match["tower"], match["kind"], [_layer(group, item) for item in match["layers"].split(",")]


def _layer(group: str, item: str) -> dict[str, int]:
    match = LAYER.fullmatch(item.strip())
    if match is None:
        raise ValueError(
            f"{group}: {item.strip()!r} is no index or range; write [0], [-1], [0:3] or [0,5,9:]"
        )
    return {name: int(text) for name, text in match.groupdict().items() if text is not None}
