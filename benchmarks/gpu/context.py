"""What a check is given, and where it leaves what it found."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from dassl.utils import atomic_write


class Skipped(Exception):
    """A check cannot run here; the message says why."""


@dataclass
class Context:
    """One check's surroundings and its findings.

    A check returns one line of detail. It is passed unless it names a problem or raises. `save` keeps what is
    known so far, so that a check that is stopped leaves its numbers.
    """

    device: str  # "cuda" or "cpu"
    quick: bool
    cores: int  # processes that the check should start at once, at most
    folder: Path  # of this check alone
    root: Path  # of the data sets
    answer: Path  # file that `save` writes
    numbers: dict = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @staticmethod
    def from_json(text: str) -> Context:
        fields = json.loads(text)
        paths = {name: Path(fields.pop(name)) for name in ("folder", "root", "answer")}
        return Context(**fields, **paths)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.save()

    def save(self, **end: str) -> None:
        """Write the numbers and problems so far; at the end with `status` and `detail`."""
        with atomic_write(self.answer) as file:
            json.dump({"numbers": self.numbers, "problems": self.problems, **end}, file)
