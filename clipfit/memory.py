"""How much goes through CLIP's towers at a time, from a budget for what the backward pass keeps."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from clipfit.clip import CLIP

GB = 1e9  # bytes
ON_GPU, ON_CPU = 1 / 2, 1 / 4  # of the memory that there is
MOST_ON_CPU = 2.75  # GB: 4,096 rows of text and 8 images of ViT-B/16; more makes no step faster
TEXT = 5 / 8  # of the budget; images have the rest
LEAST = 1 / 16  # GB: less than that helps nobody


@dataclass(frozen=True)
class Sizes:
    """At most so many rows of text, and images, at a time."""

    rows: int
    images: int


def sizes(clip: CLIP, gigabytes: float) -> Sizes:
    """What fits into a budget, by the shapes of the towers and the precision of their weights alone.

    A tower that does not say what it keeps is not bounded.
    """
    budget = gigabytes * GB / clip.dtype.itemsize
    row = getattr(clip.text_encoder, "kept_per_row", 0)
    image = getattr(clip.image_encoder, "kept_per_image", 0)
    return Sizes(_fitting(TEXT * budget, row), _fitting((1 - TEXT) * budget, image))


def _fitting(budget: float, each: int) -> int:
    return max(1, int(budget / each)) if each else 2**31


def default_budget(device: torch.device) -> float:
    """A share of the memory that a device has, whatever is free, in GB, to two digits."""
    if device.type == "cuda":
        share = ON_GPU * torch.cuda.get_device_properties(device).total_memory / GB
    else:
        share = min(MOST_ON_CPU, ON_CPU * _memory_of_machine() / GB)
    return max(LEAST, math.floor(100 * share) / 100)


def _memory_of_machine() -> float:
    """Bytes; infinity on a system that does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf
