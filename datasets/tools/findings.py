"""What the doctor found, as lines of its report."""

from dataclasses import dataclass
from pathlib import Path

from clipfit.io.commands import pasted
from datasets.tools.known import Entry
from launch.registered import PROJECT

OK, NOTE, WRONG = "ok", "note", "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line of the report, and what to do about it."""

    state: str  # OK, NOTE, WRONG
    subject: str
    text: str
    advice: str = ""


def how_to_get(entry: Entry, folder: Path) -> str:
    """The command that gets what is missing in a data set's folder, or what says what belongs there."""
    if entry.sources or entry.drawn:
        root = folder.parents[len(Path(entry.folder).parts) - 1]
        return pasted(["python", "-m", "datasets.prepare", entry.name, "--root", str(root)])
    return f"{location(entry.file)} says what belongs into {folder}"


def location(file: Path) -> str:
    """A file of the project as people find it: datasets/dtd.py."""
    return str(file.relative_to(PROJECT)) if file.is_relative_to(PROJECT) else str(file)
