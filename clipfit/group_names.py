"""The names of parameter groups, such as "text.bias[0:3]"; clipfit/groups.py says what they mean.

Imports no torch: a name is checked while a config is resolved.
"""

import re
from collections.abc import Sequence

from clipfit.io.names import nearest

TOWERS = ("text", "image")
KINDS = (  # of single layers
    *("ffn_proj_bias", "ffn_bias", "bias", "layernorm", "subnorm"),
    *("block_layernorm", "module_bias", "attn_in", "attn_out", "proj"),
)
KINDS_AND_ALL = (*KINDS, "all")
GROUP = re.compile(r"(?P<tower>\w+)\.(?P<kind>\w+)(\[(?P<layers>[^\[\]]*)\])?")
LAYER = re.compile(r"(?P<index>-?\d+)|(?P<first>-?\d+)?:(?P<last>-?\d+)?")


def parse(group: str, kinds: Sequence[str] = KINDS_AND_ALL) -> tuple[str, str, list[dict[str, int]] | None]:
    """ "text.bias[0:3,5]" -> ("text", "bias", [{"first": 0, "last": 3}, {"index": 5}]).

    The list is None without layers. `kinds` are others than those of groups: of low-rank changes, say.
    Raises: ValueError with the nearest name for an unknown tower or kind, or for layers that are none
    """
    match = GROUP.fullmatch(group.strip())
    if match is None or match["tower"] not in TOWERS or match["kind"] not in kinds:
        names = [f"{tower}.{kind}" for tower in TOWERS for kind in kinds]
        guess = nearest(group.partition("[")[0].strip(), names)
        raise ValueError(
            f"unknown parameter group {group!r}; {f'did you mean {guess!r}? ' if guess else ''}a group is "
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
