"""LaTeX tables, ready to paste: booktabs, the best in bold, no other package."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from report.formats.cells import (
    BAND_TEXT,
    DOUBTFUL,
    EMBEDDED,
    Reading,
    View,
    blocks,
    groups,
    head_text,
)
from report.model import Head

WIDEST = 7  # columns of numbers that stand side by side on a page; a wider table is stacked in pieces
TALLEST = 48  # lines of rows that stand on a page, with room for a caption and notes
SYMBOLS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",  # after \\ it would be an argument
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "−": r"$-$",
    "–": "--",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
}


@dataclass(frozen=True)
class Piece:
    """What one tabular shows: some columns of some rows."""

    columns: list[int]
    bands: list[tuple[str, list[int]]]  # groups of rows, long ones cut

    @property
    def rows(self) -> list[int]:
        return [r for _, members in self.bands for r in members]


def latex(view: View) -> str:
    """Table environments for ``\\usepackage{booktabs}``; they span both columns of a two-column page.

    A table too large for a page continues in further environments under the same number.
    """
    floats = _floats(view)
    texts = [_float(view, pieces, number, len(floats)) for number, pieces in enumerate(floats)]
    return "\n\n".join([r"% \usepackage{booktabs}", *texts]) + "\n"


def _floats(view: View) -> list[list[Piece]]:
    """All pieces of a table, as many on a page as fit."""
    count = len(view.table.columns)
    pieces = [
        Piece(columns, bands) for bands in _pages(view) for columns in blocks(count, -(-count // WIDEST))
    ]
    return _packed(pieces, lambda piece: _height(view, piece.bands))


def _pages(view: View) -> list[list[tuple[str, list[int]]]]:
    """The bands of rows that one page holds."""
    bands = [
        (group, members[first : first + TALLEST // 2])
        for group, members in groups(view.table.rows)
        for first in range(0, len(members), TALLEST // 2)
    ]
    return _packed(bands, lambda band: _height(view, [band]))


def _packed(items: list, height: Callable) -> list[list]:
    """Neighbours together while their heights add up to no more than TALLEST."""
    packed: list[list] = []
    for item in items:
        if packed and sum(map(height, packed[-1])) + height(item) <= TALLEST:
            packed[-1].append(item)
        else:
            packed.append([item])
    return packed


def _height(view: View, bands: list[tuple[str, list[int]]]) -> int:
    """Lines that bands of rows take."""
    per_row = 2 if view.compared else 1
    return sum(bool(group) + per_row * len(members) for group, members in bands)


def _float(view: View, pieces: list[Piece], number: int, count: int) -> str:
    caption = _caption(view) if number == 0 else escape(f"{view.table.title} (continued).")
    shown = [view.readings[r, c] for piece in pieces for r in piece.rows for c in piece.columns]
    return "\n".join(
        [
            r"\begin{table*}[t]",
            *([r"\addtocounter{table}{-1}"] if number else []),
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption}}}",
            *([rf"\label{{tab:{view.key}}}"] if number == 0 else []),
            "\n\n\\medskip\n".join(_tabular(view, piece) for piece in pieces),
            *_remarks(view, shown, with_notes=number == count - 1),
            r"\end{table*}",
        ]
    )


def escape(text: str) -> str:
    return re.sub(".", lambda match: SYMBOLS.get(match[0], match[0]), text, flags=re.DOTALL)


def _caption(view: View) -> str:
    """What the numbers are: every caption says it, since a table is pasted without its page."""
    readings = view.readings.values()
    said = [view.table.title, view.seeds[:1].upper() + view.seeds[1:]]
    if view.table.embedded:
        said.insert(1, f"Numbers on {EMBEDDED}, not on the data sets of the paper")
    if any(reading.best for reading in readings):
        said.append("Bold: best")
    if view.compared:
        said.append("Below: printed value and difference")
    if any(reading.mark for reading in readings):
        said.append(f"≈: {BAND_TEXT}, ≠: beyond")
    if any(reading.doubt for reading in readings):
        said.append(f"{DOUBTFUL}: doubtful print")
    return " ".join(escape(sentence.rstrip(".")) + "." for sentence in said if sentence)


def _tabular(view: View, piece: Piece) -> str:
    width = len(piece.columns)
    lines = [rf"\begin{{tabular}}{{l{'c' * width}}}", r"\toprule", *_heads(view, piece.columns)]
    for group, members in piece.bands:
        lines.append(r"\midrule")
        if group:
            lines.append(rf"\multicolumn{{{width + 1}}}{{l}}{{\emph{{{escape(group)}}}}} \\")
        for r in members:
            lines += _row(view, r, piece.columns)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _heads(view: View, columns: list[int]) -> list[str]:
    heads = [view.table.columns[c] for c in columns]
    labels = _line(["", *(escape(head_text(head)) for head in heads)])
    return [*_group_heads(heads), labels] if any(head.group for head in heads) else [labels]


def _group_heads(heads: list[Head]) -> list[str]:
    """A line of group names over their columns, and the rules below them."""
    cells, rules = [""], []
    for group, members in groups(heads):
        cells.append(rf"\multicolumn{{{len(members)}}}{{c}}{{{escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{members[0] + 2}-{members[-1] + 2}}}")
    return [_line(cells), " ".join(rules)]


def _row(view: View, r: int, columns: list[int]) -> list[str]:
    """A line of ours, and below it a line of what is printed, where anything is."""
    readings = [view.readings[r, c] for c in columns]
    ours = _line([escape(head_text(view.table.rows[r])), *map(_ours, readings)])
    printed = list(map(_printed, readings))
    return [ours, _line([r"\quad{\tiny printed}", *printed])] if any(printed) else [ours]


def _ours(reading: Reading) -> str:
    if reading.absence:
        shown = rf"{{\scriptsize {escape(reading.absence)}}}"
    else:
        shown = rf"\textbf{{{escape(reading.mean)}}}" if reading.best else escape(reading.mean)
    spread = rf"{{\tiny$\pm${reading.sd}}}" if reading.sd else ""
    return shown + spread + _raised(reading.notes)


def _printed(reading: Reading) -> str:
    if not reading.printed:
        return ""
    doubt = escape(reading.doubt) + _raised(reading.printed_notes)
    difference = f" {escape(reading.difference)}" if reading.difference else ""
    return rf"{{\tiny {escape(reading.printed)}{doubt}{difference}{escape(reading.mark)}}}"


def _remarks(view: View, shown: list[Reading], with_notes: bool) -> list[str]:
    """The footnotes of the cells shown, and the table's notes."""
    used = {number for reading in shown for number in (*reading.notes, *reading.printed_notes)}
    remarks = [f"{_raised((number,))}{escape(view.footnotes[number - 1])}" for number in sorted(used)]
    remarks += map(escape, view.table.notes if with_notes else ())
    if not remarks:
        return []
    joined = "\\\\\n".join(remarks)
    return [f"\n\\medskip\n\\parbox{{\\linewidth}}{{\\scriptsize\\raggedright\n{joined}}}"]


def _raised(notes: tuple[int, ...]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, notes))}}}" if notes else ""


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
