"""From a backbone's name to a CLIP in memory (which names there are: clipfit/backbones.py)."""

from __future__ import annotations

import os

import torch

from clipfit import backbones
from clipfit.clip import CLIP
from clipfit.families.facts import ACTIVATIONS, AUTO

PRECISIONS = ("fp32", "fp16", "amp")


def load_clip(
    name: str,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
    cache_dir: str | os.PathLike | None = None,
    activation: str = AUTO,
) -> CLIP:
    """Load a CLIP in eval mode; which parameters train is left to the caller.

    Args:    name, see clipfit/backbones.py
             precision "fp32": everything float32, with the values the file holds; "amp": the same (autocast
             is the caller's); "fp16": OpenAI's mixed layout, where matrices and their biases are float16 and
             LayerNorms, embeddings and the logit scale float32
             cache_dir, folder of downloaded weights (default: $CLIP_CACHE, else ~/.cache/clip; of open_clip's
             tags that of Hugging Face)
             activation "quick_gelu" or "gelu"; "auto": what the file or its config says, else quick_gelu with
             a warning where that is in doubt
    Raises:  ValueError for an unknown name, precision or activation and for a file that is no CLIP;
             FileNotFoundError; ConnectionError if weights cannot be fetched
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
    backbones.check_name(name)
    clip = backbones.family_of(name).load(name, precision == "fp16", cache_dir, activation)
    return clip.eval().to(device)
