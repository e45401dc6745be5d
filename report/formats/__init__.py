"""The report in five formats: terminal, Markdown, LaTeX, CSV, and one HTML page that needs no network.

cells.py says how a cell reads; each format has its own file that lays cells out.
"""

from pathlib import Path

from report.formats.cells import read
from report.formats.latex import latex
from report.formats.markdown import markdown
from report.formats.text import terminal
from report.formats.tidy import tidy_csv
from report.model import Report

__all__ = ["terminal", "write"]


def write(report: Report, folder: Path) -> list[Path]:
    """Write report.html, report.md and, for every table, tables/<id>.tex and tables/<id>.csv.

    Files of tables on embedded data end in ``-embedded``. Existing files are replaced.

    Returns: the files written
    Raises:  ValueError if two tables would share a file
    """
    from report.formats.html import html  # jinja2, which terminal tables do without

    folder = Path(folder)
    texts = {"report.html": html(report), "report.md": markdown(report, folder)}
    for view in map(read, report.tables):
        if f"tables/{view.key}.csv" in texts:
            raise ValueError(
                f"two tables of the report have the id {view.key!r}; ids name files, give each its own"
            )
        texts[f"tables/{view.key}.tex"] = latex(view)
        texts[f"tables/{view.key}.csv"] = tidy_csv(view)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
