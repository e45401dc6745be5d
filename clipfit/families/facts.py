"""What families share: the form of a picture, activations, and a memory of what files say of themselves."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

from clipfit.io.files import read_json, user_cache, write_json

QUICK_GELU, GELU, AUTO = "quick_gelu", "gelu", "auto"
ACTIVATIONS = (AUTO, QUICK_GELU, GELU)

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

MEMORY = "backbones-1.json"  # in the user's cache folder: digest of a file, or name -> what it says
MOST_REMEMBERED = 10_000


@dataclass(frozen=True)
class Input:
    """How a picture becomes what an image tower reads: `size` is the side in pixels, the rest INPUT.*."""

    size: int
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: str = "bicubic"
    resize: str = "shortest"


def recall(key: str) -> Input | None:
    """What was remembered under `key`; None if that is nothing, or damaged."""
    try:
        known = read_json(user_cache() / MEMORY)[key]
        return Input(
            size=int(known["size"]),
            mean=tuple(map(float, known["mean"])),
            std=tuple(map(float, known["std"])),
            interpolation=str(known["interpolation"]),
            resize=str(known["resize"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def remembered(key: str, read: Callable[[], Input]) -> Input:
    """What was remembered under `key`, else what `read` says, from now on remembered."""
    known = recall(key)
    if known is None:
        known = read()
        memory = {}
        with suppress(OSError, ValueError):
            memory = read_json(user_cache() / MEMORY)
        if not isinstance(memory, dict) or len(memory) >= MOST_REMEMBERED:
            memory = {}
        with suppress(OSError):
            write_json({**memory, key: json.loads(json.dumps(asdict(known)))}, user_cache() / MEMORY)
    return known
