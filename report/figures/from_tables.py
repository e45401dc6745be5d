"""Figures of our own that show the numbers of a table."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from report import definitions
from report.model import Table

from .definition import FigureDefinition, Sketch
from .panels import Bars, Curve, LinePlot, Panel, Scatter


@dataclass(frozen=True, kw_only=True)
class TableFigure(FigureDefinition):
    table: str  # id of the table

    @abstractmethod
    def panels_of(self, table: Table) -> Sequence[Panel]:
        """What is drawn of a table; nothing where it has no numbers for it."""

    def specs(self, selection):
        definition = self._definition(selection.paper)
        return ((spec, frozenset(record)) for spec, record in definition.specs(selection))

    def content(self, paper):
        return self._definition(paper).content(paper)

    def sketches(self, selection, outcomes):
        from report import results

        for table in results.tables(self._definition(selection.paper), selection, outcomes):
            panels = self.panels_of(table)
            yield Sketch(
                embedded=table.embedded,
                tag=table.tag,
                inputs=repr(panels),
                panels=(lambda panels=panels: panels) if panels else None,
                reason="" if panels else f"no runs of {self.table} are done that it could show",
            )

    def _definition(self, paper):
        return definitions.load(paper)[self.table]


@dataclass(frozen=True, kw_only=True)
class FewShotCurves(TableFigure):
    """A table with rows (shots; method) and data sets as columns: a panel per data set."""

    def panels_of(self, table):
        panels = (self._panel(table, column) for column in range(len(table.columns)))
        return [panel for panel in panels if panel.curves]

    @staticmethod
    def _panel(table: Table, column: int) -> LinePlot:
        points: dict[str, list[tuple[int, float]]] = {}
        for place, row in enumerate(table.rows):
            if (mean := _mean(table, place, column)) is not None:
                points.setdefault(row.label, []).append((_shots(row.group), mean))
        curves = tuple(Curve(method, *zip(*of_method, strict=True)) for method, of_method in points.items())
        of = f" of {curves[0].label}" if len(curves) == 1 else ""  # a lone curve is in no legend
        shots = tuple(dict.fromkeys(_shots(row.group) for row in table.rows))
        title = table.columns[column].label
        return LinePlot(title, "shots", f"accuracy{of} (%)", curves, xticks=shots, evenly=True)


@dataclass(frozen=True, kw_only=True)
class BaseNewScatter(TableFigure):
    """A table with rows (data set; base, new, HM) and methods as columns: the last of the data sets."""

    def panels_of(self, table):
        where = [row.group for row in table.rows if row.label == "HM"][-1]
        base, new = (dict(_row(table, where, metric)) for metric in ("base", "new"))
        points = {method: (base[method], new[method]) for method in base if method in new}
        panel = Scatter(where, "accuracy on base classes (%)", "accuracy on new classes (%)", points)
        return [panel] if points else []


@dataclass(frozen=True, kw_only=True)
class Gains(TableFigure):
    """A table as above: the harmonic mean of a method minus that of another, by data set."""

    method: str  # name of its row
    baseline: str

    def panels_of(self, table):
        gains = {}
        for dataset in dict.fromkeys(row.group for row in table.rows):
            means = dict(_row(table, dataset, "HM"))
            if self.method in means and self.baseline in means:
                gains[dataset] = means[self.method] - means[self.baseline]
        means = tuple(name for name in gains if name.startswith("average"))
        ordered = dict(sorted(gains.items(), key=lambda item: (item[0] in means, -item[1])))
        panel = Bars("", "points of harmonic mean", ordered, means)
        return [panel] if gains else []


def _row(table: Table, group: str, label: str) -> Iterator[tuple[str, float]]:
    """Method and number of every filled cell in the row of a data set and a metric."""
    for place, row in enumerate(table.rows):
        if (row.group, row.label) == (group, label):
            for column, head in enumerate(table.columns):
                if (mean := _mean(table, place, column)) is not None:
                    yield head.label, mean


def _mean(table: Table, row: int, column: int) -> float | None:
    cell = table.cells.get((row, column))
    return cell.ours.mean if cell else None


def _shots(group: str) -> int:
    """ "16 shots" -> 16"""
    return int(group.split()[0])
