"""What class folders hold, remembered from run to run.

Listing ImageNet's 1.28 million files takes seconds on a local disk and minutes on a network. The names are
kept in a file of two lines of JSON, a header and `{folder: [modification time, names]}`: a folder in which a
file was added, removed or renamed has another time, and is listed again. A file that is damaged, or was
written in another format, counts as missing.
"""

import hashlib
import json
import os
import time
from contextlib import suppress

from clipfit.io.files import user_cache
from dassl.utils import atomic_write, listdir_nohidden

FORMAT = 1
# A change may leave the time as it is when it follows the listing within a tick of the file system's clock.
# Folders that changed less than this long ago are listed again by the next run.
SETTLED = 2_000_000_000  # nanoseconds


def list_class_folders(folder: str, cache: str = "") -> dict[str, str]:
    """Sub-folder -> the names of its files joined by "/"; both in byte order, without hidden ones.

    Args:
        cache: file that keeps the result, if given; where it cannot be written, the user's cache folder
            keeps it.
    """
    times = _modification_times(folder)
    caches = [cache, _user_cache_file(folder)] if cache else []
    known = {}
    for path in caches:
        if len(known) < len(times):
            known |= {name: files for name, (when, files) in _read(path).items() if when == times.get(name)}
    if len(known) < len(times):
        if caches:
            print(f"Listing {len(times) - len(known):,} class folders in {folder}")
        now = time.time_ns()
        found = {name: known[name] if name in known else _files(folder, name) for name in times}
        # The time was read before the files: a change in between shows as another time in the next run.
        settled = {name: [when if when < now - SETTLED else 0, found[name]] for name, when in times.items()}
        _keep(settled, caches)
        known = found
    return {name: known[name] for name in times}


def _modification_times(folder: str) -> dict[str, int]:
    """Sub-folder -> its modification time in nanoseconds, in byte order of the names."""
    times = {}
    for name in listdir_nohidden(folder, sort=True):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            times[name] = os.stat(path).st_mtime_ns
    return times


def _files(folder: str, name: str) -> str:
    with os.scandir(os.path.join(folder, name)) as entries:
        return "/".join(sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file()))


def _user_cache_file(folder: str) -> str:
    """One file for every absolute path."""
    key = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:16]
    return str(user_cache() / f"listing-{key}.jsonl")


def _read(path: str) -> dict[str, list]:
    """Sub-folder -> [modification time, files] as kept in `path`; empty if it is missing or not whole."""
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            header, body = file.read().split("\n")
        if json.loads(header) == _header(body):
            return json.loads(body)
    return {}


def _keep(folders: dict[str, list], caches: list[str]) -> None:
    """Write to the first of the files that can be written."""
    body = json.dumps(folders)
    text = f"{json.dumps(_header(body))}\n{body}"
    for path in caches:
        with suppress(OSError), atomic_write(path) as file:
            file.write(text)
            return
    if caches:
        print(f"Warning: the listing cannot be kept, neither in {' nor in '.join(caches)}")


def _header(body: str) -> dict:
    return {"format": FORMAT, "sha256": hashlib.sha256(body.encode()).hexdigest()}
