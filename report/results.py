"""From finished runs to the cells of tables: numbers over seeds and data sets, or why there are none."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean, pstdev

from dassl.run_folder import read_starts
from grid.plan import Planned
from grid.spec import Spec
from launch.resolve import NO_RECIPE, has_recipe
from report.definitions import COST, Definition, Row
from report.model import Cell, Head, Printed, ReportedRun, Score, Table
from report.paper import Family, Paper
from report.printed import AVERAGE
from report.selection import Selection

NOT_RUN, NOT_DEFINED = "not run", "not defined"
REASONS = {"todo": NOT_RUN, "no data": "data missing"}  # the other states are reasons as they are
METRIC_HEADS = {
    "accuracy": Head("accuracy"),
    "base": Head("base"),
    "new": Head("new"),
    "hm": Head("HM"),
    "params": Head("parameters", unit="params", lower_is_better=True),
    "ms": Head("time per image", unit="ms", lower_is_better=True),
}

Outcomes = Mapping[Spec, Planned]


def _metric_head(metric: str) -> Head:
    return METRIC_HEADS.get(metric, Head(metric))


def tables(definition: Definition, selection: Selection, outcomes: Outcomes) -> list[Table]:
    """The selected part of a table: one per family of data sets that is asked for.

    Args: outcomes, of the runs that ``definition.specs(selection)`` names; one that is not there was not run
    """
    parts = [_Cells(definition, selection, family, outcomes) for family in definition.families(selection)]
    return [part.table() for part in parts if not part.empty]


def dataset_scores(
    definition: Definition,
    selection: Selection,
    family: Family,
    outcomes: Outcomes,
    shots: int,
    metric: str,
) -> dict[str, dict[str, float]]:
    """Method -> data set -> mean over seeds, of the selected ones that have a number."""
    cells = _Cells(definition, selection, family, outcomes)
    scores: dict[str, dict[str, float]] = {row.name: {} for row in cells.methods}
    for row, dataset in product(cells.methods, cells.datasets):
        score = cells.quantity(Place(row, (dataset,), shots, metric)).score(selection.seeds)
        if score.mean is not None:
            scores[row.name][dataset] = score.mean
    return scores


def reported_runs(paper: Paper, outcomes: Outcomes) -> tuple[ReportedRun, ...]:
    """Every run behind the numbers, with its starts: versions, commit, device."""
    return tuple(_reported(paper, planned) for planned in dict.fromkeys(outcomes.values()))


def _reported(paper: Paper, planned: Planned) -> ReportedRun:
    return ReportedRun(
        name=planned.name,
        state=planned.state,
        command=" ".join(planned.command),
        result=planned.result or {},
        starts=tuple(read_starts(planned.folder)) if planned.result else (),
        reason="; ".join(filter(None, (planned.reason, *planned.remarks))),
        embedded=paper.family_of(planned.spec.dataset).embedded,
    )


def harmonic_mean(base: float, new: float) -> float:
    """2ab / (a + b)"""
    return 2 * base * new / (base + new) if base + new else 0.0


# One quantity over seeds ----------------------------------------------------------------------------


class Quantity(ABC):
    """A number per seed: read from one run each, or made from other quantities."""

    @abstractmethod
    def seeds(self) -> set[int]:
        """The seeds that have a number."""

    @abstractmethod
    def mean(self, seeds: Iterable[int]) -> float:
        """Over some of its seeds."""

    @abstractmethod
    def absence(self, seed: int) -> str:
        """Why a seed has no number."""

    @abstractmethod
    def runs(self) -> list[Planned]: ...

    @property
    @abstractmethod
    def settled(self) -> bool:
        """Whether the seed decides nothing."""

    def score(self, seeds: tuple[int, ...]) -> Score:
        found = tuple(seed for seed in seeds if seed in self.seeds())
        reason = _reason({seed: self.absence(seed) for seed in seeds if seed not in found}, bool(found))
        if not found:
            return Score(reason=reason)
        varied = len(found) > 1 and not self.settled
        sd = pstdev(self.mean([seed]) for seed in found) if varied else None
        return Score(self.mean(found), sd, found, reason)

    def help(self) -> tuple[str, ...]:
        """What its runs used beside training images."""
        extras = [extra for run in self.runs() if run.result for extra in run.result.get("extras") or ()]
        return tuple(dict.fromkeys(extras))

    def footnotes(self) -> tuple[str, ...]:
        """What is to be said of its runs' results."""
        return tuple(dict.fromkeys(note for run in self.runs() if run.result for note in run.footnotes))


class Measured(Quantity):
    """Read from one run per seed."""

    def __init__(self, runs: dict[int, Planned | None], read: Callable[[dict], float | None], settled: bool):
        self._runs, self._settled = runs, settled
        results = {seed: run.result for seed, run in runs.items() if run and run.result}
        self.values = {seed: read(result) for seed, result in results.items()}

    def seeds(self) -> set[int]:
        return {seed for seed, value in self.values.items() if value is not None}

    def mean(self, seeds: Iterable[int]) -> float:
        return fmean(self.values[seed] for seed in seeds)

    def absence(self, seed: int) -> str:
        run = self._runs[seed]
        if run is None:
            return NOT_RUN
        return NOT_DEFINED if seed in self.values else REASONS.get(run.state, run.state)

    def runs(self) -> list[Planned]:
        return list(dict.fromkeys(run for run in self._runs.values() if run))

    @property
    def settled(self) -> bool:
        return self._settled


class Combined(Quantity):
    """Made from quantities by a rule, for the seeds that all of them have.

    Its mean is the rule applied to their means: an HM is that of the mean accuracies, as the paper forms it.
    """

    def __init__(self, parts: list[Quantity], rule: Callable[..., float], noun: str = ""):
        self.parts, self.rule, self.noun = parts, rule, noun

    def seeds(self) -> set[int]:
        return set.intersection(*(part.seeds() for part in self.parts))

    def mean(self, seeds: Iterable[int]) -> float:
        return self.rule(*(part.mean(seeds) for part in self.parts))

    def absence(self, seed: int) -> str:
        lacking = [part.absence(seed) for part in self.parts if seed not in part.seeds()]
        causes = ", ".join(dict.fromkeys(lacking))
        some = self.noun and len(lacking) < len(self.parts)
        return f"{len(lacking)} of {len(self.parts)} {self.noun}: {causes}" if some else causes

    def runs(self) -> list[Planned]:
        return list(dict.fromkeys(run for part in self.parts for run in part.runs()))

    @property
    def settled(self) -> bool:
        return all(part.settled for part in self.parts)


def average(parts: list[Quantity]) -> Quantity:
    """Over data sets, all of which must be there."""
    return parts[0] if len(parts) == 1 else Combined(parts, lambda *means: fmean(means), "data sets")


def _reason(absent: dict[int, str], others: bool) -> str:
    """Of the seeds without a number in words; the seeds are named where they differ or others have one."""
    by_reason: dict[str, list[int]] = {}
    for seed, reason in absent.items():
        by_reason.setdefault(reason, []).append(seed)
    if len(by_reason) == 1 and not others:
        return next(iter(by_reason))
    return "; ".join(
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {reason}"
        for reason, seeds in by_reason.items()
    )


def milliseconds_per_image(result: dict) -> float | None:
    """Training time per training image and epoch; None where nothing was trained."""
    seen = (result.get("train_images") or 0) * (result.get("max_epoch") or 0)
    return 1000 * result["seconds_train"] / seen if seen and result.get("seconds_train") else None


def _accuracy(result: dict) -> float | None:
    return result["accuracy"]


def _trained_parameters(result: dict) -> int | None:
    return result["trainable_params"]


READ = {"params": _trained_parameters, "ms": milliseconds_per_image}  # the other metrics are accuracies


# Tables ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What a row, a column or a cell is about; None where it leaves that open."""

    method: Row | None = None
    datasets: tuple[str, ...] | None = None  # one, or those of an average
    shots: int | None = None
    metric: str | None = None

    def within(self, other: "Place") -> "Place":
        """With what ``other`` says in addition."""
        return replace(other, **{key: value for key, value in vars(self).items() if value is not None})


Line = tuple[Head, Place]  # a row or a column


class _Cells:
    """The rows, columns and cells of a table, for one family of data sets."""

    def __init__(self, definition: Definition, selection: Selection, family: Family, outcomes: Outcomes):
        self.definition, self.selection, self.family = definition, selection, family
        self.outcomes = outcomes
        self.whole = definition.all_datasets(family)
        self.datasets = selection.of_datasets(self.whole)
        self.averaged = definition.averaged(family, self.datasets)
        self.complete = self.averaged == definition.averaged(family, self.whole) and not family.guests
        self.methods = definition.methods(selection)
        self.shots = selection.of_shots(definition.shots)
        self.empty = not (self.datasets and self.methods and self.shots)

    def table(self) -> Table:
        definition = self.definition
        rows, columns = (self._lines(definition.layout[side]) for side in ("rows", "columns"))
        rest = Place(datasets=self.averaged, shots=self.shots[0], metric=definition.metrics[0])
        return Table(
            id=definition.id,
            title=definition.title + self.family.remark + self._over(),
            rows=tuple(head for head, _ in rows),
            columns=tuple(head for head, _ in columns),
            cells={
                (r, c): self._cell(row.within(column).within(rest))
                for (r, (_, row)), (c, (_, column)) in product(enumerate(rows), enumerate(columns))
            },
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
        if "data" in axes and self.definition.cost and self.averaged:
            lines += [
                (replace(_metric_head(metric), group="cost"), Place(datasets=self.averaged, metric=metric))
                for metric in COST
            ]
        return lines

    def _axis(self, name: str) -> list[Line]:
        return getattr(self, f"_{name}_axis")()

    def _method_axis(self) -> list[Line]:
        return [
            (Head(row.name, row.group, unit="points" if row.gain else "%"), Place(method=row))
            for row in self.methods
        ]

    def _shots_axis(self) -> list[Line]:
        return [(Head("1 shot" if n == 1 else f"{n} shots"), Place(shots=n)) for n in self.shots]

    def _metric_axis(self) -> list[Line]:
        return [(_metric_head(metric), Place(metric=metric)) for metric in self.definition.metrics]

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
        quantity = self.quantity(place)
        return Cell(
            ours=quantity.score(self.selection.seeds),
            printed=self._printed(place),
            runs=tuple(run.name for run in quantity.runs() if run.result),
            help=quantity.help(),
            footnotes=quantity.footnotes(),
        )

    def quantity(self, place: Place) -> Quantity:
        """What a cell shows, whether it is there or not."""
        if place.method.gain:
            both = replace(place.method, gain=False), place.method.baseline
            parts = [self.quantity(replace(place, method=method)) for method in both]
            return Combined(parts, lambda ours, baseline: ours - baseline)
        if place.metric == "hm":
            parts = [self.quantity(replace(place, metric=metric)) for metric in self.definition.kind.hm]
            return Combined(parts, harmonic_mean)
        return average([self._measured(place, dataset) for dataset in place.datasets])

    def _measured(self, place: Place, dataset: str) -> Measured:
        where = self.selection.paper, self.family, place.method, dataset, place.shots
        specs = {seed: self.definition.spec(*where, seed, place.metric) for seed in self.selection.seeds}
        runs = {seed: self.outcomes.get(spec) for seed, spec in specs.items()}
        return Measured(runs, READ.get(place.metric, _accuracy), place.method.settled)

    def _printed(self, place: Place) -> Printed | None:
        """The printed value; none beside others' data sets and beside averages of fewer."""
        if not self._beside_print or not self.definition.printed:
            return None
        dataset = place.datasets[0]
        if len(place.datasets) > 1:
            if not self.complete:
                return None
            dataset = AVERAGE
        numbers = self.selection.paper.print_of(self.definition.printed)
        return numbers.get(place.method.printed, dataset, place.shots, place.metric)
