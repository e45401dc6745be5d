"""GPUs of this machine, counted without torch, and how many runs share one."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from .plan import Planned

CONTEXT_MB = 600  # what a process takes on a GPU beside the tensors it allocates
USABLE = 0.9  # of a GPU's memory: allocators leave gaps
QUERY = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class GPU:
    name: str  # for CUDA_VISIBLE_DEVICES
    memory_mb: float


def visible_gpus() -> list[GPU]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process; none without a driver."""
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return select_gpus(answer, os.environ.get("CUDA_VISIBLE_DEVICES"))


def select_gpus(answer: str, visible: str | None) -> list[GPU]:
    """The GPUs of nvidia-smi's answer (lines of index, uuid, MiB) that are visible, in that order.

    As in CUDA, a GPU is named by its index or the beginning of its uuid, and an unknown name ends the list.
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
    if visible is None:
        return [GPU(index, float(memory)) for index, _, memory in rows]
    chosen = []
    for name in (name.strip() for name in visible.split(",")):
        matching = [row for row in rows if name and (row[0] == name or row[1].startswith(name))]
        if not matching:
            break
        chosen.append(GPU(name, float(matching[0][2])))
    return chosen


class PeakMemory:
    """What finished runs say about the memory that others of their kind will take."""

    def __init__(self, runs: Iterable[Planned]):
        self._runs = list(runs)

    def of(self, planned: Planned) -> float | None:
        """Largest peak of finished runs of its kind (method, backbone, protocol, data), MiB; or None."""
        kind = _kind(planned)
        peaks = [run.result.get("peak_memory_mb") for run in self._runs if run.result and _kind(run) == kind]
        return max((peak for peak in peaks if peak is not None), default=None)


def _kind(planned: Planned) -> tuple:
    spec = planned.spec
    return spec.trainer, planned.backbone, spec.protocol, spec.dataset, spec.eval_only, spec.pairs


def fits(peak: float | None, beside: list[float | None], memory_mb: float) -> bool:
    """Whether a run may start beside others on a GPU: if all peaks are known and leave room."""
    if not beside:
        return True
    peaks = [peak, *beside]
    return None not in peaks and sum(peaks) + CONTEXT_MB * len(peaks) <= USABLE * memory_mb
