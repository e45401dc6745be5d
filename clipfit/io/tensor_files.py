"""The two formats of `torch.save`, read without torch.load, which may run a file's program or unpack its tar.

zip       <name>/data.pkl, a pickle; <name>/data/<key>, the bytes of a storage, stored or deflated, with CRCs
pickles   before torch 1.6: a number that says so, a version, facts of the machine, the pickle, the keys of
          the storages, then per storage the count of its numbers and their bytes
"""

import io
import sys
import zipfile
from pathlib import PurePosixPath
from typing import IO, Any

import torch

from clipfit.io import safe_unpickle
from clipfit.io.safe_unpickle import Storage, StorageType

ZIP = b"PK\x03\x04"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
TAR, TAR_AT = b"ustar", 257
BLOCK = 1 << 20  # bytes
# Weights hardly shrink. What unpacks to more than so many times its size is made to take memory.
MOST_UNPACKED, ALWAYS_UNPACKED = 16, 1 << 26  # times, bytes


class TorchScript(ValueError):
    """The file is a program."""


def read(file: IO[bytes], size: int) -> Any:
    """What `torch.save` has written: tensors on the CPU in plain containers.

    Args:   size of the file in bytes
    Raises: TorchScript; safe_unpickle.RefusedGlobal for a pickle that would run code; ValueError, EOFError,
            zipfile.BadZipFile and many others for damage
    """
    start = file.read(TAR_AT + len(TAR))
    file.seek(0)
    if start.startswith(ZIP):
        return _read_zip(file, size)
    if start[TAR_AT:] == TAR:
        raise ValueError("a tar file, the format of torch before 0.1.10; save it anew with torch.save")
    return _read_pickles(_Bounded(file, size))


def is_program(file: IO[bytes]) -> bool:
    """Whether an open file is a TorchScript archive, as Python's reader of zip files sees it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(_is_of_program(name) for name in archive.namelist())
    except Exception:  # damaged zip files fail in many ways
        return False


def _is_of_program(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "constants.pkl" in parts or "code" in parts[:-1]


# zip ------------------------------------------------------------------------------------------------


def _read_zip(file: IO[bytes], size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        if any(map(_is_of_program, names)):
            raise TorchScript
        _check_sizes(records, size)
        roots = [name for name in names if PurePosixPath(name).name == "data.pkl" and name.count("/") == 1]
        if len(roots) != 1 or len(names) != len(records):
            raise ValueError("a zip file, but not one of torch.save")
        root = PurePosixPath(roots[0]).parent
        order = archive.read(f"{root}/byteorder").decode() if f"{root}/byteorder" in names else "little"
        if order not in ("little", "big"):
            raise ValueError(f"{root}/byteorder says neither little nor big")
        known: dict[str, torch.Tensor] = {}

        def storage(identifier: Any) -> Storage:
            kind, key, count = _storage(identifier)
            name = f"{root}/data/{key}"
            if name not in known:
                known[name] = _content(archive, archive.getinfo(name))
                if order != sys.byteorder and kind.itemsize > 1:
                    known[name].untyped_storage().byteswap(kind.dtype)
            if known[name].numel() != count * kind.itemsize:
                raise ValueError(f"{name} holds {known[name].numel():,} bytes, not {count * kind.itemsize:,}")
            return Storage(known[name], kind.dtype)

        content = safe_unpickle.load(io.BytesIO(archive.read(roots[0])), storage)
        for record in records:  # the rest is checked too
            if record.filename not in known:
                with archive.open(record) as rest:
                    while rest.read(BLOCK):
                        pass
        return content


def _check_sizes(records: list[zipfile.ZipInfo], size: int) -> None:
    """Bound what the records take in memory before any is read. Raises: ValueError"""
    stored = sum(record.file_size for record in records if record.compress_type == zipfile.ZIP_STORED)
    packed = sum(record.file_size for record in records if record.compress_type != zipfile.ZIP_STORED)
    if stored > size or packed > MOST_UNPACKED * size + ALWAYS_UNPACKED:
        raise ValueError(f"it says that it holds {stored + packed:,} bytes and has {size:,}")


def _content(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> torch.Tensor:
    """The bytes of a record (N,), their CRC checked."""
    content = torch.empty(record.file_size, dtype=torch.uint8)
    into, at = content.numpy(), 0
    with archive.open(record) as file:
        while block := file.read(BLOCK):
            into[at : at + len(block)] = memoryview(block)
            at += len(block)
    if at != len(into):
        raise EOFError(f"{record.filename} is cut short")
    return content


def _storage(identifier: Any) -> tuple[StorageType, str, int]:
    """Type, key and count of numbers, of what stands for a storage in a pickle. Raises: ValueError"""
    what, kind, key, _, count = identifier[:5]
    if what != "storage" or not isinstance(kind, StorageType):
        raise ValueError("something else than a storage stands for tensors")
    if not isinstance(key, (str, int)) or type(count) is not int or count < 0:
        raise ValueError("a storage without a name or size")
    return kind, str(key), count


# pickles --------------------------------------------------------------------------------------------


class _Bounded:
    """A file that never takes memory for more bytes than it has."""

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._size = file, size

    @property
    def left(self) -> int:
        return self._size - self._file.tell()

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise EOFError("the file is cut short")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline()


def _read_pickles(file: _Bounded) -> Any:
    if safe_unpickle.load(file) != MAGIC:
        raise ValueError("a pickle, but not one of torch.save")
    if safe_unpickle.load(file) != VERSION:
        raise ValueError("a version of torch.save that is not known")
    machine = safe_unpickle.load(file)
    known: dict[str, tuple[torch.Tensor, StorageType]] = {}
    taken = 0

    def storage(identifier: Any) -> Storage:
        nonlocal taken
        kind, key, count = _storage(identifier)
        if identifier[5:] not in ((None,), ()):
            raise ValueError("a storage that is part of another one")
        if key not in known:
            taken += count * kind.itemsize
            if taken > file.left:
                raise ValueError(f"its tensors take {taken:,} bytes, and {file.left:,} are left in the file")
            known[key] = torch.empty(count * kind.itemsize, dtype=torch.uint8), kind
        content, first = known[key]
        if (content.numel(), first.itemsize) != (count * kind.itemsize, kind.itemsize):
            raise ValueError(f"storage {key} is given twice, with different sizes")
        return Storage(content, kind.dtype)

    content = safe_unpickle.load(file, storage)
    keys = safe_unpickle.load(file)
    keys = [str(key) for key in keys if isinstance(key, (str, int))]
    if sorted(keys) != sorted(known):
        raise ValueError("the list of its storages is not that of its tensors")
    for key in keys:
        values, kind = known[key]
        if int.from_bytes(file.read(8), "little") * kind.itemsize != values.numel():
            raise ValueError(f"storage {key} has another size than its tensor says")
        values.numpy()[:] = memoryview(file.read(values.numel()))
        if machine.get("little_endian", True) != (sys.byteorder == "little") and kind.itemsize > 1:
            values.untyped_storage().byteswap(kind.dtype)
    return content
