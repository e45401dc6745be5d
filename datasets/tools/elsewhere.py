"""Folders that were unpacked into the data root, or one level too deep: recognised by their names."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from clipfit.io.places import verify
from datasets.tools import known
from datasets.tools.known import Entry
from datasets.tools.layout import letters
from datasets.tools.sources import Source

SAY_TOO_LITTLE = ("annotations", "data", "devkit")  # names in a data root that may be anybody's


def take_from_elsewhere(entry: Entry, source: Source, folder: Path, root: Path) -> Path | None:
    """Link what a source gives into the data set's folder from where it was unpacked; nothing is moved.

    A file is copied, if it is the published one.

    Returns: the folder that it was found in, None if there is none
    """
    for place in _places(entry, source, folder, root):
        found = {result: _find(result, source, place) for result in source.results}
        if place == root:
            found = {result: path for result, path in found.items() if path and _is_telling(path.name)}
        if all(map(found.get, source.results)) and _is_published(source, found):
            for result, path in found.items():
                _put(path, folder / result)
            return place
    return None


def _places(entry: Entry, source: Source, folder: Path, root: Path) -> Iterator[Path]:
    """Folders in which the content of the data set's archives may lie."""
    names = {letters(name) for name in (entry.folder, *entry.other_names)}
    taken = {other.folder for other in known.entries()}
    yield root
    yield folder
    for path in sorted(filter(Path.is_dir, folder.iterdir())):
        if path.name not in source.results:
            yield path
    for path in sorted(filter(Path.is_dir, root.iterdir())):
        if path.name not in taken and letters(path.name) in names:
            yield path
            for one in source.known_files:
                if one.take and (path / one.take).is_dir():
                    yield path / one.take


def _find(result: str, source: Source, place: Path) -> Path | None:
    """What gives `result` in `place`, under the name that it has here or in one of the archives."""
    for name in (result, *(one.take for one in source.known_files if one.take and one.to == result)):
        path = place / name
        if path.exists():
            return path / path.name if (path / path.name).is_dir() else path
    return None


def _is_telling(name: str) -> bool:
    """Whether a name in the data root says which data set it belongs to."""
    sources = [source for entry in known.entries() for source in entry.sources]
    used = Counter(result for source in sources for result in source.results)
    return used[name] <= 1 and name not in SAY_TOO_LITTLE


def _is_published(source: Source, found: dict[str, Path]) -> bool:
    if source.gives:
        return True
    with suppress(ValueError):
        verify(found[source.file], source.checksum)
        return bool(source.checksum)
    return False


def _put(path: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        target.symlink_to(os.path.relpath(path, target.parent), target_is_directory=True)
    else:
        shutil.copyfile(path, target)
