"""Test pictures, resized and cropped, kept in files that all runs of a user share.

A test decodes and resizes the same pictures as every test before it, which costs ten times what it takes to
read the pixels that came out. They are kept in the user's cache folder, a file per list of pictures and
transform, a row of fixed size per picture.

A row counts only if the picture's file is as it was when the row was written (path, size, times and inode)
and the row's check sum is right. What differs is made anew and written in its place. So nothing needs a lock:
processes that write one row at once write the same bytes, and one that was killed leaves a row that does not
count.
"""

import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from PIL import features
from torch import Tensor

from clipfit.io.digests import SETTLED
from clipfit.io.files import user_cache
from dassl.data.transforms.in_bytes import BytesTransform

FOLDER = "test_pictures-1"  # the number is that of the format
SUFFIX = ".pixels"
TAG, HEAD = 12, 16  # bytes: what a row belongs to; with the check sum of its pixels
DECODERS = ("jpg", "libjpeg_turbo", "zlib", "webp", "libtiff", "jpg_2000", "avif")


FileState = tuple[os.stat_result, int]  # and when that was [ns]


class KeptPictures:
    """Pixels uint8 (3, H, W) of the pictures of a list, by their places in it.

    Args:   path, of the file; count, number of pictures; size (H, W); steps, the transform's, as text
    Raises: OSError if the file cannot be opened
    """

    def __init__(self, path: str | os.PathLike, count: int, size: tuple[int, int], steps: str):
        self.path, self.count, self.size, self.steps = Path(path), count, size, steps
        self._row = row_bytes(size)
        self._may_write = True
        # Read and written at offsets, which all processes may do at once. Through a memory map, whose pages
        # are the same, a full disk or a file that somebody cuts would end the process without a word.
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if os.fstat(self._file).st_size != count * self._row:
            os.ftruncate(self._file, count * self._row)

    def get(self, number: int, picture: str) -> Tensor | None:
        """Pixels of the picture at a place in the list; None where there are none that can be trusted."""
        head, pixels = bytearray(HEAD), np.empty((3, *self.size), np.uint8)
        try:
            expected = _tag(picture, os.stat(picture))
            read = os.preadv(self._file, [head, pixels], number * self._row)
        except OSError:  # of the picture's file: whoever decodes it says what is wrong
            return None
        if read != self._row or head[:TAG] != expected or head[TAG:] != _checksum(pixels):
            return None
        return torch.from_numpy(pixels)

    def are_of(self, transform: BytesTransform) -> bool:
        """Whether the transform is still the one whose pixels are kept: a plugin may exchange it."""
        return transform.steps_as_text == self.steps

    def put(self, number: int, picture: str, pixels: Tensor, before: FileState | None) -> None:
        """Keep the pixels of a picture, unless its file may have changed while it was read.

        Args: before, its file before it was read
        """
        if not self._may_write or before is None or tuple(pixels.shape) != (3, *self.size):
            return
        status, read = before
        try:
            tag = _tag(picture, os.stat(picture))
            settled = max(status.st_mtime_ns, status.st_ctime_ns) < read - SETTLED
            if not settled or tag != _tag(picture, status):
                return
            values = pixels.numpy()
            os.pwritev(self._file, [tag, _checksum(values), values], number * self._row)
        except OSError:  # a full disk: the test goes on without
            self._may_write = False

    def __deepcopy__(self, memo) -> "KeptPictures":
        """A copied loader reads the same files: it shares the rows."""
        return self

    def __reduce__(self):
        return KeptPictures, (self.path, self.count, self.size, self.steps)

    def __del__(self):
        with suppress(AttributeError, OSError):  # not opened
            os.close(self._file)


def keep_pictures(
    pictures: Sequence[str], transform: BytesTransform, upright: bool, limit: float
) -> tuple[KeptPictures | None, str]:
    """The file of a list of pictures under a transform, and a line that says what it is.

    Files that were not opened for longest make room for it.

    Args:    upright, whether pictures are turned as their EXIF tag says; limit, of all files together [bytes]
    Returns: None for the file where there is no room, or the transform's pixels are not always the same
    """
    size = _size(transform)
    if size is None:
        return None, ""
    needed = len(pictures) * row_bytes(size)
    room = f"{needed / 1e6:,.1f} MB of DATALOADER.TEST_CACHE_GB {limit / 1e9:g}"
    if needed > limit:
        return None, f"test pictures: not kept, as they take {room}"
    folder = user_cache() / FOLDER
    path = folder / f"{_name(pictures, transform, upright)}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_room(folder, needed, limit)
            if shutil.disk_usage(folder).free < 2 * needed:
                return None, f"test pictures: not kept, as they take {room} and the disk is nearly full"
        kept = KeptPictures(path, len(pictures), size, transform.steps_as_text)
        os.utime(path)
    except OSError as error:
        return None, f"test pictures: not kept ({error.strerror or error}: {folder})"
    return kept, f"test pictures: resized once and kept, {room}, in {folder}"


def file_state(path: str | os.PathLike) -> FileState | None:
    """What a picture's file is now; None if nothing is there."""
    try:
        return os.stat(path), time.time_ns()
    except OSError:
        return None


def row_bytes(size: tuple[int, int]) -> int:
    return HEAD + 3 * size[0] * size[1]


def _size(transform: BytesTransform) -> tuple[int, int] | None:
    """(H, W) of every picture that comes out; None if sizes, or a picture's pixels, may differ."""
    if not transform.steps or not transform.repeatable:
        return None
    size = transform.steps[-1].size
    return tuple(size) if isinstance(size, Sequence) and len(size) == 2 else None


def _name(pictures: Sequence[str], transform: BytesTransform, upright: bool) -> str:
    """Digest of all that decides the pixels beside the files: the list, the steps, and who decodes."""
    digest = hashlib.blake2b(digest_size=16)
    for fact in (upright, transform.steps_as_text, *_decoders(), *map(os.path.abspath, pictures)):
        digest.update(os.fsencode(str(fact)) + b"\0")
    return digest.hexdigest()


def _decoders() -> list[str]:
    packages = [f"{name} {metadata.version(name)}" for name in ("Pillow", "torchvision")]
    return packages + [f"{name} {features.version(name)}" for name in DECODERS]


def _make_room(folder: Path, needed: int, limit: float) -> None:
    """Remove files until the others and a new one are within the limit; open ones live until closed."""
    found = {}
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):  # another process removes it
            found[path] = path.stat()
    total = sum(status.st_size for status in found.values())
    for path in sorted(found, key=lambda path: found[path].st_mtime_ns):
        if total + needed <= limit:
            return
        path.unlink(missing_ok=True)
        total -= found[path].st_size


def _tag(picture: str, status: os.stat_result) -> bytes:
    state = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    content = os.fsencode(os.path.abspath(picture)) + repr(state).encode()
    return hashlib.blake2b(content, digest_size=TAG).digest()


def _checksum(pixels: np.ndarray) -> bytes:
    return zlib.crc32(pixels).to_bytes(HEAD - TAG, "little")
