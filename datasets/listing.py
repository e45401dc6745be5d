"""What class folders hold, remembered from run to run.

Listing ImageNet's 1.28 million files takes seconds on a local disk and minutes on a network. The names are
kept in a file of two lines of JSON, a header and `{folder: [times, pictures, other entries]}`: a folder in
which a file was added, removed or renamed has other times, and is listed again. The second of the two times
is that of the inode, which no program can set back. A file that is damaged, or was written in another format,
counts as missing.

Only files with a picture's suffix are pictures. What else lies in a class folder is said in one line.
"""

import hashlib
import json
import os
import time
from collections.abc import Collection
from contextlib import suppress

from clipfit.io.files import user_cache
from clipfit.io.pictures import SUFFIXES, is_picture
from dassl.utils import atomic_write, listdir_nohidden

FORMAT = 2
# A change may leave the times as they are when it follows the listing within a tick of the file system's
# clock. Folders that changed less than this long ago are listed again by the next run.
SETTLED = 2_000_000_000  # nanoseconds
NOT_A_CLASS = "__MACOSX"  # what archives made on a Mac hold beside the folders that were packed
SHOWN = 5  # names in a line


def list_class_folders(folder: str, cache: str = "", ignored: Collection[str] = ()) -> dict[str, str]:
    """Sub-folder -> the names of its pictures joined by "/"; both in byte order, without hidden ones.

    Prints what is left out.

    Args:
        cache: file that keeps the result, if given; where it cannot be written, the user's cache folder
            keeps it.
        ignored: sub-folders to leave out without a word.
    """
    times = {name: when for name, when in _times(folder).items() if name not in ignored}
    caches = [cache, _user_cache_file(folder)] if cache else []
    known = {}
    for path in caches:
        if len(known) < len(times):
            known |= {name: held for name, (when, *held) in _read(path).items() if when == times.get(name)}
    if len(known) < len(times):
        if caches:
            print(f"Listing {len(times) - len(known):,} class folders in {folder}")
        now = time.time_ns()
        found = {name: known[name] if name in known else _files(folder, name) for name in times}
        # The times were read before the files: a change in between shows as other times in the next run.
        settled = {name: [w if max(w) < now - SETTLED else [0, 0], *found[name]] for name, w in times.items()}
        _keep(settled, caches)
        known = found
    _say_what_is_left_out(folder, {name: others for name, (_, others) in known.items() if others})
    return {name: known[name][0] for name in times}


def no_pictures(folder: str) -> str:
    """What is wrong with a class folder without pictures."""
    deeper = [name for name in sorted(os.listdir(folder)) if _holds_pictures(os.path.join(folder, name))]
    if deeper:
        return (
            f"{folder} holds no images itself, but its folder {deeper[0]} does: every class is one folder, "
            "so move what is nested one level up"
        )
    return f"{folder} holds no images (files called {' '.join(sorted(SUFFIXES))}); every class needs some"


def _times(folder: str) -> dict[str, list[int]]:
    """Sub-folder -> when its entries and its inode changed, in nanoseconds, in byte order of the names."""
    times = {}
    for name in listdir_nohidden(folder, sort=True):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and name != NOT_A_CLASS:
            status = os.stat(path)
            times[name] = [status.st_mtime_ns, status.st_ctime_ns]
    return times


def _files(folder: str, name: str) -> list[str]:
    """Names of the pictures in a class folder, joined by "/", and of its other entries."""
    pictures, others = [], []
    with os.scandir(os.path.join(folder, name)) as entries:
        for entry in entries:
            (pictures if is_picture(entry.name) and entry.is_file() else others).append(entry.name)
    return ["/".join(sorted(pictures)), "/".join(sorted(others))]


def _say_what_is_left_out(folder: str, others: dict[str, str]) -> None:
    """Print one line about what is no picture, and one about folders that look like classes but are none.

    Args: others, class folder -> names of its other entries, joined by "/"
    """
    left = [f"{name}/{entry}" for name, joined in others.items() for entry in joined.split("/")]
    left += [NOT_A_CLASS] if os.path.isdir(os.path.join(folder, NOT_A_CLASS)) else []
    if left:
        more = f" and {len(left) - SHOWN:,} more" if len(left) > SHOWN else ""
        what = "entry is no picture and is" if len(left) == 1 else "entries are no pictures and are"
        print(f"Warning: {folder}: {len(left):,} {what} left out: {', '.join(left[:SHOWN])}{more}")
    hidden = [name for name in sorted(os.listdir(folder)) if name.startswith(".")]
    hidden = [name for name in hidden if _holds_pictures(os.path.join(folder, name))]
    if hidden:
        print(
            f"Warning: {folder}: {', '.join(hidden[:SHOWN])} "
            f"{'is' if len(hidden) == 1 else 'are'} left out, because a name with a dot in front is hidden; "
            "rename what is a class"
        )


def _holds_pictures(folder: str) -> bool:
    return os.path.isdir(folder) and any(map(is_picture, os.listdir(folder)))


def _user_cache_file(folder: str) -> str:
    """One file for every absolute path."""
    key = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:16]
    return str(user_cache() / f"listing-{key}.jsonl")


def _read(path: str) -> dict[str, list]:
    """Sub-folder -> [times, pictures, others] as kept in `path`; empty if it is missing or not whole."""
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
