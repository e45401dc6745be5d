"""What is drawn, as plain data: the numbers of a figure can be checked without looking at it."""

from collections.abc import Sequence
from dataclasses import dataclass

Numbers = Sequence[float]


@dataclass(frozen=True)
class Curve:
    """A line through points, with the standard deviation of its points where several seeds went in."""

    label: str
    x: Numbers
    y: Numbers
    sd: Numbers = ()


@dataclass(frozen=True)
class LinePlot:
    """Curves over a common axis."""

    title: str
    xlabel: str
    ylabel: str
    curves: tuple[Curve, ...]
    xticks: Numbers = ()  # where the axis is marked; empty: the drawing decides
    evenly: bool = False  # the marks stand at equal distances, whatever their values
    markers: bool = True  # a mark at every point
    from_zero: bool = False  # the vertical axis starts at zero
    least_span: float = 0.0  # the vertical axis shows at least so much, lest noise look like a trend


@dataclass(frozen=True)
class Cloud:
    """Points of several classes in two dimensions whose scale means nothing."""

    title: str
    points: Sequence[Numbers]  # (N, 2)
    labels: Sequence[int]  # (N,)
    classes: tuple[str, ...]  # names of the labels


@dataclass(frozen=True)
class Scatter:
    """One named point per method, base-class accuracy against new-class accuracy."""

    title: str
    xlabel: str
    ylabel: str
    points: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Bars:
    """One horizontal bar per name, from the first at the top."""

    title: str
    xlabel: str
    values: dict[str, float]
    means: tuple[str, ...] = ()  # names of bars that sum up others


Panel = LinePlot | Cloud | Scatter | Bars
