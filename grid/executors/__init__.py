"""Where runs are executed. An executor takes runs and says, sooner or later, how each of them ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from grid.plan import Planned


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    planned: Planned
    error: str = ""  # what went wrong; "": nothing
    lost: bool = False  # the machine went away under it: no fault of the run
    out_of_memory: bool = False
    elsewhere: bool = False  # another process is doing the run: no fault of it either
    log: list[str] = field(default_factory=list)  # last lines of what the process said outside log.txt


class Executor(Protocol):
    slots: int  # runs that go on at once, as far as is known

    def open(self, planned: Iterable[Planned]) -> None:
        """Get ready for these runs."""

    def takes(self, planned: Planned) -> bool:
        """Whether it can start this run now."""

    def start(self, planned: Planned) -> None:
        """Start a run that it takes."""

    def wait(self) -> list[Outcome]:
        """What has ended since the last call; returns within a second, also with nothing."""

    def close(self) -> None:
        """End every run that is still going on, at once: a run survives that."""


def train_arguments(planned: Planned) -> list[str]:
    """The words behind ``python train.py``, with THREADS as settled here: bits may depend on them."""
    words = planned.command[2:]
    return words if "THREADS" in words else [*words, "THREADS", str(planned.threads)]
