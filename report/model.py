"""What a report is made of: tables of cells, figures, comparisons, runs. Plain data, no files, no drawing.

Definitions and results make these (definitions.py, results.py); report/formats/ shows them in five formats.
"""

from dataclasses import dataclass, field
from pathlib import Path

BAND = 0.5  # points; a cell agrees with the print if they differ by no more than max(BAND, 2 sd)
THOUSANDS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6}


@dataclass(frozen=True)
class Printed:
    """A number as the paper prints it."""

    text: str  # with the printed decimals and suffix: "73.60", "44k", "0.17M"; "?" where it cannot be read
    note: str = ""  # why it is doubtful, from the notes on the print

    @property
    def value(self) -> float | None:
        """The number, None where the print cannot be read."""
        digits = self.text.rstrip("kKM")
        try:
            return float(digits) * THOUSANDS[self.text[len(digits) :]]
        except (ValueError, KeyError):
            return None


@dataclass(frozen=True)
class Score:
    """Our number over seeds, or why there is none."""

    mean: float | None = None
    sd: float | None = None  # population standard deviation over seeds; None for a single seed
    seeds: tuple[int, ...] = ()  # the seeds that are in it
    reason: str = ""  # why seeds are missing: "not run", "data missing", "failed", "not defined", ...


@dataclass(frozen=True)
class Cell:
    ours: Score = Score()
    printed: Printed | None = None
    runs: tuple[str, ...] = ()  # names of the runs it was made from
    help: tuple[str, ...] = ()  # what these runs used beside training images: "val search", ...
    footnotes: tuple[str, ...] = ()  # on these runs: "finished, inputs not recorded", ...
    words: str = ""  # in place of a number: "50 epochs", "per-class"

    @property
    def difference(self) -> float | None:
        """Ours minus printed, in the cell's unit."""
        if self.printed is None or self.printed.value is None or self.ours.mean is None:
            return None
        return self.ours.mean - self.printed.value

    @property
    def agrees(self) -> bool | None:
        """Whether ours lies in the band around the print; None where one of them is missing."""
        if self.difference is None:
            return None
        return abs(self.difference) <= max(BAND, 2 * (self.ours.sd or 0.0))


@dataclass(frozen=True)
class Head:
    """Head of a row or a column. Neighbours with the same group stand under one common head."""

    label: str  # "CLIPFit", "DTD", "HM"
    group: str = ""  # "DTD", "16 shots"; empty: none
    unit: str = "%"
    lower_is_better: bool = False


@dataclass(frozen=True)
class Table:
    """Cells by (row, column). Numbers on embedded data never share a table with a paper's data set."""

    id: str  # "table1"
    title: str
    rows: tuple[Head, ...]
    columns: tuple[Head, ...]
    cells: dict[tuple[int, int], Cell]
    embedded: bool = False
    seeds: tuple[int, ...] = ()
    best_among: str = ""  # methods compete among the "columns" of a row or the "rows" of a group in a column
    notes: tuple[str, ...] = ()  # shown below: inconsistencies of the print, choices of ours
    source: str = ""  # where the paper prints it, "Table 1, section 4.2"
    tag: str = ""  # the family of its data sets, where it is neither the paper's nor the embedded one

    @property
    def key(self) -> str:
        """Name of its files and anchor, which tables of one id over several families do not share."""
        return key_of(self)


@dataclass(frozen=True)
class Comparison:
    """Wilcoxon signed-rank test of two methods over data sets."""

    first: str
    second: str
    datasets: int
    mean_difference: float  # first minus second, points
    p_value: float | None  # two-sided; None where the test says nothing
    note: str = ""  # "too few data sets: 3, at least 6 are needed"


@dataclass(frozen=True)
class Statistics:
    """Methods compared over the data sets of one table, by one metric."""

    table: str
    title: str
    average_rank: dict[str, float]  # method -> mean rank over data sets, 1 is best, ties share
    comparisons: tuple[Comparison, ...]
    embedded: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawn figure, or why there is none."""

    id: str  # "figure3"
    title: str
    caption: str
    embedded: bool = False
    png: Path | None = None
    pdf: Path | None = None
    reason: str = ""
    tag: str = ""  # as that of a table

    @property
    def key(self) -> str:
        return key_of(self)


@dataclass(frozen=True)
class ReportedRun:
    """One run behind the numbers."""

    name: str  # its folder below the output folder
    state: str  # "done", "stale", "failed", "unfinished", "todo"
    command: str
    result: dict = field(default_factory=dict)  # result.json
    starts: tuple[dict, ...] = ()  # starts.jsonl
    reason: str = ""  # of its state, or what is to be said of its result
    embedded: bool = False


@dataclass(frozen=True)
class Report:
    title: str
    tables: tuple[Table, ...]
    statistics: tuple[Statistics, ...] = ()
    figures: tuple[Figure, ...] = ()
    runs: tuple[ReportedRun, ...] = ()


def key_of(part) -> str:
    """``table1``, ``table1-embedded``, ``table1-own`` of something with id, embedded and tag."""
    return part.id + ("-embedded" if part.embedded else "") + (f"-{part.tag}" if part.tag else "")
