"""Whether a disk has the room that a download and its unpacked files need."""

import shutil
from collections.abc import Iterable
from errno import ENOSPC
from pathlib import Path

from clipfit.io.downloads import NoRoomError
from datasets.tools.sources import Candidate, Source


def check_room(entry_name: str, work: Iterable[tuple[Source, Candidate, bool]], folder: Path) -> None:
    """Say what a data set needs before anything is fetched. Sizes that nobody publishes are left out.

    Args:   work, each source that is missing with its candidate, and whether the file is to be downloaded
    Raises: NoRoomError
    """
    work = [(source, one, fetched) for source, one, fetched in work if one.place.size]
    downloads = {one.file: one.place.size for _, one, fetched in work if fetched}
    unpacked = {one.file: one.place.size for source, one, _ in work if source.gives}
    needed = sum(downloads.values()) + sum(unpacked.values())
    if not needed:
        return
    free = shutil.disk_usage(folder).free
    print(
        f"{entry_name} needs about {_amount(needed)}: {_amount(sum(downloads.values()))} to download, "
        f"{_amount(sum(unpacked.values()))} unpacked; {_amount(free)} are free at {folder}"
    )
    if needed > free:
        raise NoRoomError(
            ENOSPC, f"{_amount(needed)} do not fit into {folder}; make room or choose another --root"
        )


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
