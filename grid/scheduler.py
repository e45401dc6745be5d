"""Runs what is left of a plan: training before its tests, a failed run once more, a clean stop at Ctrl-C.

Several of these may work on one output folder: what another process is running is waited for.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dassl.config.identity import digest, experiment
from dassl.run_folder import LOG, read_config, read_result
from launch.folder import kept_free

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
    file that says why (grid/failures.py) and holds up nothing but the tests of its model. A run that another
    process is doing takes no place: its result counts when it is there, and if that process ends without one,
    the run is taken over. Ctrl-C ends all processes of ours; their runs go on where they were when this is
    called again.
    """
    queue = _Queue(planned)
    try:
        executor.open(queue.known)
        while queue.unsettled:
            queue.look_elsewhere()
            queue.start(executor, display.say)
            display.show(queue.counts(executor.slots))
            for outcome in executor.wait() if queue.unsettled else ():
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
    """Move a stale run's folder to where `place_aside` says. A result to verify is so no longer there."""
    target = place_aside(planned)
    target.parent.mkdir(exist_ok=True)
    planned.verify = False
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
    """Which runs are pending (in order of the plan), running (here or elsewhere) or settled."""

    def __init__(self, planned: Iterable[Planned]):
        self.known = list(dict.fromkeys(run for one in planned for run in (one.needs, one) if run))
        self.pending = [run for run in self.known if run.runnable]
        self.running: dict[Planned, float] = {}  # when they were started
        self.elsewhere: dict[Planned, float] = {}  # in another process, and when that was noticed
        self.summary = Summary()
        self._total = len(self.pending)
        self._failures, self._losses = Counter(), Counter()
        self._estimate = Estimate(self.known)

    @property
    def unsettled(self) -> bool:
        return bool(self.pending or self.running or self.elsewhere)

    def start(self, executor: Executor, say: Callable[[str], None]) -> None:
        """Start whatever the executor takes, the first of the plan first."""
        for run in list(self.pending):
            if (run.needs is None or run.needs.state == "done") and executor.takes(run):
                self.pending.remove(run)
                with kept_free(run.folder) as free:
                    if free:
                        run.refresh()  # another process may have done it since the plan
                        if run.state == "stale":
                            move_aside(run)
                if not free:
                    self._wait_for(run, say)
                elif run.state == "done":
                    self._done(run)
                else:
                    self.running[run] = time.monotonic()
                    executor.start(run)

    def look_elsewhere(self) -> None:
        """Take back the runs that no other process is doing any more, with their results if they have one."""
        for run in list(self.elsewhere):
            with kept_free(run.folder) as free:
                if not free:
                    continue
            del self.elsewhere[run]
            run.refresh(anew=True)
            if run.state == "done":
                self._done(run)
            else:
                self._again(run)

    def settle(self, outcome: Outcome, say: Callable[[str], None]) -> None:
        """Take the end of a run: it is done, or starts again, or has failed."""
        run = outcome.planned
        del self.running[run]
        run.refresh(anew=True)
        error = outcome.error or ("" if run.state == "done" else run.reason or "it left no result")
        if not error:
            self._done(run)
        elif outcome.elsewhere:
            self._wait_for(run, say)
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
        going = self.running | self.elsewhere
        return Counts(
            total=self._total,
            done=len(self.summary.done),
            running=min(len(self.running), slots),
            elsewhere=len(self.elsewhere),
            failed=len(self.summary.failed) + len(self.summary.blocked),
            seconds_left=self._estimate.seconds_left(
                self.pending, {run: now - begun for run, begun in going.items()}, slots
            ),
        )

    def _again(self, run: Planned) -> None:
        self.pending.insert(0, run)

    def _wait_for(self, run: Planned, say: Callable[[str], None]) -> None:
        self.elsewhere[run] = time.monotonic()
        say(f"{run.name} is running in another process: waiting for it")

    def _done(self, run: Planned) -> None:
        """Take a result. Tests that were done with the model of an earlier training become pending."""
        forget_failure(run.output, run.name)
        self._estimate.learn(run)
        self.summary.done.append(run)
        for test in self.known:
            if test.needs is run and test.state == "done" and test not in self.summary.done:
                test.refresh()
                if test.runnable:
                    self.pending.append(test)
                    self._total += 1

    def _fail(self, run: Planned, error: str, log: list[str]) -> None:
        log = [*last_lines(run.folder / LOG), *log][-LOG_LINES:]
        Failure(run.command, error, log).write(run.output, run.name)
        run.refresh()
        self.summary.failed.append(run)
        for test in [other for other in self.pending if other.needs is run]:
            self.pending.remove(test)
            test.refresh()
            self.summary.blocked.append(test)
