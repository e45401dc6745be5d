"""The tidy list of numbers behind every table, statistic and figure, and the cells made from it.

A line of the list is what one run says of one metric, or why it says nothing. A cell is over seeds, often
over data sets too: :class:`Place` says over which lines.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean, pstdev

from report.definitions import Row
from report.model import Cell, Head, Printed, Score

NOT_RUN, NOT_DEFINED = "not run", "not defined"
NO_METHOD = "no method"  # trainers/ has none of this name
HM_OF = ("base", "new")
METRIC_HEADS = {
    "accuracy": Head("accuracy"),
    "base": Head("base"),
    "new": Head("new"),
    "hm": Head("HM"),
    "params": Head("parameters", unit="params", lower_is_better=True),
    "ms": Head("time per image", unit="ms", lower_is_better=True),
    "mb": Head("memory", unit="MB", lower_is_better=True),
    "seconds": Head("training time", unit="s", lower_is_better=True),
}


def metric_head(metric: str) -> Head:
    """Head of a metric; one that a protocol of yours names is called so."""
    return METRIC_HEADS.get(metric, Head(metric))


def harmonic_mean(base: float, new: float) -> float:
    """2ab / (a + b)"""
    return 2 * base * new / (base + new) if base + new else 0.0


def milliseconds_per_image(result: dict) -> float | None:
    """Training time per training image and epoch; None where nothing was trained, or not in epochs."""
    if result.get("budget_steps"):
        return None
    seen = (result.get("train_images") or 0) * (result.get("max_epoch") or 0)
    return 1000 * result["seconds_train"] / seen if seen and result.get("seconds_train") else None


READ: dict[str, Callable[[dict], float | None]] = {  # the other metrics are accuracies
    "params": lambda result: result.get("trainable_params"),
    "ms": milliseconds_per_image,
    "mb": lambda result: result.get("peak_memory_mb"),
    "seconds": lambda result: result.get("seconds_train"),
}


@dataclass(frozen=True)
class Number:
    """A line of the list."""

    method: Row
    dataset: str
    shots: int
    seed: int
    metric: str  # accuracy, base, new, params, ms, mb, seconds: an HM and a gain are made from lines
    value: float | None = None
    reason: str = ""  # why there is no value
    run: str = ""  # name of the run, where it has a result
    help: tuple[str, ...] = ()  # what that run used beside training images
    footnotes: tuple[str, ...] = ()  # what is to be said of its result

    def read(self, result: dict | None, reason: str, run: str) -> "Number":
        """With what a run says: its result, or for what reason it has none."""
        if result is None:
            return replace(self, reason=reason)
        value = READ.get(self.metric, lambda result: result.get("accuracy"))(result)
        reason = NOT_DEFINED if value is None else ""
        return replace(self, value=value, reason=reason, run=run, help=tuple(result.get("extras") or ()))


@dataclass(frozen=True)
class Place:
    """What a row, a column or a cell is about; None where it leaves that open."""

    method: Row | None = None
    datasets: tuple[str, ...] | None = None  # one, or those of an average
    shots: int | None = None
    metric: str | None = None
    over: Row | None = None  # whose number is subtracted

    def within(self, other: "Place") -> "Place":
        """With what ``other`` says in addition."""
        return replace(other, **{key: value for key, value in vars(self).items() if value is not None})


Line = tuple[Head, Place]  # a row or a column


class Numbers:
    """The list, and what stands in a cell made from it.

    The rule of a cell (average, HM, gain) is applied to means over seeds: an HM is that of the mean
    accuracies, as the paper forms it. The seeds that have every number which a cell needs are in it.
    """

    def __init__(self, lines: Iterable[Number], hm_of: tuple[str, ...] = HM_OF):
        self.hm_of = hm_of  # the metrics of an HM
        self._at = {(line.method, line.metric, line.dataset, line.shots, line.seed): line for line in lines}

    def cell(self, place: Place, seeds: tuple[int, ...], printed: Printed | None = None) -> Cell:
        lines = [line for one in self._series(place, seeds) for line in one]
        runs = dict.fromkeys(line.run for line in lines if line.run)
        extra = dict.fromkeys(word for line in lines for word in line.help)
        footnotes = dict.fromkeys(note for line in lines for note in line.footnotes)
        return Cell(self.score(place, seeds), printed, tuple(runs), tuple(extra), tuple(footnotes))

    def score(self, place: Place, seeds: tuple[int, ...]) -> Score:
        absent = {seed: self._absence(place, seed) for seed in seeds}
        found = tuple(seed for seed in seeds if not absent[seed])
        reason = _in_words({seed: why for seed, why in absent.items() if why}, bool(found))
        if not found:
            return Score(reason=reason)
        varied = len(found) > 1 and not all(method.settled for method in _methods(place))
        sd = pstdev(self.mean(place, [seed]) for seed in found) if varied else None
        return Score(self.mean(place, found), sd, found, reason)

    def mean(self, place: Place, seeds: Iterable[int]) -> float:
        """Over seeds that have all its numbers."""
        if place.over is not None:
            other = replace(place, method=place.over, over=None)
            return self.mean(replace(place, over=None), seeds) - self.mean(other, seeds)
        if place.metric == "hm":
            return harmonic_mean(*(self.mean(replace(place, metric=half), seeds) for half in self.hm_of))
        return fmean(fmean(line.value for line in one) for one in self._series(place, seeds))

    def _series(self, place: Place, seeds: Iterable[int]) -> list[list[Number]]:
        """The lines behind a place over seeds, a list for each method, metric and data set."""
        metrics = self.hm_of if place.metric == "hm" else (place.metric,)
        series = product(_methods(place), metrics, place.datasets)
        return [[self._at[*one, place.shots, seed] for seed in seeds] for one in series]

    def _absence(self, place: Place, seed: int) -> str:
        """Why a seed has no number, "" if it has one. An average says how many of its data sets lack."""
        lines = [line for (line,) in self._series(place, [seed])]
        size, causes = len(place.datasets), []
        for first in range(0, len(lines), size):
            lacking = [line.reason for line in lines[first : first + size] if line.value is None]
            some = f"{len(lacking)} of {size} data sets: " if 0 < len(lacking) < size else ""
            causes += [some + ", ".join(dict.fromkeys(lacking))] if lacking else []
        return ", ".join(dict.fromkeys(causes))


def laid_out(rows: list[Line], columns: list[Line], cell: Callable[[Place], Cell]) -> dict:
    """Rows, columns and cells of a table (model.Table)."""
    return {
        "rows": tuple(head for head, _ in rows),
        "columns": tuple(head for head, _ in columns),
        "cells": {
            (r, c): cell(row.within(column))
            for (r, (_, row)), (c, (_, column)) in product(enumerate(rows), enumerate(columns))
        },
    }


def _methods(place: Place) -> tuple[Row, ...]:
    return (place.method,) if place.over is None else (place.method, place.over)


def _in_words(absent: dict[int, str], others: bool) -> str:
    """Of the seeds without a number why; the seeds are named where they differ or others have one."""
    by_reason: dict[str, list[int]] = {}
    for seed, reason in absent.items():
        by_reason.setdefault(reason, []).append(seed)
    if len(by_reason) == 1 and not others:
        return next(iter(by_reason))
    return "; ".join(
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {reason}"
        for reason, seeds in by_reason.items()
    )
