"""How a table reads: numbers, marks, footnotes. Every format of the report takes its words from here.

A cell reads as ours, "83.84 ± 0.21", the printed value, "83.72", and the difference, "+0.12". Marks:

≈  the difference lies in the band |ours - printed| <= max(0.5, 2 sd)
≠  it does not
!  the printed value is doubtful; a footnote says why
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from report.model import BAND, Cell, Head, Score, Statistics, Table

MARKS = {"agrees": "≈", "differs": "≠", "": ""}
DOUBTFUL = "!"
EMPTY = "–"
EMBEDDED = "embedded data"
BAND_TEXT = f"|ours − printed| ≤ max({BAND:g}, 2 sd)"

DECIMALS = {"%": 2, "points": 2, "ms": 2, "s": 1, "MB": 0, "params": 0, "count": 0}
COUNTS = ("params", "count")
WORDS = "words"  # the unit of columns without numbers
JUDGED = ("%", "points")  # the band is defined in points: it says nothing about times and counts
SHORT = 13  # letters; a longer reason moves from its cell to a footnote


@dataclass(frozen=True)
class Reading:
    """A cell in words: what each format lays out in its own way."""

    cell: Cell
    mean: str = ""  # "83.84", "46,080", or the words of the cell: "50 epochs"
    sd: str = ""  # "0.21"; empty for a single seed and for counts that are equal over seeds
    printed: str = ""  # "83.72"
    difference: str = ""  # "+0.12", "−0.30"
    verdict: str = ""  # "agrees", "differs"; empty where there is nothing to judge
    reason: str = ""  # why our number, or a seed of it, is missing
    absence: str = ""  # stands where the mean would: a short reason, or "–" with a footnote
    best: bool = False
    notes: tuple[int, ...] = ()  # footnotes on our number or on its absence
    printed_notes: tuple[int, ...] = ()  # footnotes on the printed value: it is doubtful

    @property
    def mark(self) -> str:
        return MARKS[self.verdict]

    @property
    def doubt(self) -> str:
        return DOUBTFUL if self.printed_notes else ""


@dataclass(frozen=True)
class View:
    """A table ready to be laid out."""

    table: Table
    readings: dict[tuple[int, int], Reading]  # one for every row and column
    footnotes: tuple[str, ...]  # numbered from 1

    @property
    def key(self) -> str:
        return self.table.key

    @property
    def heading(self) -> str:
        return heading(self.table.id, self.table.title)

    @property
    def about(self) -> str:
        """Where the paper has this table and how our numbers are made, in sentences."""
        source = self.table.source
        elsewhere = self.table.embedded or self.table.tag  # on other data sets than the paper's
        parts = [f"After {source}" if source and elsewhere else source, self.seeds]
        return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)

    @property
    def seeds(self) -> str:
        seeds = self.table.seeds
        if len(seeds) > 1:
            return f"mean ± standard deviation over seeds {_listed(seeds)}"
        return f"seed {seeds[0]}" if seeds else ""

    @property
    def compared(self) -> bool:
        """Whether anything is printed for this table; embedded data have no print."""
        return any(reading.printed for reading in self.readings.values())

    @property
    def grouped(self) -> bool:
        return any(row.group for row in self.table.rows)

    def row(self, index: int) -> list[Reading]:
        return [self.readings[index, column] for column in range(len(self.table.columns))]


@dataclass(frozen=True)
class Tally:
    """How far a table is filled, and how often it meets the print."""

    cells: int
    filled: int  # with a number of ours
    judged: int  # with a verdict
    agreeing: int


def read(table: Table) -> View:
    """Put a table into words."""
    footnotes: dict[str, int] = {}

    def number_of(note: str) -> int:
        return footnotes.setdefault(note, len(footnotes) + 1)

    best = best_cells(table)
    readings = {}
    for r, row in enumerate(table.rows):
        for c, column in enumerate(table.columns):
            cell = table.cells.get((r, c), Cell(Score(reason="not defined")))
            readings[r, c] = _reading(cell, cell_unit(row, column), (r, c) in best, table.seeds, number_of)
    return View(table, readings, tuple(footnotes))


def _reading(cell: Cell, unit: str, best: bool, seeds: tuple[int, ...], number_of) -> Reading:
    ours, printed = cell.ours, cell.printed
    if cell.words:
        return Reading(cell, mean=cell.words, notes=tuple(sorted(map(number_of, cell.footnotes))))
    absent = ours.mean is None
    reason = ours.reason or ("no number" if absent else "")
    notes = []
    if absent and len(reason) > SHORT:
        notes.append(reason)
    if not absent and (ours.reason or (ours.seeds and set(ours.seeds) != set(seeds))):
        notes.append(_partial(ours, seeds))
    if not absent and cell.help:
        notes.append(f"used beside the training images: {', '.join(cell.help)}")
    if not absent:
        notes += cell.footnotes
    spread = "" if absent or ours.sd is None else number(ours.sd, unit)
    return Reading(
        cell,
        mean="" if absent else number(ours.mean, unit),
        sd="" if unit in COUNTS and not ours.sd else spread,
        printed="" if printed is None else _printed(printed.text, unit),
        difference="" if cell.difference is None else signed(cell.difference, unit),
        verdict=_verdict(cell, unit),
        reason=reason,
        absence="" if not absent else reason if len(reason) <= SHORT else EMPTY,
        best=best,
        notes=tuple(sorted(number_of(note) for note in notes)),
        printed_notes=(number_of(f"print: {printed.note}"),) if printed and printed.note else (),
    )


def _partial(ours: Score, seeds: tuple[int, ...]) -> str:
    found = f"{len(ours.seeds)} of {len(seeds)} seeds ({_listed(ours.seeds)})"
    return f"{found}: {ours.reason}" if ours.reason else found


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def _verdict(cell: Cell, unit: str) -> str:
    if unit not in JUDGED or cell.agrees is None:
        return ""
    return "agrees" if cell.agrees else "differs"


def best_cells(table: Table) -> set[tuple[int, int]]:
    """The cells in bold: best of ours among those that compete; equal ones, as displayed, are all best."""
    best = set()
    for contest in _contests(table):
        scores = {place: _as_displayed(table, place) for place in contest}
        scores = {place: score for place, score in scores.items() if score is not None}
        if len(scores) > 1:
            top = max(scores.values())
            best |= {place for place, score in scores.items() if score == top}
    return best


def _contests(table: Table) -> list[list[tuple[int, int]]]:
    rows, columns = range(len(table.rows)), range(len(table.columns))
    if table.best_among == "columns":
        return [[(r, c) for c in columns] for r in rows]
    if table.best_among == "rows":
        return [[(r, c) for r in members] for _, members in groups(table.rows) for c in columns]
    return []


def _as_displayed(table: Table, place: tuple[int, int]) -> float | None:
    """Our mean, rounded as shown and signed so that more is better."""
    cell = table.cells.get(place)
    if cell is None or cell.ours.mean is None:
        return None
    row, column = table.rows[place[0]], table.columns[place[1]]
    shown = _rounded(cell.ours.mean, cell_unit(row, column))
    return -shown if row.lower_is_better or column.lower_is_better else shown


def groups(heads: Iterable[Head]) -> list[tuple[str, list[int]]]:
    """Neighbours of one group with their indices, in order."""
    numbered = groupby(enumerate(heads), key=lambda item: item[1].group)
    return [(group, [index for index, _ in members]) for group, members in numbered]


def blocks(count: int, parts: int) -> list[list[int]]:
    """The indices 0 .. count - 1 in ``parts`` runs of nearly equal length: a wide table in pieces."""
    edges = [round(part * count / parts) for part in range(parts + 1)]
    return [list(range(first, last)) for first, last in zip(edges, edges[1:], strict=False)]


def cell_unit(row: Head, column: Head) -> str:
    """The unit of a cell: its column's, unless that is plain percent and the row knows better."""
    return row.unit if column.unit == "%" else column.unit


def head_text(head: Head) -> str:
    """A head with its unit where that is neither percent nor plain from the number."""
    return head.label if head.unit in ("", "%", WORDS, *COUNTS) else f"{head.label} ({head.unit})"


def heading(id: str, title: str) -> str:
    """ "Table 3: Distribution shift" from "table3"; an id of another form adds nothing to the title."""
    name = short_name(id, title)
    return title if title.startswith(name) else f"{name}: {title}"


def short_name(id: str, title: str) -> str:
    """ "Table 3" from "table3" and "table03"; otherwise the title up to its first comma or colon."""
    match = re.fullmatch(r"(table|figure)[-_ ]?0*(\d+)([a-z]?)", id)
    return f"{match[1].capitalize()} {match[2]}{match[3]}" if match else re.split("[,:]", title)[0]


def tally(view: View) -> Tally:
    readings = view.readings.values()
    return Tally(
        cells=len(readings),
        filled=sum(bool(reading.mean) for reading in readings),
        judged=sum(bool(reading.verdict) for reading in readings),
        agreeing=sum(reading.verdict == "agrees" for reading in readings),
    )


def ranked(statistics: Statistics) -> list[tuple[str, float]]:
    """Methods with their average rank, best first."""
    return sorted(statistics.average_rank.items(), key=lambda item: item[1])


def number(value: float, unit: str = "%") -> str:
    return f"{_rounded(value, unit):,.{DECIMALS.get(unit, 2)}f}".replace("-", "−")


def number_or_empty(value: float | None, unit: str) -> str:
    return "" if value is None else number(value, unit)


def signed(value: float, unit: str = "%") -> str:
    """With its sign; a difference that rounds to nothing is +0.00."""
    return ("+" if _rounded(value, unit) >= 0 else "") + number(value, unit)


def _rounded(value: float, unit: str) -> float:
    """As shown; what rounds to nothing has no sign."""
    return round(value, DECIMALS.get(unit, 2)) + 0.0


def p_value(value: float | None) -> str:
    if value is None:
        return EMPTY
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _printed(text: str, unit: str) -> str:
    """As printed: "83.72", "44k", "?"; long counts in groups of three digits."""
    return number(float(text), unit) if unit in COUNTS and text.isdecimal() else text
