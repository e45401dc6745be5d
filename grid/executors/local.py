"""Runs on this machine: several warm processes side by side, on GPUs if there are any."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress

from dassl.utils import available_cores
from grid.failures import LOG_LINES
from grid.gpus import GPU, PeakMemory, fits, visible_gpus
from grid.plan import Planned
from launch.resolve import PROJECT

from . import Outcome, train_arguments

HEARTBEAT = 0.5  # seconds after which a process that ended without an answer is noticed


class LocalExecutor:
    """Slots of this machine; each is one process (grid/worker.py) that does one run after another.

    Args: jobs, runs at once (0: as many as the cores allow with their threads, or as the GPUs hold);
          per_gpu, runs that may share a GPU, as far as their memory is known to fit
    """

    def __init__(self, jobs: int = 0, per_gpu: int = 1):
        self._jobs, self._per_gpu = jobs, per_gpu
        self._peaks = PeakMemory([])
        self._slots: list[_Slot] = []

    @property
    def slots(self) -> int:
        return len(self._slots)

    def open(self, planned: Iterable[Planned]) -> None:
        planned = list(planned)
        self._peaks = PeakMemory(planned)
        places = visible_gpus() * self._per_gpu
        jobs = self._jobs or len(places) or _jobs_on_cores(planned)
        self._slots = [_Slot(places[number % len(places)] if places else None) for number in range(jobs)]

    def takes(self, planned: Planned) -> bool:
        return self._slot_for(planned) is not None

    def start(self, planned: Planned) -> None:
        self._slot_for(planned).give(planned)

    def wait(self) -> list[Outcome]:
        busy = [slot for slot in self._slots if slot.planned is not None]
        with selectors.DefaultSelector() as selector:
            for slot in busy:
                selector.register(slot.process.stdout, selectors.EVENT_READ, slot)
            answered = [key.data for key, _ in selector.select(HEARTBEAT)]
        dead = [slot for slot in busy if slot not in answered and slot.process.poll() is not None]
        for slot in dead:
            slot.kill()  # what it has started may keep its end of the pipe open
        return [slot.take() for slot in (*answered, *dead)]

    def close(self) -> None:
        for slot in self._slots:
            slot.kill()

    def _slot_for(self, planned: Planned) -> "_Slot | None":
        """A free slot, on the emptiest GPU with room for the run, with a warm process if there is one."""
        free = [slot for slot in self._slots if slot.planned is None and self._has_room(slot.gpu, planned)]
        return min(free, key=lambda slot: (len(self._runs_on(slot.gpu)), slot.process is None), default=None)

    def _has_room(self, gpu: GPU | None, planned: Planned) -> bool:
        if gpu is None:
            return True
        beside = [self._peaks.of(run) for run in self._runs_on(gpu)]
        return fits(self._peaks.of(planned), beside, gpu.memory_mb)

    def _runs_on(self, gpu: GPU | None) -> list[Planned]:
        return [slot.planned for slot in self._slots if slot.gpu == gpu and slot.planned is not None]


def _jobs_on_cores(planned: list[Planned]) -> int:
    threads = max((run.threads for run in planned if run.runnable), default=1)
    return max(1, available_cores() // threads)


class _Slot:
    """A place for one run at a time, with the process that does it once the first one came."""

    def __init__(self, gpu: GPU | None):
        self.gpu = gpu
        self.planned: Planned | None = None
        self.process: subprocess.Popen | None = None
        self._complaints = None  # the process's standard error

    def give(self, planned: Planned) -> None:
        if self.process is None or self.process.poll() is not None:
            self._begin()
        self.planned = planned
        with suppress(BrokenPipeError):  # it died just now, which the next `wait` tells
            self.process.stdin.write(json.dumps(train_arguments(planned)).encode() + b"\n")
            self.process.stdin.flush()

    def take(self) -> Outcome:
        """How the run ended, of a process that answered or died."""
        planned, self.planned = self.planned, None
        if answer := self.process.stdout.readline():
            return Outcome(planned, json.loads(answer)["error"] or "")
        self.kill()
        status = self.process.returncode
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        hint = "; out of memory?" if status == -signal.SIGKILL else ""
        return Outcome(planned, f"its process {how}{hint}", log=self._last_complaints())

    def kill(self) -> None:
        """End the process, and those that it has started, without a word: a run goes on where it was."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _begin(self) -> None:
        if self.process is not None:
            self.process.stdout.close()
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            self._complaints.close()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_search_path())}
        if self.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpu.name
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grid.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends this process
        )

    def _last_complaints(self) -> list[str]:
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace").splitlines()[-LOG_LINES:]


def _search_path() -> list[str]:
    return [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
