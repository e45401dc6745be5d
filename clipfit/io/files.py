"""Files: JSON, folders, and writing that never leaves half a file behind."""

import errno
import json
import os
import platform
import re
import shutil
import stat
import time
import uuid
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

LONGEST_NAME = 255  # bytes of a file's name, on all file systems in use
LEFT_FOR_SURE = 24 * 3600  # seconds: no process writes one file for so long


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Give a file object whose content replaces `path` in one step when the block ends without an error.

    The content goes to a temporary file in the same folder (created if missing), is forced to the disk and
    renamed. If anything fails, the temporary file is removed and an older file at `path` stays as it was.
    Several processes may write the same path at once: one of them wins, whole. Text is UTF-8.

    Args:   mode "w" for text or "wb" for bytes
    Raises: ValueError for another mode; OSError as the file system reports it
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"atomic_write replaces whole files: mode is {mode!r}; choose 'w' or 'wb'")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        # "x" refuses an existing file, and unlike tempfile leaves the permissions to the user's umask.
        with open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as problem:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(problem, OSError) and problem.filename is None:
            raise unwritable(path, problem) from problem
        raise
    _fsync_folder(path.parent)


def temporary_beside(path: str | os.PathLike) -> Path:
    """A new name beside `path`, hidden: ``.<name>.<pid>-<host><random>.tmp``, both 8 hexadecimal digits."""
    path = Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}-{_host()}{uuid.uuid4().hex[:8]}.tmp")


def remove_leftovers(folder: str | os.PathLike, name: str | None = None) -> list[Path]:
    """Remove temporaries that killed processes have left in a folder: those of this host, and old ones.

    Args:    name, only temporaries of this name
    Returns: what was removed; what cannot be removed stays
    """
    removed = []
    for path in Path(folder).glob(".*.tmp"):
        found = re.fullmatch(r"\.(.+)\.(\d+)-(?:([0-9a-f]{8})?[0-9a-f]{8})\.tmp", path.name)
        if not found or name not in (None, found[1]):
            continue
        with suppress(OSError):  # another process may be as far
            is_old = time.time() - path.lstat().st_mtime > LEFT_FOR_SURE
            if not is_old and (found[3] != _host() or _is_alive(int(found[2]))):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(path)
    return removed


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        pass
    return True


def printable(text: str, most: int = 200) -> str:
    """The beginning of a text of somebody else's, without what would move a terminal's cursor."""
    return "".join(one if one.isprintable() else "?" for one in text[:most])


def open_regular(path: str | os.PathLike) -> IO[bytes]:
    """Open a file for reading bytes. What is no file on a disk is refused: a pipe would wait for ever.

    Raises: FileNotFoundError if there is nothing, or a folder; ValueError for pipes, sockets and devices;
            OSError as the file system reports it
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {str(path)!r}") from error
    except OSError as error:
        if error.errno != errno.ENXIO:  # a socket, or a device that is not there
            raise
        raise ValueError(f"{path} is a socket or a device, no file; give the path of a file") from error
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise FileNotFoundError(f"there is no file {str(path)!r}: that is a folder; name a file in it")
    raise ValueError(f"{path} is a pipe or a device, no file; give the path of a file")


def no_regular_file(path: str | os.PathLike) -> str:
    """What a path is that is no file on a disk: ``does not exist``, ``is a folder, no file``, ..."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return "does not exist"
    return "is a folder, no file" if stat.S_ISDIR(kind) else "is a pipe, a socket or a device, no file"


def unwritable(path: str | os.PathLike, cause: OSError) -> OSError:
    """The error that says which file could not be written, and what became of the old one."""
    return OSError(
        cause.errno,
        f"cannot save {path} ({cause.strerror or cause}); files saved before are unchanged: make room or "
        "choose another folder, and start again to resume",
    )


def _fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the file system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_json(path: str | os.PathLike) -> Any:
    """Raises: ValueError naming file, line and column if it is not JSON; FileNotFoundError."""
    with open(path, "rb") as file:
        return parse_json(file.read(), str(path))


def parse_json(content: bytes, what: str) -> Any:
    """The value of a JSON text in UTF-8, with or without a byte order mark.

    Args:   what, the file, or the file and line, for messages
    Raises: ValueError that begins with `what`
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        problem, cause = f"line {error.lineno}, column {error.colno}: {error.msg}", error
    except UnicodeDecodeError as error:
        problem, cause = f"it is not UTF-8 text: {error}", error
    except (ValueError, RecursionError) as error:
        problem, cause = "a number of thousands of digits, or groups in each other without end", error
    raise ValueError(
        f"{what} is not valid JSON ({problem}); it may be truncated: restore it or remove it"
    ) from cause


def write_json(obj: Any, path: str | os.PathLike) -> None:
    """Write `obj` atomically: indentation 4, ASCII escapes, no newline at the end; creates the folder."""
    with atomic_write(path) as file:
        json.dump(obj, file, indent=4, separators=(",", ": "))


def mkdir_if_missing(dirname: str | os.PathLike) -> None:
    """Create the folder and its parents; an existing one, or the empty name of the current one, is fine."""
    if dirname:
        os.makedirs(dirname, exist_ok=True)


def check_isfile(path: str | os.PathLike) -> bool:
    """Whether `path` is a file; warns if it is not."""
    found = os.path.isfile(path)
    if not found:
        warnings.warn(f"no file found at {str(path)!r}", stacklevel=2)
    return found


def listdir_nohidden(path: str | os.PathLike, sort: bool = False) -> list[str]:
    """Names in a folder that do not start with a dot; in the file system's order unless `sort`."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def user_cache() -> Path:
    """The user's cache folder of this project: $XDG_CACHE_HOME/clipfit, else ~/.cache/clipfit."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipfit"
