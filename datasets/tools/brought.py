"""Files that lie there already, under whatever name: recognised by their size, then by their checksum."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from clipfit.io.places import KINDS, digest_of
from datasets.tools.sources import Candidate, Source

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def recognise(
    source: Source, sources: Sequence[Source], folder: Path, root: Path
) -> tuple[Path, Candidate] | None:
    """A file in the data set's folder or in the data root that gives a source, and which one it is.

    Args:   sources, all of the data set
    Raises: ValueError if the name of a file that would do stands for an unknown file
    """
    wanted = {candidate.key: candidate for candidate in source.known_files}
    found = {}
    for path in _files(folder, root):
        identity = identify(path, sources, folder)
        if identity and identity.key in wanted:
            found.setdefault(identity.key, path)
        elif not identity and path.parent == folder and path.name in {one.file for one in wanted.values()}:
            raise ValueError(
                f"{path} is not the published file: it has {path.stat().st_size:,} bytes, and is none of "
                f"{_listed(wanted.values())}; replace it, or unpack it yourself if you trust it"
            )
    return next(((found[key], wanted[key]) for key in wanted if key in found), None)


def strangers(sources: Sequence[Source], folder: Path, root: Path) -> Iterator[str]:
    """A line for each archive in the data set's folder that is none of the known files.

    In the data root, where other data sets' lie, these are files with the name of a known one.
    """
    known = [one for source in sources for one in source.known_files if one.file.endswith(ARCHIVES)]
    names = {one.file for one in known}
    for path in _files(folder, root):
        may_be = path.suffix in ARCHIVES if path.parent == folder else path.name in names
        if may_be and not identify(path, sources, folder):
            yield f"{path} is not used: it has {path.stat().st_size:,} bytes, and is none of {_listed(known)}"


def identify(path: Path, sources: Sequence[Source], folder: Path) -> Candidate | None:
    """Which of a data set's known files a file is: checksums come first, then sizes, then names."""
    known = [one for source in sources for one in source.known_files]
    known.sort(key=lambda one: (not one.place.checksum, not one.place.size))
    return next((one for one in known if _is(path, one, folder)), None)


def _listed(candidates: Iterable[Candidate]) -> str:
    return "; ".join(dict.fromkeys(map(published, candidates)))


def published(candidate: Candidate) -> str:
    """A file with what tells it: EuroSAT.zip (94,280,567 bytes, md5 c8fa...)."""
    place = candidate.place
    size = [f"{place.size:,} bytes"] if place.size else []
    checksum = [f"{KINDS[len(place.checksum)]} {place.checksum}"] if place.checksum else []
    return f"{candidate.file} ({', '.join([*size, *checksum]) or 'by its name'})"


def _files(*folders: Path) -> list[Path]:
    """Files of the folders that may be downloads, in the order of their names."""
    found = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    return [
        path
        for path in found
        if path.is_file()
        and not path.name.startswith(".")
        and not path.name.endswith((".part", ".json.part"))
    ]


def _is(path: Path, candidate: Candidate, folder: Path) -> bool:
    """Whether a file is that of a candidate. Only what may be it is read.

    With a checksum but no published size, the file must have the name, or lie in the data set's folder with
    the same suffix. Without a checksum, the size decides, and without a size the name.
    """
    place, same_name = candidate.place, path.name == candidate.file
    if place.size and path.stat().st_size != place.size:
        return False
    if not place.checksum:
        return same_name or place.size > 0
    may_be = same_name or (path.parent == folder and path.suffix == Path(candidate.file).suffix)
    if not (place.size or may_be):
        return False
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns, len(place.checksum)) == place.checksum


@cache
def _digest(path: Path, size: int, time: int, digits: int) -> str:
    """Digest of a file in this state: each is read once per kind of checksum."""
    return digest_of(path, like="0" * digits)
