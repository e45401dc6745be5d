"""A paper as data: everything that report/ knows of it, read from its folder.

paper.yaml       title, shots, families of data sets: see Paper.read
tables/          a file per table: definitions.py
figures.yaml     an entry per figure: figures/loading.py
printed/         a CSV per table with its printed numbers, and notes.csv on doubtful ones: printed.py
overrides.yaml   what the paper states otherwise than the methods' own releases: Paper.overrides

Only paper.yaml must be there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path

from dassl.config import load_yaml
from dassl.utils import unknown_name
from launch.resolve import CONFIGS, PROJECT
from report.printed import Print, read_print

SHIPPED = PROJECT / "paper"
FILE = "paper.yaml"


@dataclass(frozen=True)
class Family:
    """Data sets whose numbers share tables: the paper's, or the embedded ones in their places."""

    name: str  # stands for all of them on the command line
    datasets: tuple[str, ...]  # of base-to-new and few-shot, stems of configs/datasets/<stem>.yaml
    source: str = ""  # what transferred models are trained on
    shifted: tuple[str, ...] = ()  # the source's classes in other images: targets of domain_shift
    others: tuple[str, ...] = ()  # other classes: targets of cross_dataset
    embedded: bool = False

    def targets(self, protocol: str) -> tuple[str, ...]:
        """What a transferred model is tested on, the source left out."""
        return {"domain_shift": self.shifted, "cross_dataset": self.others}[protocol]

    @property
    def every(self) -> tuple[str, ...]:
        source = (self.source,) if self.source else ()
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
        """Read a paper's folder.

        Keys of paper.yaml:
        title      short name, head of reports
        shots      list of labelled images per class that the tables have
        families   name -> the fields of Family; the first is shown unless others are asked for
        citation   optional
        titles     optional: data set (stem) -> its name in the tables

        Raises: FileNotFoundError, KeyError, ValueError naming the file and what is wrong in it
        """
        path = Path(folder).expanduser() / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist; a paper's folder has {FILE}, tables/ and, if the paper has them, "
                "figures.yaml, printed/ and overrides.yaml (docs/reproduction.md, Another paper)"
            )
        content = load_yaml(path)
        check_keys(content, [key.name for key in fields(cls) if key.name != "folder"], path)
        if lacking := [key for key in ("title", "shots", "families") if not content.get(key)]:
            raise ValueError(f"{path} lacks {lacking[0]}")
        _check_lists(content, ["shots"], path)
        families = tuple(_family(name, entry, path) for name, entry in content["families"].items())
        return cls(path.parent, **{**content, "shots": tuple(content["shots"]), "families": families})

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

    def print_of(self, table: str) -> Print:
        """The numbers of a CSV of printed/ (stem, e.g. ``table01``)."""
        return read_print(self.folder / "printed", table)

    def overrides(self, trainer: str, dataset: str, shots: int) -> dict[str, object]:
        """Config keys that the paper sets for a method trained on a data set (stem); none for embedded."""
        if self.family_of(dataset).embedded:
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


def _family(name: str, entry: dict, path: Path) -> Family:
    where = f"{path}, families, {name}"
    check_keys(entry, [key.name for key in fields(Family) if key.name != "name"], where)
    if not entry.get("datasets"):
        raise ValueError(f"{where} lacks datasets")
    lists = [key for key in ("datasets", "shifted", "others") if key in entry]
    _check_lists(entry, lists, where)
    family = Family(name, **{**entry, **{key: tuple(entry[key]) for key in lists}})
    known = sorted(path.stem for path in (CONFIGS / "datasets").glob("*.yaml"))
    if unknown := [stem for stem in family.every if stem not in known]:
        raise ValueError(f"{where}: {unknown_name('data set', unknown[0], known)}")
    return family


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
    return load_yaml(CONFIGS / f"datasets/{dataset}.yaml")["DATASET"]["NAME"]
