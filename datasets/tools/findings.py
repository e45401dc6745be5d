"""What the doctor found, as lines of its report."""

from dataclasses import dataclass
from pathlib import Path

from datasets.tools.catalog import Entry

OK, NOTE, WRONG = "ok", "note", "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line of the report, and what to do about it."""

    state: str  # OK, NOTE, WRONG
    subject: str
    text: str
    advice: str = ""


def prepare_command(entry: Entry, folder: Path) -> str:
    """The command that gets what is missing in `folder`."""
    return f"python -m datasets.prepare {entry.name} --root {folder.parent}"
