"""A folder of drawn pictures: made in one step, whole, and refused once it was changed.

Several processes may start at once, and a killed one leaves nothing that could be taken for a data set.
"""

import hashlib
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from clipfit.io.digests import content_digests
from clipfit.io.files import remove_leftovers, temporary_beside
from dassl.utils import read_json, write_json
from datasets.drawing import picture

SPLIT_FILE = "split.json"
DIGEST_FILE = "drawn.json"  # the version of the drawing, and the digest of all files


def draw_once(folder: Path, classes: Sequence[str], condition: str, per_class: Mapping[str, int]) -> None:
    """Make sure that `folder` holds the drawn data set, whole and unchanged.

    Of processes that start at once, one draws and the others wait for it.

    Args:   condition, a key of picture.CONDITIONS; per_class, how many pictures of a class each list holds
    Raises: ValueError if the folder holds anything else; OSError naming the folder
    """
    if not _is_filled(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if not _is_filled(folder):
                _draw(folder, classes, condition, per_class)
    check_drawn(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes waiting. Two that draw nevertheless do no harm: the folder appears in one step."""
    lock = FileLock(folder.with_name(f".{folder.name}.drawing"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process, which draws {folder}")
        lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _draw(folder: Path, classes: Sequence[str], condition: str, per_class: Mapping[str, int]) -> None:
    remove_leftovers(folder.parent, folder.name)
    fresh = temporary_beside(folder)
    try:
        fresh.mkdir()
        print(f"drawing {len(classes) * sum(per_class.values()):,} pictures into {folder}")
        _write(fresh, folder.name, classes, condition, per_class)
        with suppress(OSError):  # another process was faster: its folder is judged by the caller
            fresh.rename(folder)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot draw the data set {folder} ({error.strerror or error}); make room, or choose another "
            "--root",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


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
    paths = sorted([folder / SPLIT_FILE, *images])
    digests = content_digests(paths)  # remembered while nobody touches the files
    for path, digest in zip(paths, digests, strict=True):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(bytes.fromhex(digest))
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
