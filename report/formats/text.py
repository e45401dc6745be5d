"""The report in a terminal: every table within the width, wide ones in pieces."""

import textwrap
from collections import Counter

from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate

from report.formats.cells import (
    BAND_TEXT,
    DOUBTFUL,
    EMBEDDED,
    MARKS,
    Reading,
    View,
    blocks,
    groups,
    head_text,
    heading,
    p_value,
    ranked,
    read,
    signed,
)
from report.formats.runs import states
from report.model import Figure, Head, Report, ReportedRun, Statistics, Table

BEST = "*"
SUPERSCRIPT = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")
ROW = DataRow("", "  ", "")
PLAIN = TableFormat(
    None, Line("", "-", "  ", ""), None, None, ROW, ROW, 0, None
)  # two blanks between columns


def terminal(shown: Report | Table, width: int = 110) -> str:
    """A report, or one table of it, as plain text.

    Args:    width in characters; a table that is wider is printed in pieces of fewer columns
    Returns: text without a newline at its end
    """
    if isinstance(shown, Table):
        return _table(read(shown), width)
    parts = [_title(shown.title, "=", width)]
    parts += [_table(read(table), width) for table in shown.tables]
    parts += [_statistics(statistics, width) for statistics in shown.statistics]
    parts += [_figures(shown.figures, width)] if shown.figures else []
    parts += [_runs(shown.runs, width)] if shown.runs else []
    return "\n\n\n".join(parts)


def _table(view: View, width: int) -> str:
    title = _title(_labelled(view.heading, view.table.embedded), "-", width)
    about = textwrap.fill(view.about, width)
    return "\n".join([title, about, "", _pieces(view, width), "", *_legend(view, width)])


def _pieces(view: View, width: int) -> str:
    """The table in as few pieces as fit into the width."""
    count = len(view.table.columns)
    for parts in range(1, count + 1):
        pieces = [_grid(view, columns) for columns in blocks(count, parts)]
        if max(len(line) for piece in pieces for line in piece.splitlines()) <= width:
            break
    return "\n\n".join(pieces)


def _grid(view: View, columns: list[int]) -> str:
    """Some columns of a table; each group of rows under a ruler that names it."""
    lines = _heads([view.table.columns[c] for c in columns])
    for _, members in groups(view.table.rows):
        lines += [SEPARATING_LINE, *(line for r in members for line in _row(view, r, columns))]
    grid = _aligned(lines, "l" + "r" * len(columns))
    return _name_rulers(grid, view) if view.grouped else grid


def _heads(columns: list[Head]) -> list[list[str]]:
    """The columns' groups, where there are any, above their labels."""
    lines = [["", *(column.group for column in columns)], ["", *map(head_text, columns)]]
    return lines if any(column.group for column in columns) else lines[1:]


def _row(view: View, r: int, columns: list[int]) -> list[list[str]]:
    """A line of ours, and below it a line of what is printed, where anything is."""
    readings = [view.readings[r, c] for c in columns]
    lines = [[head_text(view.table.rows[r]), *map(_ours, readings)], ["", *map(_printed, readings)]]
    return lines if any(lines[1]) else lines[:1]


def _name_rulers(grid: str, view: View) -> str:
    """Write each group's name into the ruler above it: "DTD ------------"."""
    names = iter([group for group, _ in groups(view.table.rows)])
    lines = grid.splitlines()
    for number, line in enumerate(lines):
        if line and set(line) <= set("- "):
            lines[number] = f"{next(names)} ".lstrip().ljust(len(line), "-")
    return "\n".join(lines)


def _ours(reading: Reading) -> str:
    """ "83.84±0.21*", "not run"."""
    number = f"{reading.mean}±{reading.sd}" if reading.sd else reading.mean
    return (reading.absence or number) + (BEST if reading.best else "") + _raised(reading.notes)


def _printed(reading: Reading) -> str:
    """ "83.72 +0.12≈"."""
    printed = reading.printed + reading.doubt + _raised(reading.printed_notes)
    return f"{printed} {reading.difference}{reading.mark}".strip()


def _raised(notes: tuple[int, ...]) -> str:
    return ",".join(map(str, notes)).translate(SUPERSCRIPT)


def _legend(view: View, width: int) -> list[str]:
    """What the marks say, footnotes, notes on the table; wrapped."""
    notes = [f"{_raised((number,))} {note}" for number, note in enumerate(view.footnotes, 1)]
    lines = [_marks(view), *notes, *view.table.notes]
    return [piece for line in lines for piece in textwrap.wrap(line, width, subsequent_indent="  ")]


def _marks(view: View) -> str:
    """One line on the marks that this table uses."""
    readings = view.readings.values()
    said = {
        "Below ours: printed, difference": view.compared,
        f"{MARKS['agrees']} {BAND_TEXT}, {MARKS['differs']} beyond": any(r.mark for r in readings),
        f"{DOUBTFUL} doubtful print": any(r.doubt for r in readings),
        f"{BEST} best of ours": any(r.best for r in readings),
    }
    return "; ".join(text for text, used in said.items() if used)


def _statistics(statistics: Statistics, width: int) -> str:
    title = _title(_labelled(statistics.title, statistics.embedded), "-", width)
    ranks = [[method, f"{rank:.2f}"] for method, rank in ranked(statistics)]
    parts = [title, _aligned([["", "average rank"], SEPARATING_LINE, *ranks], "lr")]
    if statistics.comparisons:
        parts += ["", *_comparisons(statistics, width)]
    return "\n".join(parts)


def _comparisons(statistics: Statistics, width: int) -> list[str]:
    lines = [["Wilcoxon signed-rank", "data sets", "difference", "p"], SEPARATING_LINE]
    notes = []
    for pair in statistics.comparisons:
        name = f"{pair.first} − {pair.second}"
        difference = signed(pair.mean_difference, "points")
        lines.append([name, pair.datasets, difference, p_value(pair.p_value)])
        notes += textwrap.wrap(f"{name}: {pair.note}", width) if pair.note else []
    return [_aligned(lines, "lrrr"), *notes]


def _figures(figures: tuple[Figure, ...], width: int) -> str:
    titles = [_labelled(heading(figure.id, figure.title), figure.embedded) for figure in figures]
    places = [figure.png or figure.reason for figure in figures]
    return f"{_title('Figures', '-', width)}\n{_aligned(list(zip(titles, places, strict=True)), 'll')}"


def _runs(runs: tuple[ReportedRun, ...], width: int) -> str:
    """How many runs are in which state, and why some are not done."""
    title = _title(f"Runs: {states(runs)}", "-", width)
    reasons = Counter(f"{run.state}: {run.reason}" for run in runs if run.reason)
    counted = [[count, reason] for reason, count in reasons.most_common()]
    return f"{title}\n{_aligned(counted, 'rl')}".rstrip()


def _labelled(title: str, embedded: bool) -> str:
    return f"{title} [{EMBEDDED}]" if embedded else title


def _title(text: str, line: str, width: int) -> str:
    """Underlined; in several lines where it is too long."""
    lines = textwrap.wrap(text, width)
    return "\n".join([*lines, line * max(map(len, lines))])


def _aligned(lines: list, sides: str) -> str:
    """Lines of cells in columns, each with its side, "l" or "r"."""
    align = [{"l": "left", "r": "right"}[side] for side in sides]
    return tabulate(lines, tablefmt=PLAIN, disable_numparse=True, colalign=align) if lines else ""
