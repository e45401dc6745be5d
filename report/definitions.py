"""A paper's tables as data: which runs fill which cell. They stand in its folder tables/, one file each.

A table file has these keys (paper/tables/table01.yaml is an example):

title, source   what it shows, and where the paper prints it
protocol        of its runs, one of launch/protocols/
shots           list of labelled images per class
metrics         list of those of its protocol (accuracy; base, new, hm), params (trained parameters), ms (per
                training image), seconds (of training)
rows            list of methods: see Row.read
data            each: every data set, then their average; average: the average alone
average         all (default), or targets: without the data set that a transferred model was trained on
layout          {rows: [axes], columns: [axes]}: method, data, shots, metric; the first of two is the group
cost            true: parameters and time of the average are appended along the axis of the data sets
about           list of params, ms, seconds, and of words on each method (about.py): budget, tuned, inference,
                source; appended where the methods are not, over the average's data sets and the most shots
best_among      rows or columns, whichever the methods are
printed         file of printed/ (stem) with the printed values, or a list of them, also as paths from there
unprinted       what stands where others have a printed number and a method has not, such as "not at hand"
statistics      {metric: ..., shots: ...}: what methods are ranked and tested by over the data sets
notes           choices of ours;  printed_notes: remarks on the print
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path

from clipfit.io.files import no_regular_file
from dassl.config import flatten, load_yaml
from dassl.utils import unknown_name
from grid.source import trainers_with_runs
from grid.spec import Spec
from launch import registered
from launch.protocols import Protocol
from launch.registered import PROJECT, class_fact, data_set
from launch.resolve import DEFAULT_BACKBONE, load_recipe
from report.about import WORDS
from report.paper import Family, Paper, check_keys, registered_name
from report.selection import Content, Selection

AXES = ("method", "data", "shots", "metric")
COST = ("params", "ms")
OF_TRAINING = (*COST, "seconds")  # of the training run, whatever it is tested on
BACKBONE = "MODEL.BACKBONE.NAME"
THE_SEED = 1  # of a method that trains nothing: one run stands for all seeds


@dataclass(frozen=True)
class Row:
    """A method with its settings: a row or a column of a table, a line of a figure."""

    name: str
    trainer: str
    config: str = ""  # relative to the project
    pairs: tuple[str, ...] = ()  # KEY VALUE KEY VALUE
    group: str = ""  # common head of neighbouring rows
    printed: str = ""  # what printed/ calls it
    gain: bool = False  # show the difference to the same method without its config file
    trained_by: str = ""  # protocol whose model and settings transfers have; "": what the recipe says
    facts: tuple[tuple[str, str], ...] = ()  # what its paper or release says, by the words of about.py
    optional: bool = False  # trainers/ need not have it: then its printed numbers stand alone

    @classmethod
    def read(cls, entry: dict, where: str) -> "Row":
        """A row from YAML: name and trainer; optional config, set ({KEY: value}), group, printed (default:
        the name), gain, trained_by, facts ({word: what is known of it}), and optional.

        Raises: KeyError, ValueError naming ``where`` for an entry that is no row
        """
        known = ("name", "trainer", "config", "set", "group", "printed", "gain", "trained_by")
        check_keys(entry, (*known, "facts", "optional"), where, "key of a row")
        check_keys(entry.get("facts", {}), WORDS, f"{where}, facts", "word")
        if lacking := [key for key in ("name", "trainer") if not entry.get(key)]:
            raise ValueError(f"{where}: a row lacks {' and '.join(lacking)}: {entry}")
        protocols = registered.protocols()
        if (protocol := entry.get("trained_by", "")) not in ("", *protocols):
            raise ValueError(f"{where}, trained_by: {unknown_name('protocol', str(protocol), protocols)}")
        settings = {key: value for key, value in entry.items() if key != "set"}
        settings["facts"] = tuple((word, str(said)) for word, said in entry.get("facts", {}).items())
        pairs = _words(flatten(entry.get("set", {})))
        return cls(**{"printed": entry["name"], **settings, "pairs": pairs})

    def spec(
        self,
        paper: Paper,
        dataset: str,
        protocol: str,
        shots: int,
        seed: int,
        eval_only: bool = False,
        source: str = "",
    ) -> Spec:
        """The run of this method, with what the paper states otherwise than the method's own release.

        Args: dataset and source (trained on, of a transfer test; default: the family's), stems;
              eval_only, a test of a trained model
        """
        transferred = eval_only and registered.protocol(protocol).transfers
        trained_on = (source or paper.family_of(dataset).source) if transferred else dataset
        settings = self._backbone_of(source) if source else {}
        trained_by = self.trained_by if transferred else ""
        if trained_by:
            settings |= self._settings_of(trained_by, protocol, trained_on, shots)
        settings |= paper.overrides(self.trainer, trained_on, shots)
        settings |= zip(self.pairs[::2], self.pairs[1::2], strict=True)
        return Spec(
            trainer=self.trainer,
            protocol=protocol,
            dataset=dataset,
            shots=shots,
            seed=THE_SEED if self.settled else seed,
            eval_only=eval_only,
            source=source,
            trained_by=trained_by,
            config_file=self.config,
            pairs=_words(settings),
        )

    def _settings_of(self, trained_by: str, protocol: str, trained_on: str, shots: int) -> dict[str, object]:
        """What the recipe of a training says otherwise than that of a test of another protocol's models."""
        dataset = registered_name(trained_on)
        training, test = (load_recipe(self.trainer, one, dataset, shots)[0] for one in (trained_by, protocol))
        return {key: value for key, value in training.items() if test.get(key) != value}

    def _backbone_of(self, source: str) -> dict[str, object]:
        """The key of the backbone that models of a data set have: a test on another one needs the same."""
        files = [PROJECT / self.config if self.config else None, data_set(source).config]
        stated = [flatten(load_yaml(path)).get(BACKBONE) for path in files if path]
        return {BACKBONE: next(filter(None, stated), DEFAULT_BACKBONE)}

    def is_there(self, output: Path | None) -> bool:
        """Whether it can have runs. Args: output, folder of runs, maybe those of a method that is gone"""
        if not self.optional or registered.class_source("trainers", self.trainer) is not None:
            return True
        return output is not None and self.trainer in trainers_with_runs(output)

    @property
    def settled(self) -> bool:
        """Whether the seed decides nothing."""
        return not _fact(self.trainer, "trains")

    @property
    def baseline(self) -> "Row":
        """What a gain is over."""
        return replace(self, config="", gain=False)


@dataclass(frozen=True)
class Definition:
    """One table; the keys of its file."""

    id: str
    title: str
    source: str
    protocol: str
    shots: tuple[int, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    data: str
    layout: dict[str, list[str]]
    average: str = "all"
    cost: bool = False
    about: tuple[str, ...] = ()
    best_among: str = ""
    printed: tuple[str, ...] = ()
    unprinted: str = ""
    statistics: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    printed_notes: tuple[str, ...] = ()

    @cached_property
    def kind(self) -> Protocol:
        """The protocol of its runs."""
        return registered.protocol(self.protocol)

    def methods(self, selection: Selection) -> tuple[Row, ...]:
        """The paper's methods that are selected, then those asked for by name that it has nowhere."""
        rows = tuple(row for row in self.rows if selection.has_method(row.trainer))
        return rows + self.added(selection)

    def added(self, selection: Selection) -> tuple[Row, ...]:
        """Rows for methods that the paper has nowhere, in a table that compares methods as they are."""
        of_variants = any(row.baseline != row for row in self.rows)
        if of_variants or len({row.trainer for row in self.rows}) == 1 < len(self.rows):
            return ()
        known = {row.trainer for table in load(selection.paper).values() for row in table.rows}
        others = (name for name in selection.methods if name not in known)
        return tuple(Row(name, name) for name in others if self._can_hold(name))

    def _can_hold(self, trainer: str) -> bool:
        return not self.kind.tests_new_classes or _fact(trainer, "new_classes")

    def has_number(self, row: Row, metric: str) -> bool:
        """Whether a method can be tested so. Args: metric, any but hm"""
        tested_on_others = self.kind.transfers or self.kind.metrics.get(metric) == "test"
        return not tested_on_others or self._can_hold(row.trainer)

    def families(self, selection: Selection) -> tuple[Family, ...]:
        """Those of which some data set is asked for.

        In a table of transfers, data sets that are asked for and that no source of their own family reaches
        are further targets of the other families' sources.
        """
        if not self.kind.transfers:
            return selection.families
        guests, families = self._guests(selection), list(selection.families)
        sources = [family.source for family in families]
        for place, family in enumerate(families):
            if family.source and sources.index(family.source) == place:  # not twice with the same models
                families[place] = self._hosting(family, guests)
        return tuple(families)

    def _guests(self, selection: Selection) -> list[str]:
        """Data sets of no family of the paper that are targets of this kind, and have no source there."""
        found: list[str] = []
        for family in selection.paper.families:
            if not family.stated:
                reached = {family.source, *family.shifted, *family.others} if family.source else ()
                asked = selection.of_datasets(name for name in family.every if name not in reached)
                shifted = self.kind.targets == "shifted"
                found += [name for name in asked if (name in family.shifted) == shifted]
        return found

    def _hosting(self, family: Family, guests: list[str]) -> Family:
        """The family with those of the guests that its source has a model for."""
        role = self.kind.targets
        fitting = [name for name in guests if role == "other" or not _has_more_classes(name, family.source)]
        return family.with_guests(role, tuple(fitting)) if fitting else family

    def all_datasets(self, family: Family) -> tuple[str, ...]:
        """The data sets that the whole table has, the source of a transfer first."""
        if self.kind.transfers:
            targets = family.targets(self.kind.targets) if family.source else ()
            return (family.source, *targets) if targets or not family.borrows_source else ()
        return family.datasets

    def averaged(self, family: Family, datasets: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``datasets`` that the average is over."""
        if self.average == "targets":
            return tuple(name for name in datasets if name != family.source)
        return datasets

    def spec(
        self, paper: Paper, family: Family, row: Row, dataset: str, shots: int, seed: int, metric: str
    ) -> Spec:
        """The run whose result holds one number (metric: any but hm)."""
        if self.kind.transfers:
            tested = dataset != family.source and (metric not in OF_TRAINING or row.settled)
        else:
            tested = self.kind.metrics.get(metric) == "test"
        if tested:
            source = family.source if dataset in family.guests else ""
            return row.spec(paper, dataset, self.protocol, shots, seed, eval_only=True, source=source)
        trained_on = family.source if self.kind.transfers else dataset
        trained_by = self.protocol
        if self.kind.transfers or self.kind.trained_by:
            of_recipe = load_recipe(row.trainer, self.protocol, registered_name(trained_on), shots)[1]
            trained_by = row.trained_by or of_recipe or self.protocol
        return row.spec(paper, trained_on, trained_by, shots, seed)

    def content(self, paper: Paper) -> Content:
        """What of the paper's data sets, methods and shots the whole table has."""
        datasets = {family.name: self.all_datasets(family) for family in paper.families}
        return Content(datasets, tuple(row.trainer for row in self.rows), self.shots)

    def specs(self, selection: Selection) -> Iterator[tuple[Spec, tuple[str, ...]]]:
        """Every run that the selected part of the table needs, with what it must record: nothing."""
        seen = {}
        for family in self.families(selection):
            for dataset in selection.of_datasets(self.all_datasets(family)):
                for row in self.methods(selection):
                    for shots in selection.of_shots(self.shots) if row.is_there(selection.output) else ():
                        place = family, row, dataset, shots
                        seen |= dict.fromkeys(self._specs_of(*place, selection))
        return ((spec, ()) for spec in seen)

    def _specs_of(
        self, family: Family, row: Row, dataset: str, shots: int, selection: Selection
    ) -> Iterator[Spec]:
        for member in (row.baseline, row) if row.gain else (row,):
            for seed in selection.seeds:
                for metric in self.metrics:
                    for part in self.kind.hm if metric == "hm" else (metric,):
                        if self.has_number(member, part):
                            yield self.spec(selection.paper, family, member, dataset, shots, seed, part)


@cache
def load(paper: Paper) -> dict[str, Definition]:
    """All tables by their id, the numbered ones first.

    Raises: KeyError, ValueError, FileNotFoundError naming a broken file
    """
    paths = (paper.folder / "tables").glob("*.yaml")
    ordered = sorted(paths, key=lambda path: (not path.stem.startswith("table"), path.stem))
    definitions = [_read(path, paper) for path in ordered]
    return {definition.id: definition for definition in definitions}


def _read(path: Path, paper: Paper) -> Definition:
    content = load_yaml(path)
    check_keys(content, [key.name for key in fields(Definition) if key.name != "id"], path)
    _check(content, path, paper)
    content["rows"] = [Row.read(entry, str(path)) for entry in content["rows"]]
    content["printed"] = _names(content.get("printed"))
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    name = re.sub(r"\d+", lambda number: str(int(number[0])), path.stem)  # table01: table1
    return Definition(id=name, **{**content, **lists})


def _check(content: dict, path: Path, paper: Paper) -> None:
    """Raises: ValueError naming the file and a key that it lacks, or a protocol, an axis, a metric or shots
    that there are not; FileNotFoundError for a print that is not there
    """
    for key in ("title", "source", "protocol", "shots", "metrics", "rows", "data", "layout"):
        if not content.get(key):
            raise ValueError(f"{path} lacks {key}")
    layout = content["layout"]
    axes = [*layout["rows"], *layout["columns"]]
    protocols = registered.protocols()
    if content["protocol"] not in protocols:
        raise ValueError(f"{path}: {unknown_name('protocol', str(content['protocol']), protocols)}")
    protocol = protocols[content["protocol"]]
    metrics = (*protocol.metrics, *(("hm",) if protocol.hm else ()), *OF_TRAINING)
    lists = [("axis", axes, AXES), (f"metric of {protocol.name}", content["metrics"], metrics)]
    lists += [("word", content.get("about", []), (*OF_TRAINING, *WORDS))]
    for kind, names, known in lists:
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{path}: {unknown_name(kind, unknown[0], known)}")
    if unknown := [number for number in content["shots"] if number not in paper.shots]:
        raise ValueError(f"{path} has {unknown[0]} shots, which are not among the shots of {paper.file}")
    for print_file in map(paper.print_file, _names(content.get("printed"))):
        if not print_file.is_file():
            raise FileNotFoundError(f"{path}, printed: {print_file} {no_regular_file(print_file)}")


def _names(entry: str | list[str] | None) -> list[str]:
    """One name or several, from YAML."""
    return [entry] if entry and isinstance(entry, str) else entry or []


@cache
def _fact(trainer: str, name: str) -> bool:
    """``trains`` or ``new_classes`` of a method: true unless its class says otherwise (trainers/base.py)."""
    return class_fact("trainers", trainer, name, True)


def _has_more_classes(dataset: str, source: str) -> bool:
    """Whether the facts of both say so."""
    tested, trained = (data_set(stem).facts.classes for stem in (dataset, source))
    return bool(tested and trained and tested > trained)


def _words(settings: dict[str, object]) -> tuple[str, ...]:
    """KEY VALUE KEY VALUE, as on a command line."""
    return tuple(word for key, value in settings.items() for word in (key, str(value)))
