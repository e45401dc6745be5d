"""Digests of files and of lists."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

BLOCK = 1 << 20  # bytes
LONG = 1 << 28  # bytes: reading so many takes long enough for a progress bar


def list_digest(lines: Iterable[str]) -> str:
    """SHA-256 (hex) of the newline-joined lines: equal digests mean equal lists in equal order."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_digest(path: str | os.PathLike, kind: str = "sha256") -> str:
    """Hexadecimal digest of a file's bytes; a progress bar shows where that takes long."""
    path, digest = Path(path), hashlib.new(kind, usedforsecurity=False)
    size = path.stat().st_size
    with (
        open(path, "rb") as file,
        tqdm(
            desc=f"checking {path.name}", total=size, unit="B", unit_scale=True, disable=size < LONG or None
        ) as bar,
    ):
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
