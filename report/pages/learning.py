"""The learning curve of a run: metrics.jsonl as lines to draw."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from statistics import fmean

from dassl.run_folder import METRICS

MOST_POINTS = 120  # of a line; more steps are averaged
BY_EPOCH = 8  # epochs from which a point is the mean of an epoch
MOST_CURVES = 6
NO_CURVES = {"epoch", "batch"}
WIDTH, HEIGHT = 340, 190  # of a drawing
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 26  # its margins


@dataclass(frozen=True)
class Line:
    """One measure over the steps of training. Steps without a finite number have no part in it."""

    name: str
    steps: tuple[int, ...]  # from 1; of a point that is a mean, its last step
    values: tuple[float, ...]
    skipped: int = 0  # steps whose value is NaN or infinite


@dataclass(frozen=True)
class Drawing:
    """A line in the units of a picture of WIDTH x HEIGHT."""

    line: Line
    path: str  # of an SVG polyline
    dots: tuple[tuple[float, float], ...]  # empty where there are too many
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]

    @property
    def says(self) -> str:
        """What the line shows, in words."""
        values = self.line.values
        return (
            f"{self.line.name}: {shown(values[0])} at first, {shown(values[-1])} at the end, "
            f"lowest {shown(min(values))}, highest {shown(max(values))}"
        )


def read_steps(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl; empty if there is none. Raises: ValueError with file and line for damage"""
    path = Path(folder, METRICS)
    if not path.is_file():
        return []
    steps = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            step = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not valid JSON ({error.msg}); restore or remove the file"
            ) from error
        if not isinstance(step, dict):
            raise ValueError(f"{path}, line {number} is no step: {line[:20]}; restore or remove the file")
        steps.append(step)
    return steps


def curves(steps: Sequence[dict]) -> tuple[list[Line], str]:
    """A line per measure, the learning rate last, and what a point is in words."""
    groups, unit = [[number] for number in range(1, len(steps) + 1)], "step"
    by_epoch = _by_epoch(steps)
    if len(by_epoch) >= BY_EPOCH:
        groups, unit = by_epoch, "epoch"
    size = math.ceil(len(groups) / MOST_POINTS) or 1
    merged = [list(chain(*groups[n : n + size])) for n in range(0, len(groups), size)]
    keys = dict.fromkeys(key for step in steps for key in step)
    names = sorted(keys.keys() - NO_CURVES, key=lambda name: (name == "lr", list(keys).index(name)))
    lines = [line for name in names if (line := _line(name, merged, steps)) is not None]
    each = f"one {unit}" if size == 1 and unit == "step" else f"the mean of {_counted(size, unit)}"
    return lines, f"A point is {each}."


def _counted(number: int, unit: str) -> str:
    return f"one {unit}" if number == 1 else f"{number} {unit}s"


def _by_epoch(steps: Sequence[dict]) -> list[list[int]]:
    """Numbers of the steps, from 1, of each epoch."""
    groups = groupby(enumerate(steps, 1), lambda one: one[1].get("epoch"))
    return [[number for number, _ in group] for _, group in groups]


def _line(name: str, groups: Iterable[list[int]], steps: Sequence[dict]) -> Line | None:
    """The means over groups of steps; None if the measure has no number."""
    points, skipped = [], 0
    for group in groups:
        values = [steps[number - 1].get(name) for number in group]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        finite = [value for value in numbers if math.isfinite(value)]
        skipped += len(numbers) - len(finite)
        if finite:
            points.append((group[-1], fmean(finite)))
    return Line(name, *map(tuple, zip(*points, strict=True)), skipped) if points else None


# Drawing --------------------------------------------------------------------------------------------


def draw(line: Line) -> Drawing:
    """Place a line in a picture."""
    low, high = min(line.values), max(line.values)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    first, last = line.steps[0], line.steps[-1]
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step: int) -> float:
        return round(LEFT + across * ((step - first) / (last - first) if last > first else 0.5), 1)

    def y(value: float) -> float:
        return round(TOP + up * (high - value) / (high - low), 1)

    points = [(x(step), y(value)) for step, value in zip(line.steps, line.values, strict=True)]
    marked = dict.fromkeys((first, (first + last) // 2, last))
    return Drawing(
        line=line,
        path=" ".join(f"{a},{b}" for a, b in points),
        dots=tuple(points) if len(points) <= 30 else (),
        y_ticks=tuple((y(tick), shown(tick)) for tick in ticks),
        x_ticks=tuple((x(step), f"{step:,}") for step in marked),
    )


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within a range, or just around it."""
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]


def shown(value: float) -> str:
    """A number on an axis or in a sentence: four digits."""
    return f"{value:.4g}".replace("-", "−")
