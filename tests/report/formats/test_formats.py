"""Terminal, Markdown, LaTeX and CSV: the same cells, each laid out in its own way."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from report.formats import terminal, write
from report.formats.cells import read
from report.formats.latex import escape, latex
from report.formats.markdown import markdown
from report.formats.tidy import tidy_csv
from report.model import Cell, Head, Score, Table

# Terminal -------------------------------------------------------------------------------------------


def test_a_cell_in_the_terminal(table):
    lines = terminal(table).splitlines()
    ours = next(n for n, line in enumerate(lines) if line.startswith("Base"))
    assert lines[ours].split() == ["Base", "79.50±0.25", "82.12±0.25*"]
    assert lines[ours + 1].split() == ["79.44", "+0.06≈", "81.00", "+1.12≠"]
    assert lines[ours - 1].startswith("DTD ---")


@pytest.mark.parametrize("width", [60, 80, 110])
def test_every_line_keeps_to_the_width(report, width):
    lines = terminal(replace(report, figures=()), width).splitlines()
    assert max(map(len, lines)) <= width


def test_all_columns_of_a_wide_table_are_there(wide_table):
    words = terminal(wide_table, 80).split()
    assert [words.count(column.label) for column in wide_table.columns] == [1] * 12


def test_a_table_without_print_is_one_line_a_row(embedded_table):
    lines = terminal(embedded_table).splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("CoOp"))
    assert lines[first + 1].startswith("CLIPFit")


def test_the_terminal_says_what_is_missing(report):
    text = terminal(report)
    assert "seed 2 diverged after 3 epochs" in text
    assert "data/eurosat is not there" in text
    assert "Runs: 2 done, 1 todo" in text
    assert "too few data sets: 4, at least 6 are needed" in text


def test_every_format_labels_embedded_data(report, embedded_table, tmp_path):
    titles = [line for line in terminal(report).splitlines() if "[embedded data]" in line]
    assert len(titles) == 3  # the table, the statistics, the figure
    assert markdown(report, tmp_path).count("**[embedded data]**") == 4  # and the run
    assert "embedded data" in re.search(r"\\caption\{(.*)\}", latex(read(embedded_table)))[1]
    assert {line["data"] for line in tidy(embedded_table)} == {"embedded"}


# Markdown -------------------------------------------------------------------------------------------


def pipe_tables(text):
    """Cells of all tables of a Markdown text."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]


def test_markdown_tables_are_whole(report, tmp_path):
    tables = pipe_tables(markdown(report, tmp_path))
    assert len(tables) == 4 + 2 * 2 + 1 + 1  # scores, ranks and pairs, runs, environments
    assert all(len({len(line) for line in lines}) == 1 for lines in tables)


def test_a_cell_in_markdown(report, tmp_path):
    lines = pipe_tables(markdown(report, tmp_path))[0]
    assert [cell.strip() for cell in lines[2]] == [
        "DTD",
        "Base",
        "79.50 ± 0.25<br>79.44 +0.06 ≈",
        "**82.12** ± 0.25<br>81.00 +1.12 ≠",
    ]


def test_markdown_links_figures_from_where_it_lies(report, tmp_path):
    assert "![Figure 3: Change per layer](../figures/figure3.png)" in markdown(report, tmp_path / "report")


def test_words_mark_nothing_up(tmp_path, report):
    odd = Table("t", "a|b *c* <i>", (Head("x_y_z|"),), (Head("`q`"),), {(0, 0): Cell(Score(1.0))})
    text = markdown(replace(report, tables=(odd,), statistics=(), figures=(), runs=()), tmp_path)
    assert r"a\|b \*c\* \<i\>" in text and r"x\_y\_z\|" in text and r"\`q\`" in text


# LaTeX ----------------------------------------------------------------------------------------------


def tabulars(text):
    return re.findall(r"\\begin\{tabular\}\{(l(?:c+))\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL)


def columns_of(line):
    """Columns that a line of a tabular fills."""
    spans = re.findall(r"\\multicolumn\{(\d+)\}", line)
    return len(re.split(r"(?<!\\)&", line)) + sum(int(span) - 1 for span in spans)


@pytest.mark.parametrize("name", ["table", "embedded_table", "wide_table", "efficiency_table"])
def test_latex_is_balanced_and_its_lines_are_full(name, request):
    text = latex(read(request.getfixturevalue(name)))
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin{") == text.count(r"\end{")
    for sides, body in tabulars(text):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {columns_of(line) for line in lines} == {len(sides)}


def test_a_cell_in_latex(table):
    text = latex(read(table))
    assert r"Base & 79.50{\tiny$\pm$0.25} & \textbf{82.12}{\tiny$\pm$0.25} \\" in text
    assert r"{\tiny 79.44 +0.06$\approx$} & {\tiny 81.00 +1.12$\neq$} \\" in text
    assert r"{\scriptsize not run}" in text
    assert r"\textsuperscript{1}print: hm implies 42.00" in text


def test_the_caption_says_what_the_numbers_are(table):
    caption = re.search(r"\\caption\{(.*)\}", latex(read(table)))[1]
    assert r"Mean $\pm$ standard deviation over seeds 1, 2, 3." in caption
    assert "Bold: best." in caption and "doubtful print" in caption


def test_a_wide_table_is_stacked(wide_table):
    found = tabulars(latex(read(wide_table)))
    assert [len(sides) for sides, _ in found] == [7, 7]
    assert r"\cmidrule(lr){3-7}" in found[0][1] and r"\cmidrule(lr){2-7}" in found[1][1]


def test_a_long_table_is_a_longtable_whose_pieces_share_a_number(table):
    rows = tuple(Head(name, f"D{n}") for n in range(12) for name in ("Base", "New", "HM"))
    columns = tuple(Head(f"method {n}") for n in range(10))
    cells = {(r, c): table.cells[0, 0] for r in range(36) for c in range(10)}
    text = latex(read(replace(table, rows=rows, columns=columns, cells=cells)))
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 2
    assert text.count(r"\addtocounter{table}{-1}") == text.count(r"\label") == 1
    assert text.count(r"\endfirsthead") == text.count(r"\endhead") == 2
    assert text.count("79.50}{") == 360
    assert text.count("method 3") == 2  # in the head of its piece, and again on each page
    assert text.count(r"\\*") == 2 * (12 + 36)  # groups' names and what is printed keep with their rows


def test_a_table_that_fits_on_a_page_is_a_float(wide_table):
    text = latex(read(wide_table))
    assert text.startswith("% \\usepackage{booktabs}\n") and "longtable" not in text


def test_latex_letters():
    assert escape("100% of a_b & {c} ~ β ≤ [d]") == (
        r"100\% of a\_b \& \{c\} \textasciitilde{} $\beta$ $\leq$ {[}d]"
    )


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(report, tmp_path):
    tables = "\n".join(latex(read(table)) for table in report.tables)
    packages = r"\usepackage{booktabs,longtable}"
    document = f"\\documentclass{{article}}{packages}\\begin{{document}}\n{tables}\n\\end{{document}}"
    (tmp_path / "report.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


# CSV and files --------------------------------------------------------------------------------------


def tidy(table):
    return list(csv.DictReader(io.StringIO(tidy_csv(read(table)))))


def test_csv_has_every_cell_in_full_precision(table):
    lines = tidy(table)
    assert len(lines) == 8
    assert lines[1] == {
        "table": "table1",
        "row_group": "DTD",
        "row": "Base",
        "column_group": "",
        "column": "CLIPFit",
        "unit": "%",
        "mean": "82.125",
        "sd": "0.25",
        "seeds": "1 2 3",
        "printed": "81.00",
        "difference": "1.125",
        "agrees": "no",
        "note": "",
        "reason": "",
        "help": "",
        "data": "paper",
        "words": "",
    }
    assert (lines[3]["mean"], lines[3]["reason"], lines[3]["printed"]) == ("", "not run", "63.50")
    assert (lines[4]["seeds"], lines[4]["reason"]) == ("1 2", "seed 3 failed")
    assert (lines[2]["note"], lines[5]["help"]) == ("hm implies 42.00", "val search")


def test_csv_knows_the_unit_of_each_column(efficiency_table):
    assert [line["unit"] for line in tidy(efficiency_table)][:3] == ["params", "ms", "%"]


def test_write_makes_a_file_for_each_format_and_table(report, tmp_path):
    written = write(report, tmp_path / "report")
    names = {path.relative_to(tmp_path / "report").as_posix() for path in written}
    keys = ["table1", "table1-embedded", "table9", "table7"]
    tables = {f"tables/{key}.{end}" for key in keys for end in ("tex", "csv")}
    assert names == {"report.html", "report.md", *tables}
    assert all(path.stat().st_size for path in written)


def test_two_tables_of_one_id_are_refused(report, table, tmp_path):
    with pytest.raises(ValueError, match="'table1'"):
        write(replace(report, tables=(table, table)), tmp_path)
    assert not list(tmp_path.glob("report*"))
