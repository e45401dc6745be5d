"""The numbers that the paper prints, from paper/printed/: one CSV per table, with what is doubtful in it.

The CSVs hold the print, uncorrected. NOTES.md there says where it contradicts itself; notes.csv says which
cells each of these notes (A1, B4, ...) is about.
"""

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path

from launch.resolve import PROJECT
from report.model import Printed

FOLDER = PROJECT / "paper/printed"
AVERAGE = "average"
UNREADABLE = "?"
METHOD_COLUMNS = ("method", "strategy", "configuration", "id")
SUFFIXES = (
    "K",
    "k",
    "M",
    "ds",
)  # units that are part of a printed number; heads of tables say the others
METRICS = {"train_time_per_image": "ms"}  # names of the CSVs that are others here

Key = tuple[str, str, int | None, str]  # method, data set, shots, metric


class Print:
    """The printed cells of one table."""

    def __init__(self, cells: dict[Key, Printed]):
        self.cells = cells

    def get(self, method: str, dataset: str = AVERAGE, shots: int | None = None, metric: str = "accuracy"):
        """The printed value of a cell (Printed), None if the paper has none.

        A table that does not tell its shots has one number of them.
        """
        found = self.cells.get((method, dataset, shots, metric))
        return found or self.cells.get((method, dataset, None, metric))


@cache
def printed(table: str) -> Print:
    """The print of a CSV (stem, e.g. ``table01``)."""
    remarks = _remarks()[table]
    cells = {}
    for row in _rows(FOLDER / f"{table}.csv"):
        for key, text in _numbers(row):
            cells[key] = Printed(text or UNREADABLE, _note(remarks.get(key, []), row["note"]))
    return Print(cells)


@cache
def dataset_titles() -> dict[str, str]:
    """Names of the data sets (stems) as Table 8 prints them."""
    return {row["dataset"]: row["printed_name"] for row in _rows(FOLDER / "table08.csv")}


def _numbers(row: dict[str, str]):
    """(key, text) of the one or two numbers of a CSV row."""
    method = next(row[column] for column in METHOD_COLUMNS if column in row)
    metric = METRICS.get(row.get("metric"), row.get("metric", "accuracy"))
    place = row.get("dataset", AVERAGE), int(row.get("shots") or 0) or None, metric
    suffix = row["unit"] if row.get("unit") in SUFFIXES else ""
    text = row["accuracy"] if "accuracy" in row else row["value"]
    yield (method + (" +UL" if row.get("update_layernorm") == "1" else ""), *place), text + suffix
    if row.get("printed_gain"):
        yield (f"{method} gain", *place), row["printed_gain"]


def _note(remarks: list[tuple[str, str]], own: str) -> str:
    """ "A1, B2: why", from notes.csv and the CSV's own column."""
    letters = ", ".join(ref for ref, _ in remarks)
    words = "; ".join(filter(None, [*(note for _, note in remarks), own]))
    return ": ".join(filter(None, [letters, words]))


@cache
def _remarks() -> dict[str, dict[Key, list[tuple[str, str]]]]:
    """Table -> cell -> (letter of NOTES.md, note), from notes.csv; a line is about all cells it spans."""
    remarks: dict = defaultdict(lambda: defaultdict(list))
    for row in _rows(FOLDER / "notes.csv"):
        shots = int(row["shots"]) if row["shots"] else None
        for method in row["methods"].split():
            for metric in row["metrics"].split():
                key = method, row["dataset"], shots, metric
                remarks[row["table"]][key].append((row["ref"], row["note"]))
    return remarks


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
