"""What a reader finds: labelled pictures, and what it leaves out."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from clipfit.io.pictures import SUFFIXES, is_picture
from dassl.utils import unknown_name

PARTS = ("train", "val", "test")
PART_NAMES = {  # what people call the parts
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
NOT_PICTURES, NO_LABEL, TWICE = "not pictures", "without a label", "listed twice"
SHOWN = 3  # names in a line


class LabelledPicture(NamedTuple):
    """One labelled picture."""

    path: str  # absolute
    label: str  # as folders or lists have it
    part: str = ""  # of PARTS; "": nobody said


@dataclass
class FoundPictures:
    """The pictures of a folder or of a list."""

    form: str  # in words
    folder: str  # absolute; paths are shown relative to it
    pictures: list[LabelledPicture] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # why -> paths
    labels_are_folders: bool = False  # so that _ and - in them stand for spaces

    def add(self, path: str, label: str | None, part: str = "") -> None:
        """Take a picture, unless it is none or nobody has given it a label."""
        if not is_picture(os.path.basename(path)):
            self.left_out[NOT_PICTURES].append(path)
        elif not label:
            self.left_out[NO_LABEL].append(path)
        else:
            self.pictures.append(LabelledPicture(path, label, part))

    def shown(self, path: str) -> str:
        """A path as people read it: relative to the folder, where it lies in it."""
        relative = os.path.relpath(path, self.folder)
        return path if relative.startswith("..") else relative.replace(os.sep, "/")


def checked(found: FoundPictures, listed_in: str = "") -> FoundPictures:
    """The pictures of `found`, each once, if they are there and make two classes at least.

    Args:   listed_in, the list that names them ("": folders do)
    Raises: FileNotFoundError naming listed pictures that are not there; ValueError for a picture with two
            labels, no pictures, or one class
    """
    where = listed_in or found.folder
    if listed_in:
        _check_listed(found, listed_in)
    if not found.pictures:
        others = {why: len(paths) for why, paths in found.left_out.items() if paths}
        left = f" (left out: {', '.join(f'{why} ({n:,})' for why, n in others.items())})" if others else ""
        raise ValueError(
            f"{where} has no labelled pictures{left}; they are files called {' '.join(sorted(SUFFIXES))}, "
            "in a folder per class or in a list with the columns file_name and label"
        )
    classes = dict.fromkeys(picture.label for picture in found.pictures)
    if len(classes) == 1:
        raise ValueError(
            f"{where} has one class only, {next(iter(classes))!r}, and every answer would be right; "
            "add a second class, such as pictures that are something else"
        )
    return found


def _check_listed(found: FoundPictures, listed_in: str) -> None:
    first: dict[str, LabelledPicture] = {}
    unequal = {}
    for picture in found.pictures:
        path = os.path.normpath(picture.path)
        known = first.setdefault(path, picture)
        if known.label != picture.label:
            unequal[path] = f"{found.shown(path)} ({known.label} and {picture.label})"
        elif known is not picture:
            found.left_out[TWICE].append(path)
    if unequal:
        raise ValueError(
            f"{listed_in} gives {some(unequal.values())} two labels; every picture has one class: "
            "correct the list, or take the picture out"
        )
    missing = [found.shown(path) for path in first if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(
            f"{listed_in} names {len(missing):,} of {len(first):,} pictures that are not there: "
            f"{some(missing)}; relative paths start from {found.folder}"
        )
    found.pictures = list(first.values())


def part_named(word: str, where: str) -> str:
    """The part that a word of a list means; "" for none. Raises: ValueError naming the words there are"""
    word = (word or "").strip()
    if not word:
        return ""
    if word.casefold() not in PART_NAMES:
        raise ValueError(f"{where}: {unknown_name('split', word, list(PART_NAMES))}; leave it empty for none")
    return PART_NAMES[word.casefold()]


def some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def plain_name(path: str) -> str:
    """A file's name without folders, written alike on every system."""
    return unicodedata.normalize("NFC", os.path.basename(path))
