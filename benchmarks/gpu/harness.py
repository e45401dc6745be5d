"""Runs checks, each in its own process: what fails, crashes or hangs is an entry, and the next goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.context import Context
from dassl.utils import read_json

PROJECT = Path(__file__).resolve().parents[2]
POLL = 0.05  # seconds between two looks at the processes
LOG_LINES = 15  # of a check's output, kept when it failed


@dataclass(frozen=True)
class Check:
    name: str
    target: str  # "module:function", given a Context
    cores: int = 1  # processes that it runs at once; fewer where the machine has fewer
    needs_gpu: bool = False
    alone: bool = False  # it measures: nothing else runs meanwhile
    limit: float | None = None  # seconds that it may take; None: what `run` allows


def run(
    checks: Iterable[Check],
    settings: Context,
    limit: float,
    until: float,
    report: Callable[[dict], None],
) -> None:
    """Run the checks: those that measure last and alone, the others side by side as the cores allow.

    Args: settings, the context of all: `cores` are the machine's, `folder` gets a folder per check;
          limit, seconds for a check; until, time.monotonic() at which all must have ended;
          report, called with every entry as its check ends
    """
    waiting = sorted(checks, key=lambda check: check.alone)  # stable: the given order within both
    running: list[_Job] = []
    try:
        while waiting or running:
            while waiting and _may_start(waiting[0], [job.check for job in running], settings.cores):
                check = waiting.pop(0)
                seconds = min(check.limit or limit, until - time.monotonic())
                if check.needs_gpu and not settings.on_gpu:
                    report(entry(check.name, "skipped", 0, "no GPU"))
                elif seconds <= 0:
                    report(entry(check.name, "failed", 0, "not run: no time was left (--limit)"))
                else:
                    running.append(_Job(check, settings, seconds))
            for job in [job for job in running if job.ended]:
                running.remove(job)
                report(job.entry())
            time.sleep(POLL)
    finally:
        for job in running:
            job.kill()


def entry(name: str, status: str, seconds: float, detail: str, **more: object) -> dict:
    """One check of the report; `status` is passed, failed or skipped."""
    return {"name": name, "status": status, "seconds": round(seconds, 1), "detail": detail, **more}


def _may_start(check: Check, running: list[Check], cores: int) -> bool:
    if not running:
        return True
    if check.alone or any(other.alone for other in running):
        return False
    return sum(_share(other, cores) for other in (check, *running)) <= cores


def _share(check: Check, cores: int) -> int:
    """Cores of a check: at most half of the machine, so that two can always run side by side."""
    return max(1, min(check.cores, cores // 2))


class _Job:
    """A check that was started."""

    def __init__(self, check: Check, settings: Context, limit: float):
        self.check, self._limit, self._begun = check, limit, time.monotonic()
        folder = settings.folder / check.name
        folder.mkdir(parents=True)
        self._answer, self._log = folder / "answer.json", folder / "output.txt"
        cores = settings.cores if check.alone else _share(check, settings.cores)
        context = Context(settings.device, settings.quick, cores, folder, settings.root, self._answer)
        paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.child", check.target, context.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                cwd=PROJECT,
                start_new_session=True,  # so that it ends with all that it has started
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None or time.monotonic() - self._begun > self._limit

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def entry(self) -> dict:
        """What became of it. The process group ends here in every case."""
        seconds = time.monotonic() - self._begun
        status = self._process.poll()
        self.kill()
        answer = read_json(self._answer) if self._answer.is_file() else {}
        numbers = answer.get("numbers", {})
        if "status" in answer:
            outcome, detail = answer["status"], answer["detail"]
        else:
            outcome = "failed"
            how = f"did not end in {self._limit:.0f} s" if status is None else _how_it_ended(status)
            detail = "; ".join([how, *answer.get("problems", [])])
        log = {"log": self._last_lines()} if outcome == "failed" else {}
        return entry(self.check.name, outcome, seconds, detail, numbers=numbers, **log)

    def _last_lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"crashed: its process was killed by {signal.Signals(-status).name}"
    return f"crashed: its process ended with status {status}"


def dump(report: dict) -> str:
    return json.dumps(report, indent=1) + "\n"
