"""The report as one HTML page: styles, script and figures inside, nothing loaded from anywhere."""

import base64
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from report.formats import cells, runs
from report.model import Figure, Report
from report.pages import render


@dataclass(frozen=True)
class Picture:
    """A figure with its image as a data URI."""

    figure: Figure
    image: str  # empty where there is none

    @property
    def key(self) -> str:
        return self.figure.key


def html(report: Report) -> str:
    """The page as text.

    Raises: FileNotFoundError if a figure's image is not there
    """
    rows, environments = runs.run_rows(report.runs)
    return render(
        "of_report.html",
        report=report,
        views=[cells.read(table) for table in report.tables],
        pictures=[Picture(figure, _data_uri(figure.png)) for figure in report.figures],
        runs=rows,
        environments=environments,
        any_embedded=any(part.embedded for part in (*report.tables, *report.figures, *report.statistics)),
        cells=cells,
        facts=runs.facts,
        states=runs.states,
        slash=Markup("/<wbr>"),
    )


def _data_uri(png: Path | None) -> str:
    if png is None:
        return ""
    return f"data:image/png;base64,{base64.b64encode(Path(png).read_bytes()).decode('ascii')}"
