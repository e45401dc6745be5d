"""Digests of files and of lists.

The digest of a file's content is remembered in the user's cache folder by path, size, times and inode, so a
file that nobody has touched is not read again. The cache is an SQLite database that any number of processes
may use at once; one that is damaged, locked or cannot be written only costs the time of reading files again.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from clipfit.io.files import open_regular, user_cache

BLOCK = 1 << 20  # bytes
LONG = 1 << 28  # bytes: reading so many takes long enough for a progress bar

DATABASE = "digests-1.sqlite"  # the number is that of the format
MOST = 500_000  # files remembered, about 100 MB; beyond that the ones that were not asked for longest go
PATIENCE = 2.0  # seconds to wait for another process that is writing
WEEK = 7 * 24 * 3600
# A change may leave the times as they are when it follows the reading within a tick of the file system's
# clock. Files that changed less than this long before they were read are not remembered.
SETTLED = 2_000_000_000  # nanoseconds


def list_digest(lines: Iterable[str]) -> str:
    """SHA-256 (hex) of the newline-joined lines: equal digests mean equal lists in equal order."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_digest(path: str | os.PathLike, kind: str = "sha256") -> str:
    """Hexadecimal digest of a file's bytes; a progress bar shows where that takes long."""
    path, digest = Path(path), hashlib.new(kind, usedforsecurity=False)
    size = path.stat().st_size
    with open_regular(path) as file, _progress(f"checking {path.name}", size, shown=size >= LONG) as bar:
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _progress(title: str, size: int, shown: bool):
    """A bar over so many bytes, on a terminal."""
    from tqdm import tqdm  # here, so that a backbone's name can be looked up where no package is installed

    return tqdm(desc=title, total=size, unit="B", unit_scale=True, disable=None if shown else True)


# Remembered digests ---------------------------------------------------------------------------------


def content_digest(path: str | os.PathLike) -> str:
    """SHA-256 (hex) of a file's content, remembered. Raises: OSError as the file system reports it."""
    return content_digests([path])[0]


def content_digests(paths: Iterable[str | os.PathLike]) -> list[str]:
    """SHA-256 (hex) of the content of each file, in order, remembered.

    Raises: OSError as the file system reports it; what was read before is remembered
    """
    with Digests() as digests:
        return digests.of_files(paths)


class Digests:
    """Digests of files' contents. What is new among them is remembered, in one go, when the block ends.

    >>> with Digests() as digests:
    ...     weights = digests.of_file("model.pt")
    ...     content, photo = digests.read("photo.jpg")  # for whoever needs the bytes anyway

    Args: folder that holds the database; default: the user's cache folder
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self._memory = Memory(Path(folder or user_cache()) / DATABASE)

    def __enter__(self) -> "Digests":
        return self

    def __exit__(self, *problem) -> None:
        self._memory.close()

    def of_file(self, path: str | os.PathLike) -> str:
        """Digest of a file, read only if its digest is not known. Raises: OSError"""
        return self._memory.recall(path, os.stat(path)) or self._read(path)

    def of_files(self, paths: Iterable[str | os.PathLike]) -> list[str]:
        """Digests in order; a progress bar shows where reading takes long. Raises: OSError"""
        paths = list(map(os.fspath, paths))
        status = {path: os.stat(path) for path in paths}
        known = {path: self._memory.recall(path, status[path]) for path in status}
        unknown = [path for path in known if known[path] is None]
        size = sum(status[path].st_size for path in unknown)
        long = size >= LONG and len(unknown) > 1
        with _progress("reading files for their digests", size, shown=long) as bar:
            for path in unknown:
                known[path] = self._read(path)
                bar.update(status[path].st_size)
        return [known[path] for path in paths]

    def read(self, path: str | os.PathLike) -> tuple[bytes, str]:
        """A file's bytes and their digest: one pass for both. Raises: OSError"""
        begun = time.time_ns()
        with open_regular(path) as file:
            before, content, after = os.fstat(file.fileno()), file.read(), os.fstat(file.fileno())
        digest = hashlib.sha256(content).hexdigest()
        self._memory.keep(path, before, after, digest, begun)
        return content, digest

    def _read(self, path: str | os.PathLike) -> str:
        begun, before = time.time_ns(), os.stat(path)
        digest = file_digest(path)
        self._memory.keep(path, before, os.stat(path), digest, begun)
        return digest


class Memory:
    """The database: path -> state of the file, digest, when that was last asked for, a check sum of all.

    What is remembered of a file in a state may be any text that its content decides.
    """

    def __init__(self, path: Path):
        self._path = path
        self._new = {}  # key -> row
        self._connection = None
        with suppress(OSError, sqlite3.Error):
            self._connection = self._open()

    def recall(self, path: str | os.PathLike, status: os.stat_result) -> str | None:
        """The digest of the file in this state, None if it is not known."""
        key = _key(path)
        row = self._new.get(key) or self._row(key)
        if row is None or row[0] != _state(status) or row != _row(key, *row[:3]):
            return None
        _, digest, asked, _ = row
        now = int(time.time())
        if asked < now - WEEK:  # not at every look: looking writes nothing
            self._new[key] = _row(key, _state(status), digest, now)
        return digest

    def keep(self, path, before: os.stat_result, after: os.stat_result, digest: str, begun: int) -> None:
        """Remember a digest, unless the file was written while it was read, or may have been.

        Args: before and after, what the file was then; begun, time before it was opened [ns]
        """
        settled = max(before.st_mtime_ns, before.st_ctime_ns) < begun - SETTLED
        if settled and _state(before) == _state(after):
            key = _key(path)
            self._new[key] = _row(key, _state(before), digest, int(time.time()))

    def close(self) -> None:
        """Write what is new."""
        with suppress(OSError, sqlite3.Error):
            if self._new:
                self._write()
        self._disconnect()

    def _row(self, key: bytes) -> tuple | None:
        if self._connection is None:
            return None
        try:
            return self._connection.execute(
                "SELECT state, digest, asked, checksum FROM digests WHERE path = ?", (key,)
            ).fetchone()
        except sqlite3.OperationalError:  # locked for long, or the disk fails: do not wait for every file
            self._disconnect()
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # damaged, also in a text
            with suppress(OSError, sqlite3.Error):
                self._start_anew()
        return None

    def _write(self) -> None:
        if self._connection is None:
            self._connection = self._open()
        try:
            self._insert()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._start_anew()
            self._insert()

    def _insert(self) -> None:
        rows = [(key, *row) for key, row in self._new.items()]
        with self._connection as database:  # one transaction
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", rows)
            (count,) = database.execute("SELECT count(*) FROM digests").fetchone()
            database.execute(
                "DELETE FROM digests WHERE path IN (SELECT path FROM digests ORDER BY asked LIMIT ?)",
                (max(0, count - MOST),),
            )

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # another kind of file, or damaged
            self._remove()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS digests "
                "(path BLOB PRIMARY KEY, state TEXT, digest TEXT, asked INTEGER, checksum TEXT) WITHOUT ROWID"
            )
        except (sqlite3.Error, UnicodeDecodeError):
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start_anew(self) -> None:
        """Put an empty database in the place of a damaged one."""
        self._disconnect()
        self._remove()
        self._connection = self._connect()

    def _remove(self) -> None:
        for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            path.unlink(missing_ok=True)


def _key(path: str | os.PathLike) -> bytes:
    return os.fsencode(os.path.abspath(path))


def _state(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _row(key: bytes, state: str, digest: str, asked: int) -> tuple[str, str, int, str]:
    """A row without its key. The check sum shows a bit that flipped on the disk."""
    checksum = hashlib.blake2b(repr((key, state, digest, asked)).encode(), digest_size=8).hexdigest()
    return state, digest, asked, checksum
