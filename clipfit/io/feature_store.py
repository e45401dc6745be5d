"""Features of batches of images, computed once for all runs that would compute the same.

An entry belongs to the digest of everything that decides its value: the pixels of the batch as the network
sees them, and a text that names the network, its precision and the device. So it does not matter which run,
method or data set comes by, and two batches that differ in one bit never share an entry.

The store is an SQLite database that any number of processes may use at once. An entry with a wrong check sum
is none; a database that is damaged is made anew; one that is locked or cannot be written costs only time.
"""

import hashlib
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from clipfit.io.files import user_cache

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DATABASE = "features-1.sqlite"  # the number is that of the format
PATIENCE = 2.0  # seconds to wait for another process that is writing
HOUR = 3600
KEPT = 0.9  # share of the limit that stays when the entries that were not asked for longest go


class FeatureStore:
    """Features (N, D) by the digest of the batch that they are of.

    Args: folder that holds the database, None for the user's cache; limit, its size [bytes]; context, a text
          that names whatever decides features beside the pixels
    """

    def __init__(self, folder: str | os.PathLike | None, limit: float, context: str):
        self.path = Path(folder or user_cache()).expanduser() / DATABASE
        self._limit, self._context = limit, context
        self.found = self.computed = 0  # images
        self._connection = None
        with suppress(OSError, sqlite3.Error):
            self._open()

    def get(self, batch: str, device: "torch.device | str") -> "Tensor | None":
        """Features of a batch, None where there are none that can be trusted."""
        import torch

        key = self._key(batch)
        row = self._ask("SELECT dtype, shape, asked, content, checksum FROM features WHERE key = ?", key)
        if row is None or row[4] != _checksum(key, *row[:2], row[3]):
            return None
        dtype, shape, asked, content, _ = row
        if asked < time.time() - HOUR:  # not at every look: looking writes nothing
            self._change("UPDATE features SET asked = ? WHERE key = ?", int(time.time()), key)
        features = torch.frombuffer(bytearray(content), dtype=getattr(torch, dtype))
        features = features.view([int(side) for side in shape.split()]).to(device)
        self.found += len(features)
        return features

    def put(self, batch: str, features: "Tensor") -> None:
        """Keep the features of a batch."""
        import torch

        self.computed += len(features)
        key, dtype = self._key(batch), str(features.dtype).removeprefix("torch.")
        shape = " ".join(map(str, features.shape))
        content = features.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        if len(content) <= self._limit and self._make_room(len(content)):
            row = key, dtype, shape, int(time.time()), content, _checksum(key, dtype, shape, content)
            self._change("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?, ?)", *row)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _key(self, batch: str) -> bytes:
        return hashlib.sha256(f"{self._context}\0{batch}".encode()).digest()

    def _make_room(self, needed: int) -> bool:
        """Remove the entries that were not asked for longest until a new one fits; whether it does."""
        while (used := self._used()) is not None and used + needed > self._limit:
            count = self._ask("SELECT count(*) FROM features")
            if not count or not count[0]:
                return False
            some = max(1, int((1 - KEPT) * count[0]))
            oldest = "SELECT key FROM features ORDER BY asked LIMIT ?"
            if not self._change(f"DELETE FROM features WHERE key IN ({oldest})", some):
                return False
        return used is not None

    def _used(self) -> int | None:
        """Bytes of the database that hold entries."""
        pages = [self._ask(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")]
        return None if None in pages else (pages[0][0] - pages[1][0]) * pages[2][0]

    def _ask(self, words: str, *values) -> tuple | None:
        if self._connection is None:
            return None
        try:
            return self._connection.execute(words, values).fetchone()
        except sqlite3.OperationalError:  # locked for long, or the disk fails
            return None
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            self._start_anew()
            return None

    def _change(self, words: str, *values) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(words, values)
            return True
        except sqlite3.OperationalError:
            return False
        except sqlite3.DatabaseError:
            self._start_anew()
            return False

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # another kind of file, or damaged
            self._start_anew()

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        # What a power cut leaves is noticed; nothing here is worth waiting for the disk.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, dtype TEXT, shape TEXT, "
            "asked INTEGER, content BLOB, checksum BLOB)"
        )

    def _start_anew(self) -> None:
        """Put an empty database in the place of a damaged one."""
        self.close()
        with suppress(OSError, sqlite3.Error):
            for path in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                path.unlink(missing_ok=True)
            self._connect()


def _checksum(key: bytes, dtype: str, shape: str, content: bytes) -> bytes:
    digest = hashlib.blake2b(repr((key, dtype, shape)).encode(), digest_size=16)
    digest.update(content)
    return digest.digest()
