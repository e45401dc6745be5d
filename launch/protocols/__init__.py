"""Protocols: what is trained on, what is tested on, where the runs lie. `<name>.yaml` in this folder is one.

Every key but `train` may be left out.

train, test   `place`, the part of the run folder's path; `classes` of the data set: all (default), base (the
              first half) or new (the second). Without `test`, tests of its models lie in <place>_test
targets       it tests on other data sets than was trained on, those with this role in their facts: other,
              or shifted (the classes of the source in other images)
trained_by    the protocol whose models its tests load, where the method's recipe does not say (TRAINED_BY);
              default: itself
metrics       what tables may show -> the run that holds it: train or test
hm            two of the metrics; tables may show their harmonic mean, as hm
page          true: a run writes its page, report.html, when it is finished; default: false
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dassl.config import load_yaml
from dassl.config.facts import ROLES
from dassl.utils import unknown_name

FOLDER = Path(__file__).parent
CLASSES = ("all", "base", "new")
RUNS = ("train", "test")
TARGETS = tuple(role for role in ROLES if role != "source")
KEYS = (*RUNS, "targets", "trained_by", "metrics", "hm", "page")


@dataclass(frozen=True)
class Stage:
    """The trainings or the tests of a protocol."""

    place: str  # part of the run folder's path
    classes: str = "all"


@dataclass(frozen=True)
class Protocol:
    """The keys of a protocol's file."""

    name: str
    train: Stage
    test: Stage
    targets: str = ""
    trained_by: str = ""
    metrics: dict[str, str] = field(default_factory=dict)
    hm: tuple[str, ...] = ()
    page: bool = False

    def stage(self, eval_only: bool) -> Stage:
        return self.test if eval_only else self.train

    @property
    def transfers(self) -> bool:
        """Its tests are on another data set than was trained on."""
        return bool(self.targets)

    @property
    def picks_classes(self) -> bool:
        """It says which classes a run has; else the config does."""
        return {self.train.classes, self.test.classes} != {"all"}

    @property
    def tests_new_classes(self) -> bool:
        """Its tests have classes that were not trained on."""
        return self.targets == "other" or self.are_new(self.test.classes)

    def are_new(self, tested: str) -> bool:
        """Whether a test on these classes of the data set meets some that were not trained on."""
        return tested != self.train.classes if self.picks_classes else tested == "new"


NO_PROTOCOL = Protocol("", Stage("custom/train"), Stage("custom/test"))  # of a run that names none


def read_protocols(folder: str | os.PathLike) -> dict[str, Protocol]:
    """Name -> protocol of every file of a folder; those that transfer come last.

    Raises: ValueError naming the file and the key that is unknown, missing or has a wrong value, or two
            protocols whose runs would share their folders
    """
    files = sorted(Path(folder).glob("*.yaml"))
    return dict(_read(tuple((path, path.stat().st_mtime_ns) for path in files)))


@lru_cache(maxsize=8)
def _read(files: tuple[tuple[Path, int], ...]) -> dict[str, Protocol]:
    """Args: files, each with the time of its last change"""
    found = [read_protocol(path) for path, _ in files]
    places: dict[str, str] = dict.fromkeys((NO_PROTOCOL.train.place, NO_PROTOCOL.test.place), "no protocol")
    for one in found:
        for place in (one.train.place, one.test.place):
            if place in places:
                raise ValueError(
                    f"{one.name}.yaml: the runs of {places[place]} lie in {place} too; "
                    "give the train and the test of every protocol a place of their own"
                )
            places[place] = one.name
    for one in found:
        if one.trained_by not in ("", *(other.name for other in found)):
            problem = unknown_name("protocol", one.trained_by, [other.name for other in found])
            raise ValueError(f"{one.name}.yaml, trained_by: {problem}")
    return {one.name: one for one in sorted(found, key=lambda one: (one.transfers, one.name))}


def read_protocol(path: str | os.PathLike) -> Protocol:
    """Read one file. Raises: as `read_protocols`"""
    path = Path(path)
    content = load_yaml(path)
    for problem in _problems(content):
        raise ValueError(f"{path}{problem}")
    train = Stage(**content["train"])
    return Protocol(
        name=path.stem,
        train=train,
        test=Stage(**content["test"]) if "test" in content else Stage(f"{train.place}_test", train.classes),
        targets=content.get("targets", ""),
        trained_by=content.get("trained_by", ""),
        metrics=content.get("metrics", {}),
        hm=tuple(content.get("hm", ())),
        page=content.get("page", False),
    )


def _problems(content: dict) -> Iterator[str]:
    """What is wrong in a file, to stand behind its name."""
    if unknown := [key for key in content if key not in KEYS]:
        yield f": {unknown_name('key', str(unknown[0]), KEYS)}"
    if "train" not in content:
        yield " lacks train: {place: part of the run folder's path}"
    for run in RUNS:
        yield from (f", {run}{problem}" for problem in _problems_of_stage(content.get(run, {"place": "-"})))
    if content.get("targets", "other") not in TARGETS:
        yield f", targets: {unknown_name('role', str(content['targets']), TARGETS)}"
    metrics = content.get("metrics", {})
    if not isinstance(metrics, dict):
        yield f", metrics: {metrics!r}; say which run holds each: {{accuracy: train}}"
    for metric, run in metrics.items():
        if run not in RUNS:
            yield f", metrics, {metric}: {unknown_name('run', str(run), RUNS)}"
    hm = content.get("hm", [])
    if hm and (not isinstance(hm, list) or len(hm) != 2 or not set(hm) <= metrics.keys()):
        yield f", hm: {hm!r}; name two of the metrics: {', '.join(metrics)}"
    if not isinstance(content.get("page", False), bool):
        yield f", page: {content['page']!r}; write true or false"


def _problems_of_stage(stage) -> Iterator[str]:
    known = ("place", "classes")
    if not isinstance(stage, dict) or not isinstance(stage.get("place"), str):
        yield f": {stage!r} lacks place; write {{place: part of the run folder's path}}"
        return
    if unknown := [key for key in stage if key not in known]:
        yield f": {unknown_name('key', str(unknown[0]), known)}"
    depth = len(Path(stage["place"]).parts)
    if Path(stage["place"]).is_absolute() or ".." in Path(stage["place"]).parts or depth not in (1, 2):
        yield f", place: {stage['place']!r}; give one folder, or two as in base2new/train_base"
    if stage.get("classes", "all") not in CLASSES:
        yield f", classes: {unknown_name('choice', str(stage['classes']), CLASSES)}"
