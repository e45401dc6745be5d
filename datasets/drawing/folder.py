"""A folder of drawn pictures: made in one step, whole, and refused once it was changed.

Several processes may start at once, and a killed one leaves nothing that could be taken for a data set.
"""

import hashlib
import os
import shutil
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from dassl.utils import read_json, write_json
from datasets.drawing import picture

SPLIT_FILE = "split.json"
DIGEST_FILE = "drawn.json"  # the version of the drawing, and the digest of all files


def draw_once(folder: Path, classes: Sequence[str], condition: str, per_class: Mapping[str, int]) -> None:
    """Make sure that `folder` holds the drawn data set, whole and unchanged.

    Args:   condition, a key of picture.CONDITIONS; per_class, how many pictures of a class each list holds
    Raises: ValueError if the folder holds anything else; OSError as the file system reports it
    """
    if not _is_filled(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
        try:
            fresh.mkdir()
            print(f"drawing {len(classes) * sum(per_class.values()):,} pictures into {folder}")
            _write(fresh, folder.name, classes, condition, per_class)
            with suppress(OSError):  # another process was faster: its folder is judged below
                fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    check_drawn(folder)


def _is_filled(folder: Path) -> bool:
    return folder.exists() and any(folder.iterdir())


def _write(
    folder: Path, name: str, classes: Sequence[str], condition: str, per_class: Mapping[str, int]
) -> None:
    """Draw all pictures, then write the split file, then the digest; a picture depends on its name alone."""
    split = {part: [] for part in per_class}
    parts = [part for part, count in per_class.items() for _ in range(count)]
    for label, classname in enumerate(classes):
        stem = classname.replace(" ", "_")
        (folder / "images" / stem).mkdir(parents=True)
        for number, part in enumerate(parts, start=1):
            path = f"{stem}/{stem}_{number:04d}.png"
            rng = np.random.default_rng([zlib.crc32(name.encode()), label, number])
            picture.draw(classname, rng, condition).save(folder / "images" / path)
            split[part].append([path, label, classname])
    write_json(split, folder / SPLIT_FILE)
    write_json({"version": picture.VERSION, "sha256": _digest(folder)}, folder / DIGEST_FILE)


def _digest(folder: Path) -> str:
    """sha256 over names and bytes of all pictures and the split file; hidden files do not count."""
    total = hashlib.sha256()
    images = [path for path in folder.glob("images/*/*") if not path.name.startswith(".")]
    for path in sorted([folder / SPLIT_FILE, *images]):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def check_drawn(folder: Path) -> None:
    """Raise ValueError unless `folder` holds a drawn data set, whole and unchanged."""
    advice = "move it away, or delete it, and it is drawn again"
    try:
        drawn = read_json(folder / DIGEST_FILE)
        version, wanted = drawn["version"], drawn["sha256"]
        found = _digest(folder)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is not a whole embedded data set ({error}); {advice}") from error
    if version != picture.VERSION:
        raise ValueError(
            f"{folder} was drawn by version {version}, this is version {picture.VERSION}; {advice}"
        )
    if found != wanted:
        raise ValueError(f"{folder}: pictures or {SPLIT_FILE} were changed after drawing; {advice}")
