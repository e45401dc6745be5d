"""Low-rank changes in the layout of the CLIP-LoRA release's files, `lora_weights.pt`.

weights    {"layer_<i>": {"q_proj": {"w_lora_A": (r, d), "w_lora_B": (d, r)}, "k_proj": ..., "v_proj": ...}};
           the blocks of the text tower come first, those of the image tower count on from there
metadata   r, alpha (the factor is alpha / sqrt(r)), encoder (text, vision or both), params (of q, k, v),
           position (which blocks; here: all)
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable

import torch

from clipfit.io.checkpoints import load_checkpoint, save_whole
from clipfit.low_rank import LowRankChange
from clipfit.modules.low_rank import PACKED

PREFIXES = {"text": "", "vision": "visual."}  # of OpenAI's names, by what the files call the tower
ENCODERS = {"text": ("text",), "vision": ("vision",), "both": ("text", "vision")}
WEIGHT = re.compile(r"(?P<tower>visual\.)?transformer\.resblocks\.(?P<block>\d+)\.attn\.in_proj_weight")


def read_released(path: str | os.PathLike, text_blocks: int) -> list[LowRankChange]:
    """The changes in a file of the release, under OpenAI's names.

    Args:   text_blocks of the backbone, which the file does not say
    Raises: OSError, ValueError naming the file if it cannot be read or has another layout
    """
    content = load_checkpoint(path)
    try:
        weights, metadata = content["weights"], content["metadata"]
        scale = float(metadata["alpha"]) / math.sqrt(metadata["r"])
        encoder = metadata["encoder"]
        shift = {"text": 0, "vision": text_blocks if encoder == "both" else 0}
        found = []
        for tower in ENCODERS[encoder]:
            last = text_blocks if (tower, encoder) == ("text", "both") else len(weights)
            for layer in range(shift[tower], last):
                name = f"{PREFIXES[tower]}transformer.resblocks.{layer - shift[tower]}.attn.in_proj_weight"
                for part in metadata["params"]:
                    factors = weights[f"layer_{layer}"][f"{part}_proj"]
                    down, up = (factors[key].detach().float() for key in ("w_lora_A", "w_lora_B"))
                    if part not in PACKED or down.shape[0] != metadata["r"]:
                        raise ValueError(f"{part} of layer {layer} has rank {down.shape[0]}")
                    found.append(LowRankChange(name, part, down, up, scale))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"{path} is no file of low-rank changes of q, k and v as CLIP-LoRA's release writes them: "
            f"{type(error).__name__} {error}"
        ) from error
    return found


def write_released(path: str | os.PathLike, changes: Iterable[LowRankChange]) -> None:
    """Write changes, under OpenAI's names, as the release does.

    Raises: ValueError if they are not of q, k and v in every block of a tower, or differ in rank or scale
    """
    changes = list(changes)
    places: dict[str, dict[int, dict[str, LowRankChange]]] = {"text": {}, "vision": {}}
    for change in changes:
        match = WEIGHT.fullmatch(change.name)
        if match is None or change.part not in PACKED:
            raise ValueError(f"the release's files hold changes of q, k and v only, not of {change.name}")
        tower = "vision" if match["tower"] else "text"
        places[tower].setdefault(int(match["block"]), {})[change.part] = change
    towers = [tower for tower, blocks in places.items() if blocks]
    blocks = [places[tower].get(index) for tower in towers for index in range(len(places[tower]))]
    alike = {(len(change.down), change.scale) for change in changes}
    parts = {tuple(block) for block in blocks if block}
    if not blocks or None in blocks or len(alike) > 1 or len(parts) > 1:
        raise ValueError(
            "the release's files hold the same maps with one rank and one factor for every block of a tower; "
            "these changes have others"
        )
    (rank, scale), params = next(iter(alike)), list(next(iter(parts)))
    weights = {
        f"layer_{number}": {
            f"{part}_proj": {"w_lora_A": _plain(change.down), "w_lora_B": _plain(change.up)}
            for part, change in block.items()
        }
        for number, block in enumerate(blocks)
    }
    metadata = {
        "r": rank,
        "alpha": scale * math.sqrt(rank),
        "encoder": towers[0] if len(towers) == 1 else "both",
        "params": params,
        "position": "all",
    }
    save_whole({"weights": weights, "metadata": metadata}, path)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().clone()
