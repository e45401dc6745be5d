"""From what lies there to what a run takes of it: readable pictures, each with a part and a class name."""

import csv
import io
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from clipfit.io.digests import Digests
from dassl.utils import unknown_name
from datasets.pictures.folders import CLASSES
from datasets.pictures.forms import read_pictures
from datasets.pictures.found import PARTS, FoundPictures, LabelledPicture, checked, some
from datasets.pictures.parts import position, settle_parts
from datasets.pictures.readable import faults
from datasets.pictures.tables import column, read_rows, text

HEADER = ("file_name", "label", "split", "note")  # of parts.csv


class TakenPicture(NamedTuple):
    """What became of a picture."""

    picture: LabelledPicture
    name: str  # of its class, for prompts
    part: str  # of PARTS; "": left out
    note: str = ""


@dataclass
class Taken:
    """The pictures of a run, in the order of classes and paths."""

    found: FoundPictures
    rows: list[TakenPicture]
    test_share: float
    copies: list[list[str]]  # groups of pictures of equal content, as they are shown
    unequal: list[str]  # those of them that lie in different classes

    def part(self, name: str) -> list[TakenPicture]:
        return [row for row in self.rows if row.part == name]

    def classes(self) -> dict[str, str]:
        """Label -> name of all classes, in order."""
        return {row.picture.label: row.name for row in self.rows if row.part}

    def not_tested(self) -> dict[str, int]:
        """Name -> number of pictures, of the classes without a picture to test on."""
        tested = {row.picture.label for row in self.part("test")}
        counts: dict[str, int] = defaultdict(int)
        for row in self.rows:
            if row.part and row.picture.label not in tested:
                counts[row.name] += 1
        return dict(counts)

    def parts_csv(self) -> str:
        """The content of parts.csv: where each picture went."""
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows(
            (self.found.shown(r.picture.path), r.picture.label, r.part, r.note) for r in self.rows
        )
        return out.getvalue()

    def summary(self) -> Iterator[str]:
        """What was taken and what was left out, in lines."""
        sizes = {name: len(self.part(name)) for name in PARTS}
        total = sum(sizes.values())
        yield (
            f"{self.found.folder}: {self.found.form}; {len(self.classes()):,} classes, {total:,} pictures: "
            f"{sizes['train']:,} to train on"
            + (f", {sizes['val']:,} to validate on" if sizes["val"] else "")
            + f", {sizes['test']:,} to test on ({self._how()})"
        )
        left = {**self.found.left_out, **self._notes()}
        if said := [
            f"{why} ({len(names):,}): {some(map(self.found.shown, names))}" for why, names in left.items()
        ]:
            yield f"left out: {'; '.join(said)}"
        if self.unequal:
            yield f"Warning: pictures of equal content in different classes: {some(self.unequal)}"
        if sizes["test"] and (untested := self.not_tested()):
            names = (f"{name} ({count:,})" for name, count in untested.items())
            yield f"trained on, but without a picture to test on: {some(names)}"

    def _how(self) -> str:
        given = sum(bool(row.picture.part) for row in self.rows if row.part)
        if given and not self.part("test"):
            return "none is called test"
        if given:
            return "as they are given"
        if not self.test_share:
            return "--test-share 0"
        if not self.part("test"):
            first = min(position(row.picture.path) for row in self.rows if row.part)
            if first >= self.test_share:
                enough = math.ceil(100 * first + 1) / 100
                return (
                    f"no file name falls to the first {self.test_share:.0%}; --test-share {enough} keeps some"
                )
        return f"about {self.test_share:.0%}, by a hash of the file name; --test-share changes that"

    def _notes(self) -> dict[str, list[str]]:
        """Why -> paths, of the pictures that are left out."""
        left = defaultdict(list)
        for row in self.rows:
            if not row.part:
                left[row.note.partition(":")[0]].append(row.picture.path)
        return left


def take(path: str | os.PathLike, test_share: float) -> Taken:
    """What a run takes of a folder or a list of pictures.

    Left out are pictures that cannot be read, and those to validate or test on that are copies, by content,
    of pictures to train on (or, to validate on, of pictures to test on).

    Raises: as read_pictures and settle_parts; ValueError for a class without a picture to train on
    """
    found = read_pictures(path)
    found.pictures.sort(key=lambda one: (one.label, found.shown(one.path)))
    broken = faults(one.path for one in found.pictures)
    names = class_names(found)
    readable = [one for one in found.pictures if one.path not in broken]
    _check_readable(found, readable, broken)
    parts = dict(zip(readable, settle_parts(readable, test_share), strict=True))
    if "test" not in parts.values() and any(one.part == "val" for one in readable):
        parts = {one: "test" if part == "val" else part for one, part in parts.items()}
    groups = _of_equal_content(parts)
    copies = _copies(found, parts, groups)
    unequal = [group for group in groups if len({one.label for one in group}) > 1]
    rows = []
    for one in found.pictures:
        if one in copies:
            rows.append(
                TakenPicture(one, names[one.label], "", f"copies of pictures in another part: {copies[one]}")
            )
        elif one in parts:
            rows.append(TakenPicture(one, names[one.label], parts[one]))
        else:
            rows.append(TakenPicture(one, names[one.label], "", f"unreadable: {broken[one.path]}"))
    taken = Taken(
        found,
        rows,
        test_share,
        copies=[[found.shown(one.path) for one in group] for group in groups],
        unequal=[
            " and ".join(f"{found.shown(one.path)} ({one.label})" for one in group) for group in unequal
        ],
    )
    _check_trained(taken)
    return taken


def class_names(found: FoundPictures) -> dict[str, str]:
    """Label -> name: of classes.csv (folder, name), else the label; _ and - in folders stand for spaces.

    Raises: ValueError naming a folder in classes.csv that has no pictures, or a column that is lacking
    """
    labels = dict.fromkeys(one.label for one in found.pictures)
    names = {label: _spaced(label) if found.labels_are_folders else label for label in labels}
    path = os.path.join(found.folder, CLASSES)
    if os.path.isfile(path):
        rows = read_rows(path)
        label = column(rows, ("folder", "label", "class"), path, "the folder of a class")
        name = column(rows, ("name",), path, "the name of a class")
        for row in rows:
            if (key := text(row.get(label))) not in names:
                raise ValueError(f"{path}: {unknown_name('folder', key, list(names))}")
            names[key] = text(row.get(name)) or names[key]
    return names


def _spaced(folder: str) -> str:
    return " ".join(folder.replace("_", " ").replace("-", " ").split()) or folder


def _check_readable(found: FoundPictures, readable: list[LabelledPicture], broken: dict[str, str]) -> None:
    """Raises: ValueError where too little is left when unreadable pictures are left out"""
    if broken:
        try:
            checked(FoundPictures(found.form, found.folder, readable))
        except ValueError as error:
            more = f"; pictures that cannot be read ({len(broken):,}): {next(iter(broken.values()))}"
            raise ValueError(f"{error}{more}") from error


def _check_trained(taken: Taken) -> None:
    trained = {row.picture.label for row in taken.part("train")}
    if lacking := [name for label, name in taken.classes().items() if label not in trained]:
        raise ValueError(
            f"{taken.found.folder}: classes without pictures to train on ({len(lacking):,}): "
            f"{some(lacking)}; give them some in train, or take their pictures out of the other parts"
        )


def _of_equal_content(pictures: Iterable[LabelledPicture]) -> list[list[LabelledPicture]]:
    """Groups of two and more. Only files of equal size are read."""
    by_size = defaultdict(list)
    for one in pictures:
        by_size[os.path.getsize(one.path)].append(one)
    crowded = [one for group in by_size.values() if len(group) > 1 for one in group]
    by_content = defaultdict(list)
    with Digests() as digests:
        for one, digest in zip(crowded, digests.of_files(one.path for one in crowded), strict=True):
            by_content[digest].append(one)
    return [group for group in by_content.values() if len(group) > 1]


def _copies(
    found: FoundPictures, parts: dict[LabelledPicture, str], groups: list[list[LabelledPicture]]
) -> dict[LabelledPicture, str]:
    """LabelledPicture that is left out -> the one that it is a copy of.

    What is trained on stays, and of what is not, what is tested on.
    """
    copies = {}
    for group in groups:
        for stays in ("train", "test"):
            if first := next((one for one in group if parts[one] == stays), None):
                copies |= {one: found.shown(first.path) for one in group if parts[one] != stays}
                break
    return copies
