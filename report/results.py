"""From planned runs to tables: the tidy list of their numbers, and how a definition lays it out."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from dassl.run_folder import read_starts
from grid.plan import Planned
from grid.spec import Spec
from launch.resolve import NO_RECIPE, has_recipe
from report import about
from report.definitions import COST, OF_TRAINING, Definition, Row
from report.model import Cell, Head, Printed, ReportedRun, Table
from report.numbers import (
    NO_METHOD,
    NOT_DEFINED,
    NOT_RUN,
    Line,
    Number,
    Numbers,
    Place,
    laid_out,
    metric_head,
)
from report.paper import Family, Paper
from report.printed import AVERAGE
from report.selection import Selection

REASONS = {"todo": NOT_RUN, "no data": "data missing"}  # the other states are reasons as they are

Outcomes = Mapping[Spec, Planned]


def tables(definition: Definition, selection: Selection, outcomes: Outcomes) -> list[Table]:
    """The selected part of a table: one per family of data sets that is asked for.

    Args: outcomes, of the runs that ``definition.specs(selection)`` names; one that is not there was not run
    """
    return [part.table() for part in parts(definition, selection, outcomes)]


def parts(definition: Definition, selection: Selection, outcomes: Outcomes) -> list["Part"]:
    """What :func:`tables` shows, as numbers."""
    found = (Part(definition, selection, family, outcomes) for family in definition.families(selection))
    return [part for part in found if not part.empty]


def number(method: Row, dataset: str, shots: int, seed: int, metric: str, planned: Planned | None) -> Number:
    """What a planned run says of a metric."""
    line = Number(method, dataset, shots, seed, metric)
    if planned is None:
        return replace(line, reason=NOT_RUN)
    reason = "" if planned.result else planned.damage or REASONS.get(planned.state, planned.state)
    read = line.read(planned.result or None, reason, planned.name)
    return replace(read, footnotes=planned.footnotes if planned.result else ())


def reported_runs(paper: Paper, outcomes: Outcomes) -> tuple[ReportedRun, ...]:
    """Every run behind the numbers, with its starts: versions, commit, device."""
    return tuple(_reported(paper, planned) for planned in dict.fromkeys(outcomes.values()))


def _reported(paper: Paper, planned: Planned) -> ReportedRun:
    starts, reason = (), "; ".join(filter(None, (planned.reason, *planned.remarks)))
    try:
        starts = tuple(read_starts(planned.folder)) if planned.result else ()
    except ValueError as error:  # a damaged list of starts costs no more than what it tells
        reason = "; ".join(filter(None, (reason, str(error))))
    return ReportedRun(
        name=planned.name,
        state=planned.state,
        command=" ".join(planned.command),
        result=planned.result or {},
        starts=starts,
        reason=reason,
        embedded=paper.family_of(planned.spec.dataset).embedded,
    )


class Part:
    """A table for one family of data sets: its numbers, its rows and columns, its cells."""

    def __init__(self, definition: Definition, selection: Selection, family: Family, outcomes: Outcomes):
        self.definition, self.selection, self.family = definition, selection, family
        self.whole = definition.all_datasets(family)
        self.datasets = selection.of_datasets(self.whole)
        self.averaged = definition.averaged(family, self.datasets)
        self.complete = self.averaged == definition.averaged(family, self.whole) and not family.guests
        self.methods = definition.methods(selection)
        self.shots = selection.of_shots(definition.shots)
        shown = self.averaged if definition.data == "average" else self.datasets
        self.empty = not (shown and self.methods and self.shots)
        self.outcomes = outcomes
        self.numbers = Numbers(self._tidy(), definition.kind.hm)

    def _tidy(self) -> Iterator[Number]:
        """A line for every method, data set, number of shots, seed and metric that a run is read for."""
        definition = self.definition
        wanted = [*definition.metrics, *(COST if definition.cost else ())]
        wanted += [name for name in definition.about if name in OF_TRAINING]
        wanted += filter(None, [definition.statistics.get("metric")])
        metrics = dict.fromkeys(
            part for name in wanted for part in (definition.kind.hm if name == "hm" else (name,))
        )
        methods = dict.fromkeys(one for row in self.methods for one in _compared(row))
        for place in product(methods, self.datasets, self.shots, self.selection.seeds, metrics):
            row, *_, metric = place
            if not row.is_there(self.selection.output):
                yield Number(*place, reason=NO_METHOD)
            elif not definition.has_number(row, metric):
                yield Number(*place, reason=NOT_DEFINED)
            else:
                yield number(*place, self._planned(*place))

    def _planned(self, row: Row, dataset: str, shots: int, seed: int, metric: str) -> Planned | None:
        """The run whose result holds a number."""
        spec = self.definition.spec(self.selection.paper, self.family, row, dataset, shots, seed, metric)
        return self.outcomes.get(spec)

    def mean(self, row: Row, dataset: str, shots: int, metric: str) -> float | None:
        """Over the selected seeds that have a number; None if there is none."""
        return self.numbers.score(Place(row, (dataset,), shots, metric), self.selection.seeds).mean

    def table(self) -> Table:
        definition = self.definition
        rest = Place(datasets=self.averaged, shots=self.shots[0], metric=definition.metrics[0])
        rows, columns = (self._lines(definition.layout[side]) for side in ("rows", "columns"))
        return Table(
            id=definition.id,
            title=definition.title + self.family.remark + self._over(),
            **laid_out(rows, columns, lambda place: self._cell(place.within(rest))),
            embedded=self.family.embedded,
            seeds=self.selection.seeds,
            best_among=definition.best_among,
            notes=self._notes(),
            source=definition.source,
            tag=self.family.tag,
        )

    def _over(self) -> str:
        """Which data sets a table of averages is over; "" where its heads say so."""
        if self.definition.data != "average":
            return ""
        if len(self.averaged) == 1:
            return f": {self._title(self.averaged[0])} only"
        if self.complete:
            return f": average over {len(self.averaged)} data sets"
        return f": average over {', '.join(map(self._title, self.averaged))} only"

    def _notes(self) -> tuple[str, ...]:
        notes = list(self.definition.notes)
        if any(row.settled for row in self.methods):
            notes.append("Zero-shot CLIP does not depend on the seed: one run stands for all seeds.")
        for row in self.definition.added(self.selection):
            if not has_recipe(row.trainer, self.definition.protocol):
                notes.append(f"{row.name}: {NO_RECIPE}.")
        if gone := [row.name for row in self.methods if not row.is_there(self.selection.output)]:
            notes.append(
                f"{', '.join(gone)}: trainers/ registers no such method, so nothing of ours is there."
            )
        if self.family.guests:
            guests = ", ".join(map(self._title, self.family.guests))
            notes.append(f"Of another family than the source, tested with its models: {guests}.")
        return (*notes, *self.definition.printed_notes) if self._beside_print else tuple(notes)

    @property
    def _beside_print(self) -> bool:
        """Whether the paper may have printed numbers of these data sets."""
        return self.family.stated and not self.family.embedded

    # Heads ------------------------------------------------------------------------------------------

    def _lines(self, axes: list[str]) -> list[Line]:
        """The rows or columns along one axis, or along two of which the first groups the second."""
        lines = self._axis(axes[0])
        if len(axes) == 2:
            lines = [
                (replace(inner, group=outer.label), place.within(around))
                for (outer, around), (inner, place) in product(lines, self._axis(axes[1]))
            ]
        if "method" not in axes:
            lines += self._about_lines()
        if "data" in axes and self.definition.cost and self.averaged:
            lines += [
                (replace(metric_head(metric), group="cost"), Place(datasets=self.averaged, metric=metric))
                for metric in COST
            ]
        return lines

    def _about_lines(self) -> list[Line]:
        """What is told of each method beside its accuracies."""
        layout, shots = self.definition.layout, self.shots[-1]
        group = f"with {shots} shots" if "shots" in (*layout["rows"], *layout["columns"]) else ""
        return [
            (
                replace(about.WORDS.get(name) or metric_head(name), group=group),
                Place(datasets=self.averaged, shots=shots, metric=name),
            )
            for name in self.definition.about
            if name != about.SOURCE or self._beside_print
        ]

    def _axis(self, name: str) -> list[Line]:
        return getattr(self, f"_{name}_axis")()

    def _method_axis(self) -> list[Line]:
        return [
            (Head(row.name, row.group, unit="points" if row.gain else "%"), _place_of(row))
            for row in self.methods
        ]

    def _shots_axis(self) -> list[Line]:
        return [(Head("1 shot" if n == 1 else f"{n} shots"), Place(shots=n)) for n in self.shots]

    def _metric_axis(self) -> list[Line]:
        return [(metric_head(metric), Place(metric=metric)) for metric in self.definition.metrics]

    def _data_axis(self) -> list[Line]:
        lines = [(self._dataset_head(name), Place(datasets=(name,))) for name in self.datasets]
        if len(self.averaged) > 1:
            of = "" if self.complete else f" of {len(self.averaged)}"
            lines.append((Head(f"average{of}"), Place(datasets=self.averaged)))
        return lines

    def _dataset_head(self, name: str) -> Head:
        transfers = self.definition.kind.transfers
        group = ("source" if name == self.family.source else "targets") if transfers else ""
        return Head(self._title(name), group)

    def _title(self, dataset: str) -> str:
        return self.selection.paper.titles.get(dataset, dataset)

    # Cells ------------------------------------------------------------------------------------------

    def _cell(self, place: Place) -> Cell:
        if place.metric in about.WORDS:
            row, runs = place.method, self._trainings(place)
            return about.cell(place.metric, dict(row.facts), runs, not row.settled, self._beside_print)
        return self.numbers.cell(place, self.selection.seeds, self._printed(place))

    def _trainings(self, place: Place) -> list[Planned]:
        """The training runs behind a cell, over data sets and seeds."""
        places = product([place.method], place.datasets, [place.shots], self.selection.seeds, OF_TRAINING[:1])
        return [planned for one in places if (planned := self._planned(*one)) is not None]

    def _printed(self, place: Place) -> Printed | None:
        """The printed value; none beside others' data sets and beside averages of fewer."""
        if not self._beside_print or not self.definition.printed:
            return None
        dataset = place.datasets[0]
        if len(place.datasets) > 1:
            if not self.complete:
                return None
            dataset = AVERAGE
        files, unprinted = self.definition.printed, self.definition.unprinted
        numbers = self.selection.paper.print_of(*files, unprinted=unprinted)
        return numbers.get(place.method.printed, dataset, place.shots, place.metric)


def _compared(row: Row) -> tuple[Row, ...]:
    """The methods whose runs a row shows: its own, and for a gain what that is over."""
    return (replace(row, gain=False), row.baseline) if row.gain else (row,)


def _place_of(row: Row) -> Place:
    return Place(**dict(zip(("method", "over"), _compared(row), strict=False)))
