"""What a user picks of a paper: data sets, methods, shots and seeds."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dassl.utils import unknown_name
from dassl.utils.plugin_files import folded
from grid.source import trainers_with_runs
from launch.registered import method_name, methods
from report.paper import Family, Paper

MOST_NAMED = 5  # tables and figures in a message


@dataclass(frozen=True)
class Selection:
    """What is asked for. Raises: ValueError for a name that no table knows, naming the nearest."""

    paper: Paper
    datasets: tuple[str, ...] = ()  # stems, or the name of a family for all of it; empty: the first family
    methods: tuple[str, ...] = ()  # trainers, in any of their spellings; empty: the paper's
    shots: tuple[int, ...] = ()  # empty: all
    seeds: tuple[int, ...] = (1, 2, 3)
    output: Path | None = None  # folder of runs: a method that it has runs of need not be registered any more

    def __post_init__(self):
        self.stems  # noqa: B018 - raises for unknown names
        if unknown := [number for number in self.shots if number not in self.paper.shots]:
            known = ", ".join(map(str, self.paper.shots))
            raise ValueError(f"no table has {unknown[0]} shots; choose of {known}")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds are whole numbers from 0 on, at least one of them; got {self.seeds}")
        object.__setattr__(self, "methods", tuple(dict.fromkeys(map(self._trainer, self.methods))))
        object.__setattr__(self, "seeds", tuple(sorted(set(self.seeds))))

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The data sets asked for, families taken apart."""
        families = self.paper.families
        return _expand(self.datasets or (families[0].name,), families)

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Those of which some data set is asked for."""
        return tuple(family for family in self.paper.families if self.of_datasets(family.every))

    def of_datasets(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """Those of ``datasets`` that are asked for, in their order."""
        return tuple(name for name in datasets if name in self.stems)

    def of_shots(self, shots: Iterable[int]) -> tuple[int, ...]:
        return tuple(number for number in shots if not self.shots or number in self.shots)

    def has_method(self, trainer: str) -> bool:
        return not self.methods or trainer in self.methods

    def _trainer(self, word: str) -> str:
        """The name of a trainer from any of its spellings."""
        known, name = methods(), method_name(word)
        if name in known:
            return name
        found = sorted(trainers_with_runs(self.output)) if self.output else []
        for other in found:
            if folded(other) == folded(word):
                return other
        raise ValueError(unknown_name("method", word, dict.fromkeys([*known, *found])))


@dataclass(frozen=True)
class Content:
    """What a table or a figure has, whatever is selected of it."""

    datasets: dict[str, tuple[str, ...]]  # family -> stems
    methods: tuple[str, ...]  # trainers
    shots: tuple[int, ...]


def check_not_empty(what: Iterable, selection: Selection) -> None:
    """Args: what, definitions of tables and figures

    Raises: ValueError if nothing of them is selected, with the data sets, methods and shots that they have
    """
    what = list(what)
    if not what or any(True for definition in what for _ in definition.specs(selection)):
        return
    contents = [definition.content(selection.paper) for definition in what]
    families: dict[str, dict[str, None]] = {}
    for content in contents:
        for family, stems in content.datasets.items():
            families.setdefault(family, {}).update(dict.fromkeys(filter(None, stems)))
    datasets = (f"{family} ({' '.join(stems)})" for family, stems in families.items() if stems)
    methods = dict.fromkeys(name for content in contents for name in content.methods)
    shots = sorted({number for content in contents for number in content.shots})
    names = ", ".join(definition.id for definition in what[:MOST_NAMED])
    more = f" and {len(what) - MOST_NAMED} more" if len(what) > MOST_NAMED else ""
    raise ValueError(
        f"nothing of {names}{more} is selected; there is\n"
        f"  --datasets  {', '.join(datasets) or 'none'}\n"
        f"  --methods   {' '.join(methods)}\n"
        f"  --shots     {' '.join(map(str, shots))}"
    )


def _expand(words: Iterable[str], families: Iterable[Family]) -> tuple[str, ...]:
    """Stems of data sets from stems and family names."""
    whole = {family.name: family.every for family in families}
    known = [*whole, *(name for family in families for name in family.every)]
    stems = []
    for word in words:
        if word not in known:
            raise ValueError(unknown_name("data set", word, dict.fromkeys(known)))
        stems += whole.get(word, [word])
    return tuple(dict.fromkeys(stems))
