"""From definitions and runs to a report."""

from collections.abc import Iterable
from pathlib import Path

from report import results, statistics
from report.definitions import Definition
from report.model import Report
from report.results import Outcomes
from report.selection import Selection


def assemble(what: Iterable, selection: Selection, outcomes: Outcomes, folder: Path) -> Report:
    """Tables with their statistics, and figures, with every run behind them.

    Args: what, definitions of tables and figures; folder of the report, figures are drawn in ``figures/``
    """
    tables, compared, figures = [], [], []
    for definition in what:
        if isinstance(definition, Definition):
            tables += results.tables(definition, selection, outcomes)
            compared += statistics.compare(definition, selection, outcomes)
        else:
            figures += definition.draw(selection, outcomes, folder / "figures")
    return Report(
        title=f"{selection.paper.title}: tables and figures",
        tables=tuple(tables),
        statistics=tuple(compared),
        figures=tuple(figures),
        runs=results.reported_runs(selection.paper, outcomes),
    )
