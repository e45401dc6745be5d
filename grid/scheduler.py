"""Runs what is left of a plan: training before its tests, a failed run once more, a clean stop at Ctrl-C."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dassl.config.identity import digest, experiment
from dassl.run_folder import LOG, read_config, read_result

from .display import Counts, Display
from .estimate import Estimate
from .executors import Executor, Outcome
from .failures import LOG_LINES, Failure, forget_failure, last_lines
from .plan import Planned

ATTEMPTS = 2  # a failed run is tried once more
LOSSES = 10  # times that a run may lose the machine under it and start again


@dataclass
class Summary:
    """What one call of `run` did."""

    done: list[Planned] = field(default_factory=list)
    failed: list[Planned] = field(default_factory=list)  # why is their ``reason``
    blocked: list[Planned] = field(default_factory=list)  # tests whose training failed
    interrupted: bool = False  # by Ctrl-C; the next call goes on


def run(planned: Iterable[Planned], executor: Executor, display: Display) -> Summary:
    """Do every run that is not done yet, and the training runs that they need.

    The folder of a stale run is moved aside (`move_aside`), never deleted. A run that fails twice leaves a
    file that says why (grid/failures.py) and holds up nothing but the tests of its model. Ctrl-C ends all
    processes; their runs go on where they were when this is called again.
    """
    queue = _Queue(planned)
    try:
        executor.open(queue.known)
        while queue.pending or queue.running:
            queue.start(executor)
            display.show(queue.counts(executor.slots))
            for outcome in executor.wait():
                queue.settle(outcome, display.say)
        display.show(queue.counts(executor.slots))
    except KeyboardInterrupt:
        queue.summary.interrupted = True
    finally:
        executor.close()
        display.close()
    for stopped in queue.running:
        stopped.refresh()
    return queue.summary


def move_aside(planned: Planned) -> Path:
    """Move a stale run's folder to where `place_aside` says."""
    target = place_aside(planned)
    target.parent.mkdir(exist_ok=True)
    return planned.folder.rename(target)


def place_aside(planned: Planned) -> Path:
    """``.stale/seed1-<first 8 of its config's digest>`` beside a stale run's folder, numbered if need be."""
    folder = planned.folder
    name = f"{folder.name}-{_old_digest(folder)[:8]}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in map((folder.parent / ".stale").joinpath, names) if not path.exists())


def _old_digest(folder: Path) -> str:
    try:
        result = read_result(folder) or {}
        return result.get("config_digest") or digest(experiment(read_config(folder)))
    except (ValueError, FileNotFoundError):
        return "damaged"


class _Queue:
    """Which runs are pending (in order of the plan), running or settled."""

    def __init__(self, planned: Iterable[Planned]):
        self.known = list(dict.fromkeys(run for one in planned for run in (one.needs, one) if run))
        self.pending = [run for run in self.known if run.runnable]
        self.running: dict[Planned, float] = {}  # when they were started
        self.summary = Summary()
        self._total = len(self.pending)
        self._failures, self._losses = Counter(), Counter()
        self._estimate = Estimate(self.known)

    def start(self, executor: Executor) -> None:
        """Start whatever the executor takes, the first of the plan first."""
        for run in list(self.pending):
            if (run.needs is None or run.needs.state == "done") and executor.takes(run):
                if run.state == "stale":
                    move_aside(run)
                self.pending.remove(run)
                self.running[run] = time.monotonic()
                executor.start(run)

    def settle(self, outcome: Outcome, say: Callable[[str], None]) -> None:
        """Take the end of a run: it is done, or starts again, or has failed."""
        run = outcome.planned
        del self.running[run]
        run.refresh()
        error = outcome.error or ("" if run.state == "done" else run.reason or "it left no result")
        if not error:
            forget_failure(run.output, run.name)
            self._estimate.learn(run)
            self.summary.done.append(run)
        elif outcome.lost and self._losses[run] < LOSSES:
            self._losses[run] += 1
            self._again(run)
            say(f"{run.name} lost its machine and goes on elsewhere: {error}")
        elif self._failures[run] + 1 < ATTEMPTS:
            self._failures[run] += 1
            self._again(run)
            say(f"{run.name} failed and is tried once more: {error}")
        else:
            self._fail(run, error, outcome.log)
            say(f"{run.name} failed again: {error}")

    def counts(self, slots: int) -> Counts:
        now = time.monotonic()
        return Counts(
            total=self._total,
            done=len(self.summary.done),
            running=min(len(self.running), slots),
            failed=len(self.summary.failed) + len(self.summary.blocked),
            seconds_left=self._estimate.seconds_left(
                self.pending, {run: now - begun for run, begun in self.running.items()}, slots
            ),
        )

    def _again(self, run: Planned) -> None:
        self.pending.insert(0, run)

    def _fail(self, run: Planned, error: str, log: list[str]) -> None:
        log = [*last_lines(run.folder / LOG), *log][-LOG_LINES:]
        Failure(run.command, error, log).write(run.output, run.name)
        run.refresh()
        self.summary.failed.append(run)
        for test in [other for other in self.pending if other.needs is run]:
            self.pending.remove(test)
            test.refresh()
            self.summary.blocked.append(test)
