"""Where the files of a data set come from: the key `sources` of its facts.

    sources:
      - file: dtd-r1.0.1.tar.gz       name under which the published file is kept
        md5: fff73e5086ae...          its checksum: md5, sha256 or blob (git's); left out: none is published
        size: 625239812               its bytes
        from:                         candidates, tried in order; none: `by_hand` says where to get the file
          - url: https://...          the published file
          - drive: 1u3_QfB467j...     the same on Google Drive, by its id
          - url: https://...          another file, with keys of its own for what differs
            file: DTD.zip             (file, md5/sha256/blob, size, take, to, inner)
            mirror: copy by ...       a copy by third parties: fetched after a yes; who made it, on what terms
        gives: [images]               what must exist for the source to count as done; else the file itself
        take: dtd                     folder inside the archive, at any depth, whose content is wanted
        to: images                    where that content goes
        inner: images.tar.gz          archive inside the archive, which holds the content
        unpack: folder                how: a key of unpack.WAYS; keep: another source reads the archive
        optional: true                needed only where the split file is missing
        needs: devkit.tar.gz          another source's file without which this one cannot be unpacked
        by_hand: log in at ...        where a person gets the file when no link leads to it
      - file: dtd.zip                 an archive that gives several sources at once, in CoOp's layout
        bundle: true                  it is the last candidate of every source whose results it gives
        gives: [images, split_zhou_DescribableTextures.json]
        from: [...]

Paths are relative to the data set's folder. Every key but `file` may be left out.
"""

from dataclasses import dataclass, fields, replace

from clipfit.io.places import FilePlace
from dassl.config.facts import Facts
from dassl.utils import unknown_name

CHECKSUMS = {"md5": 32, "sha256": 64, "blob": 40}  # key -> hexadecimal digits


@dataclass(frozen=True)
class Candidate:
    """One file that a source can be had from, and where that file is."""

    file: str
    place: FilePlace
    take: str = ""
    to: str = ""
    inner: str = ""
    mirror: str = ""
    bundle: tuple[str, ...] = ()  # results that an archive in CoOp's layout gives, of all sources

    @property
    def key(self) -> tuple:
        """What tells one file from another, wherever they are."""
        return self.file, self.place.checksum, self.bundle

    @property
    def known_by(self) -> str:
        """What a file that lies there is recognised by."""
        return "checksum" if self.place.checksum else "size" if self.place.size else "name"


@dataclass(frozen=True)
class Source:
    """One file to fetch into the data set's folder, and what it gives there once unpacked."""

    file: str
    candidates: tuple[Candidate, ...] = ()
    checksum: str = ""
    size: int = 0
    gives: tuple[str, ...] = ()
    take: str = ""
    to: str = ""
    inner: str = ""
    unpack: str = "folder"
    by_hand: str = ""
    optional: bool = False
    needs: str = ""

    @property
    def results(self) -> tuple[str, ...]:
        return self.gives or (self.file,)

    @property
    def known_files(self) -> tuple[Candidate, ...]:
        """Every file that would do, the published one first, also where no link leads to it."""
        place = FilePlace(checksum=self.checksum, size=self.size)
        files = {}
        own = Candidate(self.file, place, self.take, self.to, self.inner)
        inner = [Candidate(self.inner, FilePlace(), self.take, self.to)] if self.inner else []
        for one in (own, *inner, *self.candidates):
            files.setdefault(one.key, one)
        return tuple(files.values())

    def with_checksum(self, checksum: str) -> "Source":
        """The same source, whose own file has a checksum that is known from elsewhere."""
        candidates = tuple(
            replace(one, place=replace(one.place, checksum=checksum)) if one.file == self.file else one
            for one in self.candidates
        )
        return replace(self, checksum=checksum, candidates=candidates)


OF_A_FILE = ("file", *CHECKSUMS, "size", "take", "to", "inner")
OF_A_CANDIDATE = ("url", "drive", "mirror", *OF_A_FILE)
KEYS = (*OF_A_FILE, "from", "gives", "unpack", "by_hand", "optional", "needs", "bundle")
KINDS_OF_VALUES = {"from": list, "gives": list, "optional": bool, "bundle": bool, "size": int}


def read_sources(facts: Facts) -> tuple[Source, ...]:
    """The sources that a facts file lists. Bundles are candidates of the others.

    Raises: KeyError, ValueError naming the file and a key that is unknown, missing or of a wrong type
    """
    sources, bundles = [], []
    for n, entry in enumerate(facts.sources):
        where = f"{facts.path}, sources[{n}]"
        _check(entry, KEYS, where)
        if not entry.get("file"):
            raise ValueError(f"{where} lacks file, the name under which it is kept")
        candidates = _candidates(entry, where)
        if entry.get("bundle"):
            bundles += [replace(one, bundle=tuple(entry.get("gives", ()))) for one in candidates]
        else:
            sources.append(_source(entry, candidates, where))
    return tuple(
        replace(one, candidates=(*one.candidates, *(b for b in bundles if set(one.results) <= set(b.bundle))))
        for one in sources
    )


def _source(entry: dict, candidates: tuple[Candidate, ...], where: str) -> Source:
    names = {key.name for key in fields(Source)} - {"candidates", "checksum", "gives"}
    return Source(
        **{key: value for key, value in entry.items() if key in names},
        candidates=candidates,
        checksum=_checksum(entry, where),
        gives=tuple(entry.get("gives", ())),
    )


def _candidates(entry: dict, where: str) -> tuple[Candidate, ...]:
    """What `from` lists. A candidate that names no file of its own is the published file."""
    found = []
    for place in entry.get("from", []):
        if not isinstance(place, dict) or ("url" in place) == ("drive" in place):
            raise ValueError(f"{where}, from: {place!r} has neither a url nor a drive id, or both")
        _check(place, OF_A_CANDIDATE, f"{where}, from")
        other = place.get("file", entry["file"]) != entry["file"]
        file = {**({} if other else {key: entry[key] for key in OF_A_FILE if key in entry}), **place}
        found.append(
            Candidate(
                file=place.get("file", entry["file"]),
                place=FilePlace(
                    url=place.get("url", ""),
                    drive=place.get("drive", ""),
                    checksum=_checksum(file, f"{where}, from"),
                    size=file.get("size", 0),
                ),
                **{key: file.get(key, "") for key in ("take", "to", "inner", "mirror")},
            )
        )
    return tuple(found)


def _checksum(entry: dict, where: str) -> str:
    """Raises: ValueError for a checksum that is none of its kind"""
    given = [(key, entry[key]) for key in CHECKSUMS if key in entry]
    for key, value in given:
        if len(value) != CHECKSUMS[key] or set(value) - set("0123456789abcdef"):
            raise ValueError(f"{where}, {key}: {value!r} has not {CHECKSUMS[key]} hexadecimal digits")
    return max((value for _, value in given), key=len, default="")


def _check(entry: dict, keys: tuple[str, ...], where: str) -> None:
    """Raises: KeyError for an unknown key; ValueError for a value of a wrong type"""
    if unknown := [key for key in entry if key not in keys]:
        raise KeyError(f"{where}: {unknown_name('key', str(unknown[0]), keys)}")
    for key, value in entry.items():
        kind = KINDS_OF_VALUES.get(key, str)
        if type(value) is not kind:
            wanted = {list: "list", bool: "true or false", str: "text", int: "number"}[kind]
            raise ValueError(f"{where}, {key}: {value!r} is no {wanted}")
