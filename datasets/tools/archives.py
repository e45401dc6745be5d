"""Unpacking tar and zip files of the outside world: nothing lands outside the target folder."""

import errno
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

BLOCK = 1 << 20  # bytes
DEEPEST, LONGEST = 40, 255  # folders in a path, bytes of a name
ENCRYPTED = 1  # flag of a member of a zip file
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_YOURSELF = "; unpack it yourself, as with `7z x`, and put the files where DATASETS.md says"
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    UnicodeError,
    struct.error,
)


def extract(archive: str | os.PathLike | IO[bytes], target: str | os.PathLike, title: str = "") -> int:
    """Unpack a tar (of any compression) or zip file below `target`, which is created.

    Only files and folders are written. A link becomes a copy of the file of the archive that it names.

    Args:
        archive: a path, or an open tar file that is read once from front to back.
        title: what the progress bar says; empty: no bar.
    Returns: number of files written.
    Raises: ValueError if it is no archive, is damaged or cut off, or holds no file; if a member is a device,
        is file and folder at once, or is a path or a link that leaves the target. What was unpacked before
        stays: unpack into a fresh folder.
    """
    shown = title or getattr(archive, "name", archive)
    members = _members(archive)
    count = 0
    with tqdm(desc=title, unit=" files", disable=None if title else True) as bar:
        try:
            for name, content in members:
                path = _inside(Path(target), name, shown)
                try:
                    (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
                    file = None if content is None else open(path, "wb")  # noqa: SIM115 - closed below
                except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                    raise ValueError(
                        f"{shown}: {name!r} is a file and a folder; nothing more is taken from this archive"
                    ) from error
                if file is None:
                    continue
                with content, file:
                    while block := content.read(BLOCK):
                        _write(file, block, path)
                count += 1
                bar.update()
        except NotImplementedError as error:
            raise ValueError(
                f"{shown} is a zip file of a kind that is not read here ({error}){_YOURSELF}"
            ) from error
        except (*_DAMAGE, OSError) as error:
            # Else the disk is at fault, not the archive. EINVAL: it sent its reader before the beginning.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise ValueError(
                f"{shown} is damaged or cut off ({error}); remove it and get it again"
            ) from error
    if not count:
        raise ValueError(f"{shown} is an archive without files; remove it and get it again")
    return count


def _members(archive) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of every member; content None is a folder."""
    if not isinstance(archive, (str, os.PathLike)):
        with tarfile.open(fileobj=archive, mode="r|", tarinfo=_Member) as tar:
            yield from _tar_members(tar, archive)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            _check_readable(file, archive)
            yield from _zip_members(file, archive)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive, tarinfo=_Member) as tar:
            yield from _tar_members(tar, archive)
            while tar.fileobj.read(BLOCK):  # to the end, where compressed files have their check sum
                pass
    else:
        raise ValueError(f"{archive} is {_looks_like(archive)}, neither a tar nor a zip file; get it again")


class _Member(tarfile.TarInfo):
    """A member whose header is damaged or missing is an error. tarfile takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # the block of zeros that ends an archive
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _tar_members(tar: tarfile.TarFile, shown) -> Iterator[tuple[str, IO[bytes] | None]]:
    for member in tar:
        if member.isdir():
            yield member.name, None
        elif member.isreg() or member.islnk() or member.issym():
            try:
                content = tar.extractfile(member)  # follows links, and never out of the archive
            except (KeyError, RecursionError, tarfile.StreamError) as error:
                raise ValueError(
                    f"{shown}: {member.name!r} is a link to {member.linkname!r}, which the archive lacks; "
                    "nothing is taken from it"
                ) from error
            if content is not None:  # None: a link to a folder
                yield member.name, content
        else:
            raise ValueError(f"{shown}: {member.name!r} is a device; nothing is taken from this archive")


def _zip_members(file: zipfile.ZipFile, shown) -> Iterator[tuple[str, IO[bytes] | None]]:
    for member in file.infolist():
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{shown}: {member.filename!r} is a link; nothing is taken from this archive")
        yield member.filename, None if member.is_dir() else file.open(member)


def _check_readable(file: zipfile.ZipFile, shown) -> None:
    """Raises: ValueError for what Python cannot unpack, before anything is unpacked"""
    for member in file.infolist():
        if member.flag_bits & ENCRYPTED:
            raise ValueError(f"{shown}: {member.filename!r} is encrypted{_YOURSELF}")
        if member.compress_type not in METHODS:
            method = zipfile.compressor_names.get(member.compress_type, "an unknown way")
            raise ValueError(
                f"{shown}: {member.filename!r} is compressed by {method} (method {member.compress_type})"
                f"{_YOURSELF}"
            )


def _write(file: IO[bytes], block: bytes, path: Path) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {path} ({error.strerror}); make room, and start again"
        ) from error


def _inside(target: Path, name: str, shown) -> Path:
    parts = name.replace("\\", "/").split("/")
    if len(parts) > DEEPEST or any(len(os.fsencode(part)) > LONGEST for part in parts) or "\0" in name:
        raise ValueError(
            f"{shown}: {name[:40]!r}... has {len(parts)} folders and {len(name):,} characters, as no file of "
            "a data set has; nothing is taken from this archive"
        )
    if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name):
        raise ValueError(f"{shown}: {name!r} leaves the folder; nothing is taken from this archive")
    return target.joinpath(*parts)


def _looks_like(path) -> str:
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    if not start:
        return "empty"
    return "a web page" if start.startswith((b"<!doctype", b"<html")) else "an unknown kind of file"
