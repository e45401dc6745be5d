"""A paper as data: everything that report/ knows of it, read from its folder.

paper.yaml       title, shots, families of data sets: see Paper.read
tables/          a file per table: definitions.py
figures.yaml     an entry per figure: figures/loading.py
printed/         a CSV per table with its printed numbers, and notes.csv on doubtful ones: printed.py
overrides.yaml   what the paper states otherwise than the methods' own releases: Paper.overrides

Only paper.yaml must be there.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path

from clipfit.io.files import no_regular_file
from dassl.config import load_yaml
from dassl.config.facts import OWN
from dassl.utils import unknown_name
from launch.registered import PROJECT, DataSet, data_set, data_sets, is_drawn
from report.printed import Print, read_print

SHIPPED = PROJECT / "paper"
OTHERS = PROJECT / "papers"  # further ones, called by the names of their folders
FILE = "paper.yaml"


@dataclass(frozen=True)
class Family:
    """Data sets whose numbers share tables: the paper's, the embedded ones in their places, one's own."""

    name: str  # stands for all of them on the command line
    datasets: tuple[str, ...]  # of base-to-new and few-shot, stems
    source: str = ""  # what transferred models are trained on
    shifted: tuple[str, ...] = ()  # test sets of transfer: the source's classes in other images
    others: tuple[str, ...] = ()  # and other classes
    guests: tuple[str, ...] = ()  # those among them that are of other families
    embedded: bool = False
    stated: bool = True  # by the paper; else made of its data sets' facts
    tag: str = ""  # what sets its tables and files apart from the paper's and the embedded ones
    borrows_source: bool = False  # the source is in a family of the paper

    def targets(self, role: str) -> tuple[str, ...]:
        """What a transferred model is tested on, the source left out. Args: role, shifted or other"""
        return self.shifted if role == "shifted" else self.others

    def with_guests(self, role: str, guests: tuple[str, ...]) -> "Family":
        """With data sets of other families as targets of its source, behind its own."""
        key = "shifted" if role == "shifted" else "others"
        return replace(self, guests=guests, **{key: self.targets(role) + guests})

    @property
    def remark(self) -> str:
        """Behind titles: whose numbers these are, where it is neither the paper nor the embedded data."""
        if not self.tag:
            return ""
        return " (own data sets)" if self.tag == OWN else f" (data sets of the family {self.tag})"

    @property
    def every(self) -> tuple[str, ...]:
        """Its data sets; the source that it shares with a paper's family is not one of them."""
        source = (self.source,) if self.source and not self.borrows_source else ()
        return tuple(dict.fromkeys([*self.datasets, *source, *self.shifted, *self.others]))


@dataclass(frozen=True, eq=False)
class Paper:
    """One paper; the keys of its paper.yaml."""

    folder: Path
    title: str
    shots: tuple[int, ...]
    families: tuple[Family, ...]
    citation: str = ""
    titles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> "Paper":
        """Read a paper's folder, or the one that a name means in papers/.

        Keys of paper.yaml:
        title      short name, head of reports
        shots      list of labelled images per class that the tables have
        families   name -> datasets, source, shifted, others, embedded of a Family; the first is shown unless
                   others are asked for. Data sets that are in none have the family that their facts name,
                   else ``own``
        citation   optional
        titles     optional: data set (stem) -> its name in the tables

        Raises: FileNotFoundError, KeyError, ValueError naming the file and what is wrong in it
        """
        path = Path(folder).expanduser() / FILE
        if not path.is_file() and (OTHERS / folder / FILE).is_file():
            path = OTHERS / folder / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} {no_regular_file(path)}; a paper's folder has {FILE}, tables/ and, if the paper has "
                "them, figures.yaml, printed/ and overrides.yaml (docs/reproduction.md, Another paper); by "
                f"name there is {', '.join(shipped_by_name())}"
            )
        content = load_yaml(path)
        check_keys(content, [key.name for key in fields(cls) if key.name != "folder"], path)
        if lacking := [key for key in ("title", "shots", "families") if not content.get(key)]:
            raise ValueError(f"{path} lacks {lacking[0]}")
        _check_lists(content, ["shots"], path)
        families = [_family(name, entry, path) for name, entry in content["families"].items()]
        families += _families_of_facts(families, path)
        return cls(path.parent, **{**content, "shots": tuple(content["shots"]), "families": tuple(families)})

    @property
    def file(self) -> Path:
        return self.folder / FILE

    def family_of(self, dataset: str) -> Family:
        """The family of a data set (stem). Raises: ValueError for one that is in none, naming the nearest."""
        for family in self.families:
            if dataset in family.every:
                return family
        known = [name for family in self.families for name in family.every]
        raise ValueError(unknown_name("data set", dataset, known))

    def print_file(self, name: str) -> Path:
        """A CSV of printed/ by its stem, or that of another paper: ``../../../paper/printed/table01``."""
        return Path(os.path.normpath(self.folder / "printed" / f"{name}.csv"))

    def print_of(self, *names: str, unprinted: str = "") -> Print:
        """The numbers of these CSVs; of two that state one number the later one counts."""
        files = [self.print_file(name) for name in names]
        prints = [read_print(file.parent, file.stem) for file in files]
        return Print({key: cell for one in prints for key, cell in one.cells.items()}, unprinted)

    def overrides(self, trainer: str, dataset: str, shots: int) -> dict[str, object]:
        """Config keys that the paper sets for a method trained on a data set (stem); none on others' data."""
        family = self.family_of(dataset)
        if family.embedded or not family.stated:
            return {}
        settings: dict[str, object] = {}
        wanted = {"method": trainer, "dataset": registered_name(dataset), "shots": shots}
        for case in self._cases:
            if all(value in case.get(key, [value]) for key, value in wanted.items()):
                settings |= case["set"]
        return settings

    @cached_property
    def _cases(self) -> list[dict]:
        """The WHEN list of overrides.yaml. Raises: KeyError for a case with an unknown key or no source."""
        path = self.folder / "overrides.yaml"
        if not path.is_file():
            return []
        content = load_yaml(path)
        check_keys(content, ["WHEN"], path)
        for case in content["WHEN"]:
            check_keys(case, ("method", "dataset", "shots", "set", "source"), f"{path}, WHEN")
            if not case.get("source"):
                raise KeyError(f"{path}: a case lacks its source: {case}")
        return content["WHEN"]


def shipped_by_name() -> list[str]:
    """The names of the papers in papers/."""
    return sorted(path.parent.name for path in OTHERS.glob(f"*/{FILE}"))


def _family(name: str, entry: dict, path: Path) -> Family:
    where = f"{path}, families, {name}"
    check_keys(entry, ("datasets", "source", "shifted", "others", "embedded"), where)
    if not entry.get("datasets"):
        raise ValueError(f"{where} lacks datasets")
    lists = [key for key in ("datasets", "shifted", "others") if key in entry]
    _check_lists(entry, lists, where)
    family = Family(name, **{**entry, **{key: tuple(entry[key]) for key in lists}})
    for stem in family.every:
        try:
            data_set(stem)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return family


def _families_of_facts(stated: list[Family], path: Path) -> list[Family]:
    """The families of the data sets that are in no family of the paper, one's own last.

    A family's source may be one of the paper's: ImageNet is that of its shifted test sets.
    """
    taken = {stem for family in stated for stem in family.every}
    members: dict[str, list[DataSet]] = {}
    for one in data_sets():
        members.setdefault(one.facts.family, []).append(one)
    found: list[Family] = []
    for name in sorted(members, key=lambda name: name == OWN):
        left = [one for one in members[name] if one.stem not in taken]
        if not left:
            continue
        if name in [family.name for family in stated]:
            raise ValueError(
                f"{path}, families, {name}: {left[0].stem} is of a family of this name too "
                f"({left[0].facts.path or 'it has no facts'}); choose another"
            )
        family = _family_of(name, members[name], left)
        first_embedded = family.embedded and not any(other.embedded for other in (*stated, *found))
        found.append(replace(family, tag="" if first_embedded else name))
    return found


def _family_of(name: str, members: list[DataSet], left: list[DataSet]) -> Family:
    """The family of the data sets ``left``, which are not in a paper's; its source is any member's."""
    sources = [one for one in members if one.facts.role == "source"]
    if len(sources) > 1:
        paths = " and ".join(str(one.facts.path) for one in sources)
        raise ValueError(f"{paths} are both the source of the family {name}; give one another family or role")
    others = [one for one in left if one.facts.role == "other" or not one.facts.role and one.facts.train == 0]
    return Family(
        name=name,
        datasets=tuple(one.stem for one in left if one.facts.train != 0),
        source=sources[0].stem if sources else "",
        shifted=tuple(one.stem for one in left if one.facts.role == "shifted"),
        others=tuple(one.stem for one in others),
        embedded=any(is_drawn(one.name) for one in left),  # one is enough for the label
        stated=False,
        borrows_source=bool(sources) and sources[0] not in left,
    )


def _check_lists(content: dict, keys: Iterable[str], where: str | Path) -> None:
    for key in keys:
        if not isinstance(content[key], list):
            raise ValueError(f"{where}, {key}: {content[key]!r} is no list; write [{content[key]}]")


def check_keys(content: dict, known: Iterable[str], where: str | Path, kind: str = "key") -> None:
    """Raises: KeyError naming ``where``, the first key of ``content`` that is not known, and the nearest."""
    if unknown := [key for key in content if key not in known]:
        raise KeyError(f"{where}: {unknown_name(kind, unknown[0], known)}")


@cache
def registered_name(dataset: str) -> str:
    """DATASET.NAME of a stem."""
    return data_set(dataset).name
