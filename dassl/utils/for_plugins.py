"""For plugins: helpers of Dassl's that nothing here calls, or only what is for plugins too.

Importing this file imports no torch.
"""

from __future__ import annotations

import difflib
import os
import urllib.request
from collections.abc import Iterable
from typing import TYPE_CHECKING

from clipfit.io.files import atomic_write

if TYPE_CHECKING:
    from torch import nn


def open_all_layers(model: nn.Module) -> None:
    """Put the module in training mode and let all its parameters train."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | Iterable[str]) -> None:
    """Let the direct children named in `open_layers` train; freeze the others, in evaluation mode.

    Raises: ValueError for a name that is no child
    """
    model = unwrapped(model)
    names = [open_layers] if isinstance(open_layers, str) else list(open_layers)
    children = dict(model.named_children())
    if missing := [name for name in names if name not in children]:
        raise ValueError(f"no layer {missing[0]!r} in the model; its layers: {', '.join(children)}")
    for name, child in children.items():
        child.train(name in names)
        child.requires_grad_(name in names)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `nn.DataParallel`, or the module itself."""
    from torch import nn

    return model.module if isinstance(model, nn.DataParallel) else model


def collect_env_info() -> str:
    """Torch's report on versions, system and GPUs, and the version of Pillow."""
    import PIL
    from torch.utils.collect_env import get_pretty_env_info

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"


def download_url(url: str, dst: str | os.PathLike) -> None:
    """Download `url` to the file `dst`, which appears only when it is complete."""
    with urllib.request.urlopen(url) as response, atomic_write(dst, "wb") as file:
        while block := response.read(1 << 20):
            file.write(block)


def get_most_similar_str_to_a_from_b(a: str, b: Iterable[str]) -> str | None:
    """The element of `b` with the highest difflib ratio to `a`, a later one on ties; None for no `b`."""
    return max(
        reversed(list(b)), key=lambda choice: difflib.SequenceMatcher(None, a, choice).ratio(), default=None
    )
