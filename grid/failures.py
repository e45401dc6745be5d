"""What is kept of a failed run: one small file, removed when the run succeeds."""

import itertools
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from clipfit.io.commands import pasted
from dassl.utils import read_json, write_json

LOG_LINES = 20


@dataclass(frozen=True)
class Failure:
    """Why a run ended without a result."""

    command: list[str]
    error: str  # one line
    log: list[str]  # its last lines

    @staticmethod
    def path(output: Path, name: str) -> Path:
        return output / "grid/failed" / f"{name}.json"

    @classmethod
    def read(cls, output: Path, name: str) -> "Failure | None":
        """Raises: ValueError for a damaged file, or one of another version."""
        path = cls.path(output, name)
        if not path.is_file():
            return None
        content = read_json(path)
        if not isinstance(content, dict) or content.keys() != {"command", "error", "log"}:
            raise ValueError(f"{path} is no record of a failed run; remove it")
        lists = content["command"], content["log"]
        words = [
            content["error"],
            *itertools.chain(*(one if isinstance(one, list) else [None] for one in lists)),
        ]
        if not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path} is no record of a failed run: some of it is no text; remove it")
        return cls(**content)

    def __str__(self) -> str:
        return "\n  ".join([f"failed: {pasted(self.command)}", *self.log, f"-> {self.error}"])

    def write(self, output: Path, name: str) -> None:
        write_json(asdict(self), self.path(output, name))


def forget_failure(output: Path, name: str) -> None:
    Failure.path(output, name).unlink(missing_ok=True)


def last_lines(path: Path, count: int = LOG_LINES) -> list[str]:
    """The last lines of a log, none if there is no file."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=count)]
    return []
