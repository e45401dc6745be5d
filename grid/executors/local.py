"""Runs on this machine: several warm processes side by side, on GPUs if there are any."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from dassl.utils import available_cores
from grid.failures import LOG_LINES
from grid.gpus import GPU, PeakMemory, fits, places_on, visible_gpus
from grid.plan import Planned
from launch.resolve import PROJECT

from . import Outcome, train_arguments

HEARTBEAT = 0.5  # seconds after which a process that ended without an answer is noticed
WORKER = [sys.executable, "-m", "grid.worker"]
SHARED = "other runs were on its GPU: --per-gpu 1 gives every run a GPU of its own"


class LocalExecutor:
    """Slots of this machine; each is one process (grid/worker.py) that does one run after another.

    A run that is out of memory beside others on its GPU is tried again with the GPU to itself.

    Args: jobs, runs at once (0: as many as the cores allow with their threads; on GPUs never more than
          per_gpu allows); per_gpu, runs that may share a GPU, as far as their memory is known to fit;
          patience, seconds that `close` gives runs in progress to stop behind their step and save it
    """

    def __init__(self, jobs: int = 0, per_gpu: int = 1, patience: float = 0.0):
        self._jobs, self._per_gpu, self._patience = jobs, per_gpu, patience
        self._peaks = PeakMemory([])
        self._alone: set[Planned] = set()  # runs that take more than is known
        self._slots: list[_Slot] = []

    @property
    def slots(self) -> int:
        return len(self._slots)

    def open(self, planned: Iterable[Planned]) -> None:
        planned = list(planned)
        self._peaks = PeakMemory(planned)
        if places := places_on(visible_gpus(), self._per_gpu):
            self._slots = [_Slot(gpu) for gpu in places[: self._jobs or None]]
        else:
            self._slots = [_Slot(None) for _ in range(self._jobs or _jobs_on_cores(planned))]

    def takes(self, planned: Planned) -> bool:
        return self._slot_for(planned) is not None

    def start(self, planned: Planned) -> None:
        slot = self._slot_for(planned)
        slot.give(planned)
        together = [other for other in self._slots if other.gpu == slot.gpu and other.planned is not None]
        if slot.gpu is not None and len(together) > 1:
            for each in together:
                each.shared = True

    def wait(self) -> list[Outcome]:
        busy = [slot for slot in self._slots if slot.planned is not None]
        with selectors.DefaultSelector() as selector:
            for slot in busy:
                selector.register(slot.process.stdout, selectors.EVENT_READ, slot)
            answered = [key.data for key, _ in selector.select(HEARTBEAT)]
        dead = [slot for slot in busy if slot not in answered and slot.process.poll() is not None]
        for slot in dead:
            slot.kill()  # what it has started may keep its end of the pipe open
        return [self._outcome(slot) for slot in (*answered, *dead)]

    def close(self) -> None:
        going = [slot for slot in self._slots if slot.planned is not None]
        if self._patience:
            deadline = time.monotonic() + self._patience
            for slot in going:
                slot.process.terminate()
            for slot in going:
                with suppress(subprocess.TimeoutExpired):
                    slot.process.wait(max(0.0, deadline - time.monotonic()))
        for slot in self._slots:
            slot.kill()

    def _outcome(self, slot: "_Slot") -> Outcome:
        """How its run ended, with a hint if memory ran out beside other runs."""
        outcome = slot.take()
        if not (outcome.out_of_memory and slot.shared):
            return outcome
        self._alone.add(outcome.planned)
        return replace(outcome, error=f"{outcome.error}; {SHARED}")

    def _slot_for(self, planned: Planned) -> "_Slot | None":
        """A free slot, on the emptiest GPU with room for the run, with a warm process if there is one."""
        free = [slot for slot in self._slots if slot.planned is None and self._has_room(slot.gpu, planned)]
        return min(free, key=lambda slot: (len(self._runs_on(slot.gpu)), slot.process is None), default=None)

    def _has_room(self, gpu: GPU | None, planned: Planned) -> bool:
        if gpu is None:
            return True
        beside = [self._peak(run) for run in self._runs_on(gpu)]
        return fits(self._peak(planned), beside, gpu.memory_mb)

    def _peak(self, planned: Planned) -> float | None:
        return None if planned in self._alone else self._peaks.of(planned)

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
        self.shared = False  # whether another run was on the GPU at some time of the newest one
        self.process: subprocess.Popen | None = None
        self._complaints = None  # the process's standard error

    def give(self, planned: Planned) -> None:
        if self.process is None or self.process.poll() is not None:
            self._begin()
        self.planned, self.shared = planned, False
        with suppress(BrokenPipeError):  # it died just now, which the next `wait` tells
            self.process.stdin.write(json.dumps(train_arguments(planned)).encode() + b"\n")
            self.process.stdin.flush()

    def take(self) -> Outcome:
        """How the run ended, of a process that answered or died."""
        planned, self.planned = self.planned, None
        if line := self.process.stdout.readline():
            answer = json.loads(line)
            if answer["spoiled"]:  # it is about to end, and must not be given another run meanwhile
                self.kill()
            given = {key: answer[key] for key in ("out_of_memory", "elsewhere")}
            return Outcome(planned, answer["error"] or "", **given)
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
            WORKER,
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
