"""The numbers that papers print, from printed/: CSV files, with what is doubtful in them.

A CSV holds the print, uncorrected, a number per line in these columns; all but the first two are optional:

method              or strategy, configuration, id: what a row of the table's definition calls ``printed``
accuracy            or value, with metric: the number; empty: it cannot be read
dataset             stem; without it, the number is an average
shots               without it, the number is that of any shots
metric, unit        as in definitions; a unit that is part of the print (k, M) stands behind the number
printed_gain        a second number, that of the row "<method> gain"
update_layernorm    1: the method's name is followed by " +UL"
note                why the number is doubtful

Other columns, such as the source of each number, are for readers of the file.
Optional notes.csv says which cells each of the paper's notes (A1, B4, ...) is about.
"""

import csv
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from report.model import Printed

AVERAGE = "average"
UNREADABLE = "?"
METHOD_COLUMNS = ("method", "strategy", "configuration", "id")
NUMBER_COLUMNS = ("accuracy", "value")
SUFFIXES = ("K", "k", "M", "ds")  # units that are part of a printed number; heads of tables say the others
NOTE_COLUMNS = ("ref", "table", "dataset", "methods", "shots", "metrics", "note")
METRICS = {"train_time_per_image": "ms"}  # names of the CSVs that are others here

Key = tuple[str, str, int | None, str]  # method, data set, shots, metric


class Print:
    """The printed cells of one table.

    Args: unprinted, what stands where a metric is printed of others and not of a method; "": nothing does
    """

    def __init__(self, cells: dict[Key, Printed], unprinted: str = ""):
        self.cells = cells
        self.unprinted = Printed(unprinted) if unprinted else None

    def get(self, method: str, dataset: str = AVERAGE, shots: int | None = None, metric: str = "accuracy"):
        """The printed value of a cell (Printed), None or `unprinted` if there is none.

        A table that does not tell its shots has one number of them.
        """
        found = self.cells.get((method, dataset, shots, metric))
        return found or self.cells.get((method, dataset, None, metric)) or self._unprinted(metric)

    def _unprinted(self, metric: str) -> Printed | None:
        return self.unprinted if any(metric == other for *_, other in self.cells) else None


@cache
def read_print(folder: Path, table: str) -> Print:
    """The print of a CSV (stem, e.g. ``table01``) in a paper's folder printed/.

    Raises: FileNotFoundError; ValueError for a CSV without a column of methods or of numbers, and for damage,
            with its line
    """
    path = folder / f"{table}.csv"
    remarks = _remarks(folder)[table]
    cells = {}
    for row in _rows(path, [METHOD_COLUMNS, NUMBER_COLUMNS]):
        for key, text in _numbers(row):
            cells[key] = Printed(text or UNREADABLE, _note(remarks.get(key, []), row.get("note") or ""))
    return Print(cells)


def _numbers(row: dict[str, str]):
    """(key, text) of the one or two numbers of a CSV row."""
    method = next(row[column] for column in METHOD_COLUMNS if column in row)
    metric = METRICS.get(row.get("metric"), row.get("metric", "accuracy"))
    place = row.get("dataset") or AVERAGE, _shots(row), metric
    suffix = row["unit"] if row.get("unit") in SUFFIXES else ""
    text = next(row[column] for column in NUMBER_COLUMNS if column in row)
    yield (method + (" +UL" if row.get("update_layernorm") == "1" else ""), *place), text + suffix
    if row.get("printed_gain"):
        yield (f"{method} gain", *place), row["printed_gain"]


def _note(remarks: list[tuple[str, str]], own: str) -> str:
    """ "A1, B2: why", from notes.csv and the CSV's own column."""
    letters = ", ".join(ref for ref, _ in remarks)
    words = "; ".join(filter(None, [*(note for _, note in remarks), own]))
    return ": ".join(filter(None, [letters, words]))


@cache
def _remarks(folder: Path) -> dict[str, dict[Key, list[tuple[str, str]]]]:
    """Table -> cell -> (letter of the note, its text), from notes.csv; a line is about all cells it spans."""
    remarks: dict = defaultdict(lambda: defaultdict(list))
    path = folder / "notes.csv"
    columns = [(column,) for column in NOTE_COLUMNS]
    for row in _rows(path, columns) if path.is_file() else ():
        shots = _shots(row)
        for method in row["methods"].split():
            for metric in row["metrics"].split():
                key = method, row["dataset"], shots, metric
                remarks[row["table"]][key].append((row["ref"], row["note"]))
    return remarks


def _shots(row: dict[str, str]) -> int | None:
    return int(row.get("shots") or 0) or None


def _rows(path: Path, columns: list[tuple[str, ...]]) -> list[dict[str, str]]:
    """The rows of a CSV, each with a value in every column.

    Args:   columns, of each group one must be there
    Raises: ValueError naming the file, and the line of what is damaged
    """
    rows = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file, strict=True)
            for group in columns:
                if not any(column in (lines.fieldnames or ()) for column in group):
                    raise ValueError(f"{path} has no column {' or '.join(group)}")
            for row in lines:
                where = f"{path}, line {lines.line_num}"
                if None in row or None in row.values():
                    raise ValueError(f"{where} has not as many values as the first line has columns")
                if not re.fullmatch(r"\d{0,9}", row.get("shots", "")):
                    raise ValueError(f"{where}: shots is {row['shots']!r}, no number")
                rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV in UTF-8 ({error}); restore the file") from error
    return rows
