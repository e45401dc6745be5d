"""What every figure has: the runs it shows, and when it is drawn again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from dassl.config.identity import digest
from dassl.utils import read_json, write_json
from grid.spec import Spec
from report.model import Figure
from report.paper import Family, Paper
from report.selection import Content, Selection

from .panels import Panel

DRAWN = "drawn.json"  # beside the figures: what each of them was drawn from


@dataclass(frozen=True)
class Sketch:
    """A figure over one family of data sets, ready to be drawn or known to be impossible."""

    embedded: bool
    where: str = ""  # what the title says behind the figure's own
    note: str = ""  # behind the caption
    inputs: object = None  # plain data that decides what the drawing shows
    panels: Callable[[], Sequence[Panel]] | None = None
    reason: str = ""  # why it cannot be drawn
    tag: str = ""  # of the family: model.Figure


class Missing(Exception):
    """What a figure shows is not there; the message says why."""


@dataclass(frozen=True, kw_only=True)
class FigureDefinition(ABC):
    """One figure; the keys of its entry in figures.yaml."""

    id: str
    title: str
    source: str  # where the paper has it
    caption: str

    @abstractmethod
    def specs(self, selection: Selection) -> Iterator[tuple[Spec, frozenset[str]]]:
        """Every run that the selected part of the figure needs, with what it must record."""

    @abstractmethod
    def content(self, paper: Paper) -> Content:
        """What of the paper's data sets, methods and shots the whole figure has."""

    @abstractmethod
    def sketches(self, selection: Selection, outcomes: dict) -> Iterator[Sketch]:
        """What is to be drawn, one sketch per family of data sets that is asked for."""

    def draw(self, selection: Selection, outcomes: dict, folder: Path) -> list[Figure]:
        """Draw what has changed since it was last drawn.

        Args:    outcomes, spec -> planned run (grid.plan.plan); folder of the PNG and PDF files
        Returns: a figure per family of data sets, with a reason where there is nothing to draw
        """
        return [self._drawn(sketch, Path(folder)) for sketch in self.sketches(selection, outcomes)]

    def _drawn(self, sketch: Sketch, folder: Path) -> Figure:
        title = f"{self.title}: {sketch.where}" if sketch.where else self.title
        title += f" ({sketch.tag})" if sketch.tag else ""
        caption = " ".join(filter(None, (self.caption, sketch.note)))
        figure = Figure(self.id, title, caption, sketch.embedded, reason=sketch.reason, tag=sketch.tag)
        if sketch.panels is None:
            return figure
        drawn_title = f"{title} (embedded data)" if sketch.embedded else title
        png, pdf = (folder / f"{figure.key}.{kind}" for kind in ("png", "pdf"))
        made_from = digest(
            {"title": drawn_title, "figure": repr(self), "inputs": sketch.inputs, "code": _code()}
        )
        if not (png.is_file() and pdf.is_file() and _drawn_from(folder).get(figure.key) == made_from):
            from .plots import draw

            try:
                panels = sketch.panels()
            except ValueError as error:  # a damaged record costs no more than its own figure
                return replace(figure, reason=str(error))
            draw(panels, drawn_title, folder / figure.key)
            write_json({**_drawn_from(folder), figure.key: made_from}, folder / DRAWN)
        return replace(figure, png=png, pdf=pdf)


def _drawn_from(folder: Path) -> dict[str, str]:
    """Figure -> digest of what it was drawn from; none if the file is damaged: then it is drawn again."""
    with suppress(OSError, ValueError):
        drawn = read_json(folder / DRAWN)
        return drawn if isinstance(drawn, dict) else {}
    return {}


@cache
def _code() -> str:
    """Digest of this package: another drawing is a reason to draw again."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return digest({path.name: path.read_text(encoding="utf-8") for path in files})


@dataclass(frozen=True, kw_only=True)
class RunFigure(FigureDefinition):
    """A figure of the first selected seed's few-shot runs on one data set.

    datasets   the data set, by family        where   how titles call it
    """

    rows: tuple
    datasets: dict[str, str]
    where: dict[str, str]
    protocol: str = "few_shot"
    shots: int = 4

    def runs(self, family: Family, selection: Selection) -> dict[str, Spec]:
        """The run of each row, by the row's name. Raises: Missing if they are not asked for."""
        if family.name not in self.datasets:
            raise Missing(f"it shows data sets of {' and '.join(self.datasets)}, none of {family.name}")
        dataset = self.datasets[family.name]
        if not selection.of_datasets([dataset]):
            raise Missing(f"it shows {dataset}, which is not selected")
        if not selection.of_shots([self.shots]):
            raise Missing(f"it shows runs of {self.shots} shots, which are not selected")
        if lacking := [row.trainer for row in self.rows if not selection.has_method(row.trainer)]:
            raise Missing(f"it shows {lacking[0]}, which is not selected")
        where = selection.paper, dataset, self.protocol, self.shots, selection.seeds[0]
        return {row.name: row.spec(*where) for row in self.rows}

    def content(self, paper):
        datasets = {family: (stem,) for family, stem in self.datasets.items()}
        return Content(datasets, tuple(row.trainer for row in self.rows), (self.shots,))

    def records(self, row: str) -> frozenset[str]:
        """What the run of a row must record."""
        return frozenset()

    @abstractmethod
    def panels_of(self, family: Family, runs: dict) -> Sequence[Panel]:
        """What is drawn of the finished runs (grid.plan.Planned), by the row's name."""

    def specs(self, selection):
        for family in selection.families:
            try:
                runs = self.runs(family, selection)
            except Missing:
                continue
            yield from ((spec, self.records(row)) for row, spec in runs.items())

    def sketches(self, selection, outcomes):
        for family in selection.families:
            where = self.where.get(family.name, "")
            try:
                runs = self.runs(family, selection)
                planned = {row: outcomes[spec] for row, spec in runs.items()}
                check_done(planned.values())
            except Missing as missing:
                yield Sketch(family.embedded, where, reason=str(missing), tag=family.tag)
                continue
            yield Sketch(
                embedded=family.embedded,
                tag=family.tag,
                where=where,
                note=f"{self.protocol}, {self.shots} shots, seed {selection.seeds[0]}.",
                inputs=fingerprints(planned.values()),
                panels=lambda family=family, planned=planned: self.panels_of(family, planned),
            )


def check_done(planned: Iterable) -> None:
    """Raises: Missing naming the first run that is not done."""
    runs = list(dict.fromkeys(planned))
    lacking = [run for run in runs if run.state != "done"]
    if lacking:
        reason = f": {lacking[0].reason}" if lacking[0].reason else ""
        raise Missing(
            f"runs that are not done: {len(lacking)} of {len(runs)}, such as {lacking[0].name} "
            f"({lacking[0].state}{reason})"
        )


def fingerprints(planned: Iterable) -> dict[str, object]:
    """What tells whether a finished run was done again: its result, down to the seconds it took."""
    return {run.name: run.result for run in dict.fromkeys(planned)}
