"""CSV: one line per cell, full precision, for other programs."""

import csv
import io

from report.formats.cells import View, cell_unit

PLACE = ["table", "row_group", "row", "column_group", "column", "unit"]
VALUES = ["mean", "sd", "seeds", "printed", "difference", "agrees"]
REMARKS = ["note", "reason", "help", "data", "words"]


def tidy_csv(view: View) -> str:
    """A table as tidy CSV. ``mean``, ``sd`` and ``difference`` are in ``unit``; empty means unknown."""
    text = io.StringIO()
    lines = csv.DictWriter(text, PLACE + VALUES + REMARKS, lineterminator="\n")
    lines.writeheader()
    for (r, c), reading in view.readings.items():
        lines.writerow(_line(view, view.table.rows[r], view.table.columns[c], reading))
    return text.getvalue()


def _line(view: View, row, column, reading) -> dict:
    ours, printed = reading.cell.ours, reading.cell.printed
    return {
        "table": view.table.id,
        "row_group": row.group,
        "row": row.label,
        "column_group": column.group,
        "column": column.label,
        "unit": cell_unit(row, column),
        "mean": ours.mean,
        "sd": ours.sd,
        "seeds": " ".join(map(str, ours.seeds)),
        "printed": printed.text if printed else "",
        "difference": reading.cell.difference,
        "agrees": {"agrees": "yes", "differs": "no", "": ""}[reading.verdict],
        "note": "; ".join(filter(None, (printed.note if printed else "", *reading.cell.footnotes))),
        "reason": reading.reason,
        "help": "; ".join(reading.cell.help),
        "data": "embedded" if view.table.embedded else view.table.tag or "paper",
        "words": reading.cell.words,
    }
