"""The two families of data sets, and what a user picks of data sets, methods, shots and seeds."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from dassl.utils import unknown_name
from launch.resolve import SPELLINGS, shipped_trainers

SHOTS = (1, 2, 4, 8, 16)  # labelled images per class that the paper's tables have


@dataclass(frozen=True)
class Family:
    """Data sets whose numbers share tables: the paper's, or the embedded ones in their places."""

    name: str  # stands for all of them on the command line
    datasets: tuple[str, ...]  # of base-to-new and few-shot, stems of configs/datasets/<stem>.yaml
    source: str  # what transferred models are trained on
    shifted: tuple[str, ...]  # the source's classes in other images: targets of domain_shift
    others: tuple[str, ...]  # other classes: targets of cross_dataset
    embedded: bool = False

    def targets(self, protocol: str) -> tuple[str, ...]:
        """What a transferred model is tested on, the source left out."""
        return {"domain_shift": self.shifted, "cross_dataset": self.others}[protocol]

    @property
    def every(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.datasets, *self.shifted, *self.others]))


_PAPER = (
    ("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101")
    + ("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101")
)  # fmt: skip
_DEMO = ("demo", "demo_v2", "demo_sketch", "demo_garden", "demo_cloth", "demo_signs")
FAMILIES = (
    Family("paper", _PAPER, "imagenet", ("imagenetv2", "imagenet_sketch"), _PAPER[1:]),
    Family("demo", _DEMO, "demo", _DEMO[1:3], _DEMO[3:], embedded=True),
)


def family_of(dataset: str) -> Family:
    """The family of a data set (stem). Raises: ValueError for one that no table has, naming the nearest."""
    for family in FAMILIES:
        if dataset in family.every:
            return family
    raise ValueError(
        unknown_name("data set", dataset, [name for family in FAMILIES for name in family.every])
    )


@dataclass(frozen=True)
class Selection:
    """What is asked for. Raises: ValueError for a name that no table knows, naming the nearest."""

    datasets: tuple[str, ...] = ("paper",)  # stems, or the name of a family for all of it
    methods: tuple[str, ...] = ()  # trainers, in any of their spellings; empty: all
    shots: tuple[int, ...] = ()  # empty: all
    seeds: tuple[int, ...] = (1, 2, 3)

    def __post_init__(self):
        self.stems  # noqa: B018 - raises for unknown names
        if unknown := [number for number in self.shots if number not in SHOTS]:
            raise ValueError(f"no table has {unknown[0]} shots; choose of {', '.join(map(str, SHOTS))}")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds are whole numbers from 0 on, at least one of them; got {self.seeds}")
        object.__setattr__(self, "methods", tuple(dict.fromkeys(map(_trainer, self.methods))))
        object.__setattr__(self, "seeds", tuple(sorted(set(self.seeds))))

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The data sets asked for, families taken apart."""
        return _expand(self.datasets)

    def of_datasets(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """Those of ``datasets`` that are asked for, in their order."""
        return tuple(name for name in datasets if name in self.stems)

    def of_shots(self, shots: Iterable[int]) -> tuple[int, ...]:
        return tuple(number for number in shots if not self.shots or number in self.shots)

    def has_method(self, trainer: str) -> bool:
        return not self.methods or trainer in self.methods


def _expand(words: Iterable[str]) -> tuple[str, ...]:
    """Stems of data sets from stems and family names."""
    whole = {family.name: family.every for family in FAMILIES}
    known = [*whole, *(name for family in FAMILIES for name in family.every)]
    stems = []
    for word in words:
        if word not in known:
            raise ValueError(unknown_name("data set", word, dict.fromkeys(known)))
        stems += whole.get(word, [word])
    if not stems:
        raise ValueError("no data set is named; paper stands for the paper's, demo for the embedded ones")
    return tuple(dict.fromkeys(stems))


def _trainer(word: str) -> str:
    """The name of a shipped trainer from any of its spellings."""
    known = {name.lower(): name for name in shipped_trainers()}
    plain = word.lower().replace("_", "")
    name = SPELLINGS.get(plain, known.get(plain))
    if name is None:
        raise ValueError(unknown_name("method", word, known.values()))
    return name
