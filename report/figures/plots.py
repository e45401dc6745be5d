"""Panels -> PNG and PDF. The only module that imports matplotlib; nothing of it is global."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dassl.utils import atomic_write
from report.numbers import harmonic_mean

from . import style
from .panels import Bars, Cloud, LinePlot, Panel, Scatter

MOST_COLUMNS = 4
TITLE, LEGEND_ROW = 0.25, 0.2  # heights of a line in inches
LEGEND_SIGN, LETTER, TITLE_LETTER = 0.55, 0.062, 0.086  # widths in inches


def draw(panels: Sequence[Panel], title: str, path: Path) -> tuple[Path, Path]:
    """Draw panels side by side under a common title.

    Args:    path without suffix
    Returns: the PNG and the PDF file
    """
    with matplotlib.rc_context(style.RC):
        figure = compose(panels, title)
        FigureCanvasAgg(figure)
        files = tuple(path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf"))
        for file in files:
            kind = file.suffix[1:]
            with atomic_write(file, "wb") as content:
                figure.savefig(content, format=kind, metadata=style.METADATA[kind])
    return files


@matplotlib.rc_context(style.RC)
def compose(panels: Sequence[Panel], title: str) -> Figure:
    """The figure of matplotlib; a label has the same look in all panels."""
    columns = min(len(panels), MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    width, height = _panel_size(panels)
    below = _labels_below(panels)
    per_row = _legend_columns(below, width * columns)
    legend = LEGEND_ROW * math.ceil(len(below) / per_row)

    lines = textwrap.wrap(title, int(width * columns / TITLE_LETTER))
    heights = height * rows + TITLE * len(lines) + legend
    figure = Figure(figsize=(width * columns, heights), layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=9.5, fontweight="bold")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    looks = _looks(panels)
    for panel, axis in zip(panels, axes, strict=False):
        axis.set_title(panel.title)
        DRAWING[type(panel)](axis, panel, looks)
        if not below and len(_labels([panel])) > 1:
            axis.legend()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if below:
        signs = {label: sign for axis in axes for sign, label in _signs(axis)}
        figure.legend(handles=[signs[label] for label in below], loc="outside lower center", ncols=per_row)
    return figure


def _panel_size(panels: Sequence[Panel]) -> tuple[float, float]:
    width, height = style.PANEL_SIZE if len(panels) < MOST_COLUMNS else style.SMALL_PANEL_SIZE
    if all(isinstance(panel, Cloud) for panel in panels):
        height = width
    bars = max((len(panel.values) for panel in panels if isinstance(panel, Bars)), default=0)
    return width, max(height, 0.6 + 0.2 * bars)


def _looks(panels: Sequence[Panel]) -> dict[str, dict]:
    """Label -> colour, marker and dashes; what stands alone looks like the first of several."""
    looks = {label: style.series(index) for index, label in enumerate(_labels(panels))}
    return defaultdict(lambda: style.series(0), looks)


def _labels(panels: Sequence[Panel]) -> list[str]:
    """What must be told apart, each once: a curve that is alone in its panel need not be."""
    names: list[str] = []
    for panel in panels:
        if isinstance(panel, LinePlot) and len(panel.curves) > 1:
            names += [curve.label for curve in panel.curves]
        if isinstance(panel, Cloud):
            names += panel.classes
        if isinstance(panel, Scatter):
            names += panel.points
    return list(dict.fromkeys(names))


def _labels_below(panels: Sequence[Panel]) -> list[str]:
    """Labels of a common legend; empty where each panel has its own, or needs none."""
    labels = _labels(panels)
    alike = len(panels) > 1 and all(_labels([panel]) == labels for panel in panels)
    crowded = len(panels) >= MOST_COLUMNS or any(isinstance(panel, Scatter) for panel in panels)
    return labels if alike or crowded else []


def _legend_columns(labels: Sequence[str], width: float) -> int:
    longest = LEGEND_SIGN + LETTER * max(map(len, labels), default=0)
    return max(1, min(len(labels), int(width / longest)))


def _signs(axis: Axes) -> Iterator[tuple]:
    """Sign and label of everything that a legend of the axis would show."""
    return zip(*axis.get_legend_handles_labels(), strict=True)


# Panels -------------------------------------------------------------------------------------------------


def _curves(axis: Axes, panel: LinePlot, looks: dict[str, dict]) -> None:
    for curve in panel.curves:
        look = looks[curve.label] | ({} if panel.markers else {"marker": None})
        x = [panel.xticks.index(value) for value in curve.x] if panel.evenly else curve.x
        axis.plot(
            x, curve.y, label=curve.label, markerfacecolor="none", **look
        )  # hollow: others show through
        if any(curve.sd):
            low, high = ([y + sign * sd for y, sd in zip(curve.y, curve.sd, strict=True)] for sign in (-1, 1))
            axis.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    axis.grid(axis="y")
    if panel.evenly:
        axis.set_xticks(range(len(panel.xticks)), [f"{value:g}" for value in panel.xticks])
    elif panel.xticks:
        axis.set_xticks(panel.xticks)
    if panel.from_zero:
        axis.set_ylim(bottom=0)
    bottom, top = axis.get_ylim()
    if (more := panel.least_span - (top - bottom)) > 0:
        axis.set_ylim(bottom - more / 2, top + more / 2)


def _cloud(axis: Axes, panel: Cloud, looks: dict[str, dict]) -> None:
    for label, name in enumerate(panel.classes):
        chosen = [point for point, of in zip(panel.points, panel.labels, strict=True) if of == label]
        look = looks[name]
        x, y = zip(*chosen, strict=True) if chosen else ((), ())
        # A second round through the colours has hollow marks.
        face = look["color"] if label < len(style.COLORS) else "none"
        axis.scatter(
            x,
            y,
            s=9,
            marker=look["marker"],
            facecolors=face,
            edgecolors=look["color"],
            linewidths=0.6,
            label=name,
        )
    axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_color(style.GRID)


def _scatter(axis: Axes, panel: Scatter, looks: dict[str, dict]) -> None:
    for name, (x, y) in panel.points.items():
        look = looks[name]
        axis.plot(
            [x], [y], linestyle="none", marker=look["marker"], color=look["color"], markersize=6, label=name
        )
    axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    axis.margins(0.12)
    _harmonic_means(axis)


def _harmonic_means(axis: Axes) -> None:
    """Grey curves on which the harmonic mean of x and y is constant."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    lowest, highest = harmonic_mean(left, bottom), harmonic_mean(right, top)
    step = next(step for step in (0.5, 1, 2, 5, 10, 20) if (highest - lowest) / step <= 8)
    for level in range(math.ceil(lowest / step), math.floor(highest / step) + 1):
        mean = level * step
        x = [left + (right - left) * i / 100 for i in range(101)]
        curve = [(x, mean * x / (2 * x - mean)) for x in x if 2 * x > mean]
        curve = [(x, y) for x, y in curve if bottom <= y <= top]
        if len(curve) > 1:
            axis.plot(*zip(*curve, strict=True), color=style.GRID, linewidth=0.8, zorder=0)
        if curve and curve[-1][0] > left + (right - left) / 5:  # a name further left would leave the panel
            axis.annotate(f"HM {mean:g}", curve[-1], fontsize=6, color=style.GREY, ha="right", va="bottom")
    axis.set(xlim=(left, right), ylim=(bottom, top))


def _bars(axis: Axes, panel: Bars, looks: dict[str, dict]) -> None:
    names, values = list(panel.values), list(panel.values.values())
    colors = [style.GREY if name in panel.means else style.COLORS[0] for name in names]
    bars = axis.barh(range(len(names)), values, color=colors, height=0.65)
    axis.bar_label(bars, [f"{value:+.2f}" for value in values], padding=3, fontsize=7)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.7)
    axis.margins(x=0.2)
    axis.set_xlabel(panel.xlabel)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


DRAWING = {LinePlot: _curves, Cloud: _cloud, Scatter: _scatter, Bars: _bars}
