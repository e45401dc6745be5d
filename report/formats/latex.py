"""LaTeX tables, ready to paste: booktabs, the best in bold; longtable where a page is too short."""

import re
from itertools import pairwise

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
PRINTED = r"\quad{\tiny printed}"
SMALL = r"\footnotesize\setlength{\tabcolsep}{4pt}"
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


def latex(view: View) -> str:
    """A table for ``\\usepackage{booktabs}``, over both columns of a two-column page.

    A wide one is stacked in pieces of fewer columns. What does not fit on a page is a longtable (a package of
    its own, for one-column pages): one for each piece, under one number.
    """
    pieces = blocks(len(view.table.columns), -(-len(view.table.columns) // WIDEST))
    if len(pieces) * _height(view) <= TALLEST:
        return f"% \\usepackage{{booktabs}}\n\n{_float(view, pieces)}\n"
    texts = [_longtable(view, columns, number) for number, columns in enumerate(pieces)]
    return "\n\n".join([r"% \usepackage{booktabs,longtable}", *texts, *_remarks(view)]) + "\n"


def _height(view: View) -> int:
    """Lines that the rows of a table take."""
    per_row = 2 if view.compared else 1
    return sum(bool(group) + per_row * len(members) for group, members in groups(view.table.rows))


def _float(view: View, pieces: list[list[int]]) -> str:
    return "\n".join(
        [
            r"\begin{table*}[t]",
            rf"\centering{SMALL}",
            rf"\caption{{{_caption(view)}}}",
            rf"\label{{tab:{view.key}}}",
            "\n\n\\medskip\n".join(_tabular(view, columns) for columns in pieces),
            *_remarks(view),
            r"\end{table*}",
        ]
    )


def _longtable(view: View, columns: list[int], number: int) -> str:
    """A piece that goes on over pages, its heads on each."""
    heads = [r"\toprule", *_heads(view, columns)]
    again = rf"\caption[]{{{escape(view.table.title)} (continued).}} \\"
    first = again if number else rf"\caption{{{_caption(view)}}}\label{{tab:{view.key}}} \\"
    return "\n".join(
        [
            *([r"\addtocounter{table}{-1}"] if number else []),
            rf"{{{SMALL}",
            rf"\begin{{longtable}}{{l{'c' * len(columns)}}}",
            *(first, *heads, r"\endfirsthead"),
            *(again, *heads, r"\endhead"),
            *(r"\bottomrule", r"\endfoot"),
            *_kept_together(_body(view, columns)),
            r"\end{longtable}}",
        ]
    )


def _kept_together(lines: list[str]) -> list[str]:
    """No page ends behind the name of a group or between ours and the print."""
    return [
        line + "*" if line.startswith(r"\multicolumn") or after.startswith(PRINTED) else line
        for line, after in pairwise([*lines, ""])
    ]


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


def _tabular(view: View, columns: list[int]) -> str:
    begin = rf"\begin{{tabular}}{{l{'c' * len(columns)}}}"
    lines = [begin, r"\toprule", *_heads(view, columns), *_body(view, columns)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _body(view: View, columns: list[int]) -> list[str]:
    """The rows, each group of them under a rule and its name."""
    lines = []
    for group, members in groups(view.table.rows):
        lines.append(r"\midrule")
        if group:
            lines.append(rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\emph{{{escape(group)}}}}} \\")
        lines += [line for r in members for line in _row(view, r, columns)]
    return lines


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
    return [ours, _line([PRINTED, *printed])] if any(printed) else [ours]


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


def _remarks(view: View) -> list[str]:
    """The footnotes, and the table's notes."""
    remarks = [f"{_raised((number,))}{escape(note)}" for number, note in enumerate(view.footnotes, 1)]
    remarks += map(escape, view.table.notes)
    if not remarks:
        return []
    joined = "\\\\\n".join(remarks)
    return [f"\n\\medskip\n\\parbox{{\\linewidth}}{{\\scriptsize\\raggedright\n{joined}}}"]


def _raised(notes: tuple[int, ...]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, notes))}}}" if notes else ""


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
