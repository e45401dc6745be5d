"""The report as Markdown, with GitHub's tables: for a README, a pull request, a note."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from report.formats.cells import (
    BAND_TEXT,
    DOUBTFUL,
    EMBEDDED,
    MARKS,
    Reading,
    View,
    head_text,
    heading,
    number_or_empty,
    p_value,
    ranked,
    read,
    short_name,
    signed,
)
from report.formats.runs import RunRow, facts, run_rows, states
from report.model import Figure, Head, Report, Statistics

RUN_HEADS = [
    "run",
    "state",
    "accuracy",
    "parameters",
    "ms per image",
    "memory (MB)",
    "precision",
    "backbone",
    "help",
]
EMBEDDED_LABEL = f"**[{EMBEDDED}]**"
LEGEND = (
    "Ours is the mean ± population standard deviation over seeds; below it stand the printed value and the "
    f"difference, ours − printed. {MARKS['agrees']} marks a difference in the band {BAND_TEXT}, "
    f"{MARKS['differs']} one beyond it, {DOUBTFUL} a doubtful print. "
    "Bold is the best of ours. Cells without a number of ours say why."
)


def markdown(report: Report, folder: Path) -> str:
    """A report as Markdown; figures are linked relative to ``folder``, where the text will lie."""
    parts = [f"# {_escape(report.title)}", LEGEND]
    parts += [_table(read(table)) for table in report.tables]
    parts += [_statistics(statistics) for statistics in report.statistics]
    parts += [_figure(figure, folder) for figure in report.figures]
    parts += _runs(report) if report.runs else []
    return "\n\n".join(parts) + "\n"


def _table(view: View) -> str:
    heads = [*([""] if view.grouped else []), "", *map(_column_head, view.table.columns)]
    parts = [
        f"## {_escape(view.heading)}",
        _labelled(_escape(view.about), view.table.embedded),
        _pipes(heads, _lines(view), words=1 + view.grouped),
        "\n".join(f"{_raised((n,))} {_escape(note)}  " for n, note in enumerate(view.footnotes, 1)),
        "\n".join(f"- {_escape(note)}" for note in view.table.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def _lines(view: View) -> list[list[str]]:
    lines, previous = [], None
    for r, row in enumerate(view.table.rows):
        group = [_escape(row.group) if row.group != previous else ""] if view.grouped else []
        lines.append([*group, _escape(head_text(row)), *map(_cell, view.row(r))])
        previous = row.group
    return lines


def _column_head(head: Head) -> str:
    return "<br>".join(_escape(part) for part in (head.group, head_text(head)) if part)


def _cell(reading: Reading) -> str:
    """ "**83.84** ± 0.21<br>83.72 +0.12 ≈"."""
    shown = _escape(reading.mean)
    mean = f"**{shown}**" if reading.best else shown
    ours = (_escape(reading.absence) or mean) + (f" ± {reading.sd}" if reading.sd else "")
    printed = f"{reading.printed}{reading.doubt}{_raised(reading.printed_notes)}"
    below = " ".join(part for part in (printed, reading.difference, reading.mark) if part)
    return "<br>".join(part for part in (ours + _raised(reading.notes), below) if part)


def _statistics(statistics: Statistics) -> str:
    ranks = [[_escape(method), f"{rank:.2f}"] for method, rank in ranked(statistics)]
    pairs = [
        [
            f"{_escape(pair.first)} − {_escape(pair.second)}",
            str(pair.datasets),
            signed(pair.mean_difference, "points"),
            p_value(pair.p_value),
            _escape(pair.note),
        ]
        for pair in statistics.comparisons
    ]
    parts = [
        f"## Statistics: {_escape(statistics.title)}",
        _labelled(f"Of {short_name(statistics.table, 'this table')}.", statistics.embedded),
        _pipes(["method", "average rank"], ranks),
    ]
    if pairs:
        heads = ["Wilcoxon signed-rank", "data sets", "mean difference", "p (two-sided)", "note"]
        parts.append(_pipes(heads, pairs))
    return "\n\n".join(parts)


def _figure(figure: Figure, folder: Path) -> str:
    title = _escape(heading(figure.id, figure.title))
    if figure.png:
        shown = f"![{title}]({Path(os.path.relpath(figure.png, folder)).as_posix()})"
    else:
        shown = f"*No figure: {_escape(figure.reason)}*"
    return "\n\n".join([f"## {title}", shown, _labelled(_escape(figure.caption), figure.embedded)])


def _runs(report: Report) -> list[str]:
    rows, environments = run_rows(report.runs)
    described = [[f"E{n}", *map(_escape, facts(env).values())] for n, env in enumerate(environments, 1)]
    parts = [f"## Runs: {states(report.runs)}", _pipes([*RUN_HEADS, "environment"], map(_run, rows))]
    if described:
        parts += ["### Environments", _pipes(["", *facts({})], described)]
    return parts


def _run(row: RunRow) -> list[str]:
    name = f"`{row.run.name}`" + (f" {EMBEDDED_LABEL}" if row.run.embedded else "")
    reason = f": {row.run.reason}" if row.run.reason else ""
    return [
        name,
        _escape(row.run.state + reason),
        number_or_empty(row.accuracy, "%"),
        number_or_empty(row.params, "params"),
        number_or_empty(row.ms_per_image, "ms"),
        number_or_empty(row.memory_mb, "MB"),
        _escape(row.precision),
        _escape(row.backbone),
        _escape(", ".join(row.help)),
        ", ".join(f"E{number}" for number in row.environments),
    ]


def _labelled(text: str, embedded: bool) -> str:
    return f"{EMBEDDED_LABEL} {text}".strip() if embedded else text


def _pipes(heads: list[str], lines: Iterable[list[str]], words: int = 1) -> str:
    """A table of GitHub's Markdown, the first ``words`` columns to the left, the others to the right."""
    sides = [":--"] * words + ["--:"] * (len(heads) - words)
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, sides, *lines])


def _raised(notes: tuple[int, ...]) -> str:
    return f"<sup>{','.join(map(str, notes))}</sup>" if notes else ""


def _escape(text: str) -> str:
    """Words as they are: no character of theirs marks up anything, none ends a cell."""
    return re.sub(r"([\\`*_|\[\]<>~])", r"\\\1", " ".join(text.split()))
