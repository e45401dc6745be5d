"""Where the files of a data set come from: the key `sources` of its facts.

    sources:
      - file: dtd-r1.0.1.tar.gz       name under which it is kept, also when a user puts it there by hand
        from:                         tried in order; none: `by_hand` says where to get it
          - url: https://...
          - drive: 1u3_QfB467j...     id of a file on Google Drive
        md5: fff73e5086ae...          published checksum; left out: none is known for certain
        gives: [images]               what must exist for the source to count as done; else the file itself
        take: dtd                     folder inside the archive, at any depth, whose content is wanted
        to: images                    where that content goes
        inner: images.tar.gz          archive inside the archive, which holds the content
        unpack: folder                how: a key of prepare.UNPACK
        optional: true                needed only where the split file is missing
        needs: devkit.tar.gz          another source's file without which this one cannot be unpacked
        shared_with: imagenet         a sibling data set's folder that may hold the same file already
        by_hand: log in at ...        where a person gets the file when no link leads to it

Paths are relative to the data set's folder. Every key but `file` may be left out.
"""

from dataclasses import dataclass, fields

from dassl.config.facts import Facts
from dassl.utils import unknown_name


@dataclass(frozen=True)
class Source:
    """One file to fetch into the data set's folder, and what it gives there once unpacked."""

    file: str
    urls: tuple[str, ...] = ()
    drive: str = ""
    md5: str = ""
    gives: tuple[str, ...] = ()
    take: str = ""
    to: str = ""
    inner: str = ""
    unpack: str = "folder"
    by_hand: str = ""
    optional: bool = False
    needs: str = ""
    shared_with: str = ""

    @property
    def results(self) -> tuple[str, ...]:
        return self.gives or (self.file,)


KEYS = ("file", "from", *(key.name for key in fields(Source) if key.name not in ("file", "urls", "drive")))
PLACES = ("url", "drive")


def read_sources(facts: Facts) -> tuple[Source, ...]:
    """The sources that a facts file lists.

    Raises: KeyError, ValueError naming the file and a key that is unknown, missing or of a wrong type
    """
    return tuple(_source(entry, f"{facts.path}, sources[{n}]") for n, entry in enumerate(facts.sources))


def _source(entry: dict, where: str) -> Source:
    if unknown := [key for key in entry if key not in KEYS]:
        raise KeyError(f"{where}: {unknown_name('key', str(unknown[0]), KEYS)}")
    if not entry.get("file"):
        raise ValueError(f"{where} lacks file, the name under which it is kept")
    for key, value in entry.items():
        kind = {"from": list, "gives": list, "optional": bool}.get(key, str)
        if not isinstance(value, kind):
            wanted = {list: "list", bool: "true or false", str: "text"}[kind]
            raise ValueError(f"{where}, {key}: {value!r} is no {wanted}")
    places = entry.get("from", [])
    for place in places:
        if not isinstance(place, dict) or len(place) != 1 or next(iter(place)) not in PLACES:
            raise ValueError(f"{where}, from: {place!r} is neither {{url: ...}} nor {{drive: ...}}")
    drives = [place["drive"] for place in places if "drive" in place]
    return Source(
        **{key: value for key, value in entry.items() if key not in ("from", "gives")},
        urls=tuple(place["url"] for place in places if "url" in place),
        drive=drives[0] if drives else "",
        gives=tuple(entry.get("gives", ())),
    )
