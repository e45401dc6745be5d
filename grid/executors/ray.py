"""Runs on a Ray cluster: Ray says where, by CPUs and (fractions of) GPUs.

Nodes need the repository at the same path with its requirements, and the folders of data and output at the
same paths too (shared storage). Nothing is shipped but command lines. A Ray worker process does one run after
another, so imports are paid once per process; with GPUs Ray itself begins a new process for every run, so a
CUDA error spoils no other.

When a node is lost, Ray tells so and the scheduler starts the run again on another node, where it goes on
from its newest checkpoint. The process on the lost node may live a little longer: Ray's workers end
themselves when their raylet is gone, and until then the lock of the run folder keeps the new process waiting.
"""

import os
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

from clipfit.io.commands import pasted
from grid.plan import Planned
from launch.resolve import PROJECT

from . import Outcome, train_arguments

HEARTBEAT = 0.5  # seconds: the longest that `wait` waits
LOCK_PATIENCE = 180.0  # seconds that a run waits for an orphan of its own to end
SHARED = "it shared its GPU: --gpus-per-run 1 gives every run a GPU of its own"


class RayExecutor:
    """A cluster that is already running, or one of this machine alone (address "local").

    Args: address, as of `ray.init`: "auto", "<host>:6379", "ray://..."; cpus_per_run (0: the run's THREADS);
          gpus_per_run, may be a fraction (None: 1 if the cluster has GPUs, else 0)
    """

    def __init__(self, address: str = "auto", cpus_per_run: float = 0, gpus_per_run: float | None = None):
        self._address, self._cpus, self._gpus = address, cpus_per_run, gpus_per_run
        self._ray = _import_ray()
        self._running = {}  # the reference of a run's answer -> the run
        self.slots = 0  # runs that the living nodes hold at once

    def open(self, planned: Iterable[Planned]) -> None:
        """Connect to the cluster. Raises: ConnectionError if there is none."""
        try:
            self._ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise ConnectionError(
                f"there is no Ray cluster at {self._address!r}; begin one with `ray start --head`, add nodes "
                f"with `ray start --address <head>:6379`, or give its address ({_first_line(error)})"
            ) from error
        if self._gpus is None:
            self._gpus = 1 if self._ray.cluster_resources().get("GPU") else 0
        self._cpus = self._cpus or max((run.threads for run in planned if run.runnable), default=1)
        self._count_slots()
        if not self.slots:
            warnings.warn(
                f"no node has the {self._cpus} CPUs and {self._gpus} GPUs of a run: waiting for one that has"
            )
        # Ray would start a run again by itself, also one that ran out of memory, and for ever.
        # num_gpus is given here, not by `.options`: only then a process with a GPU ends after one run.
        declare = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)
        self._task = declare(_portable())

    def takes(self, planned: Planned) -> bool:
        """As many runs wait as go on: no node is idle, and a cluster that can grow sees why it should."""
        return len(self._running) < 2 * max(self.slots, 1)

    def start(self, planned: Planned) -> None:
        answer = self._task.remote(str(PROJECT), str(Path.cwd()), LOCK_PATIENCE, train_arguments(planned))
        self._running[answer] = planned

    def wait(self) -> list[Outcome]:
        self._count_slots()
        if not self._running:  # Ray would return at once
            time.sleep(HEARTBEAT)
            return []
        ended, _ = self._ray.wait(list(self._running), timeout=HEARTBEAT)
        return [self._outcome(self._running.pop(answer), answer) for answer in ended]

    def close(self) -> None:
        if not self._ray.is_initialized():
            return
        for answer in self._running:
            self._ray.cancel(answer, force=True)
        self._ray.shutdown()

    def _count_slots(self) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self.slots = sum(_places(node, self._cpus, self._gpus) for node in nodes)

    def _outcome(self, planned: Planned, answer) -> Outcome:
        errors = self._ray.exceptions
        try:
            ended = self._ray.get(answer)
            if planned.folder.is_dir():
                os.listdir(
                    planned.folder
                )  # makes NFS look again: it remembers for a while that a file was not there
            error = ended["error"] or ""
            if ended["out_of_memory"] and 0 < self._gpus < 1:
                error += f"; {SHARED}"
            given = {key: ended[key] for key in ("out_of_memory", "elsewhere")}
            return Outcome(planned, error, **given)
        except (errors.NodeDiedError, errors.LocalRayletDiedError) as error:
            return Outcome(planned, _first_line(error), lost=True)
        except errors.RayError as error:  # its process ended, or the run cannot even begin there
            return Outcome(planned, _first_line(error), log=str(error).splitlines())


def _import_ray():
    """The package. Raises: RuntimeError with the command that installs it"""
    try:
        import ray
    except ImportError as error:
        install = pasted(["python", "-m", "pip", "install", "-r", "requirements-ray.txt"])
        raise RuntimeError(f"Ray is not installed ({error}); {install}") from error
    return ray


def _portable():
    """The function that nodes execute. Being local to this one, it travels as code, not as an import."""

    def execute_on_node(project: str, folder: str, lock_patience: float, argv: list[str]) -> dict:
        import os
        import sys
        from dataclasses import asdict

        if project not in sys.path:
            sys.path.insert(0, project)
        os.chdir(folder)
        import launch.folder
        from grid.worker import execute

        launch.folder.LOCK_PATIENCE = lock_patience
        return asdict(execute(argv))

    return execute_on_node


def _places(resources: dict, cpus: float, gpus: float) -> int:
    """How many runs a node with these resources holds."""
    needs = {"CPU": cpus, "GPU": gpus}
    return min(int(resources.get(kind, 0) / amount + 1e-9) for kind, amount in needs.items() if amount)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
