"""One display for a whole grid: a bar on a terminal, plain lines everywhere else."""

import sys
from dataclasses import dataclass, replace
from typing import TextIO

from tqdm import tqdm


@dataclass(frozen=True)
class Counts:
    """Where a grid stands."""

    total: int
    done: int
    running: int
    failed: int  # with the tests that a failed training holds up
    seconds_left: float | None  # None while nothing is known
    elsewhere: int = 0  # running in another process, which is waited for

    def __str__(self) -> str:
        elsewhere = f", {self.elsewhere} running elsewhere" if self.elsewhere else ""
        failed = f", {self.failed} failed" if self.failed else ""
        left = f", about {duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        return f"{self.done} of {self.total} runs done, {self.running} running{elsewhere}{failed}{left}"


class Display:
    """Shows where the grid stands; a plain line only when a run has ended or the number running changed."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._bar: tqdm | None = None
        self._shown: Counts | None = None

    def show(self, counts: Counts) -> None:
        if self._stream.isatty():
            self._draw(counts)
        elif (now := replace(counts, seconds_left=None)) != self._shown:
            self._shown = now
            print(counts, file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        tqdm.write(text, file=self._stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _draw(self, counts: Counts) -> None:
        if self._bar is None:
            self._bar = tqdm(file=self._stream, total=counts.total, bar_format="{l_bar}{bar}| {desc}")
        self._bar.n = counts.done + counts.failed
        self._bar.bar_format = "{percentage:3.0f}%|{bar}| " + str(counts)
        self._bar.refresh()


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
