"""GPUs of this machine, counted without torch in this process, and how many runs share one."""

import ctypes
import itertools
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from clipfit.io.commands import pasted

from .plan import Planned

CONTEXT_MB = 600  # what a process takes on a GPU beside the tensors it allocates
USABLE = 0.9  # of a GPU's memory: allocators leave gaps

QUERY = ["nvidia-smi", "--query-gpu=uuid,memory.total,mig.mode.current", "--format=csv,noheader,nounits"]
INSTANCES = ["nvidia-smi", "-L"]  # also the parts of a GPU that is divided (MIG)
PROBE = [
    sys.executable,
    "-c",
    "import json, torch; count = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
    "print(json.dumps([torch.cuda.get_device_properties(i).total_memory / 2**20 for i in range(count)]))",
]
PATIENCE = 120.0  # seconds for an answer: a driver that hangs holds up no grid


@dataclass(frozen=True)
class GPU:
    """A GPU, or a part of one (MIG)."""

    name: str  # for CUDA_VISIBLE_DEVICES
    memory_mb: float | None  # None: not known


def visible_gpus() -> list[GPU]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process; none without a driver.

    nvidia-smi is asked where all GPUs or uuids are meant. Where it does not help, torch is, in a process of
    its own: nvidia-smi missing or failing, a GPU in parts that was named as a whole, and numbers, which
    count in CUDA's order (on mixed cards the fastest first), not in nvidia-smi's. What was given there is
    passed on as it is.
    """
    names = visible_names(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if names == [] or not _has_driver():
        return []
    if names and any(name.startswith("MIG-") for name in names):
        return _parts(names)
    if names and names[0].isdigit():
        return _by_torch(names)
    rows = parse_rows(_answer(QUERY))
    chosen = rows if names is None else choose(rows, names)
    divided = any(row.divided for row in chosen)
    if not rows or (divided and names):
        return _by_torch(names)
    whole = [GPU(row.uuid, row.memory_mb) for row in chosen if not row.divided]
    return whole + _parts(re.findall(r"\(UUID: (MIG-[^)]+)\)", _answer(INSTANCES))) if divided else whole


def visible_names(visible: str | None) -> list[str] | None:
    """The names in CUDA_VISIBLE_DEVICES up to the first that is none, as in CUDA; None if it is not set."""
    if visible is None:
        return None
    names = (name.strip() for name in visible.split(","))
    return list(itertools.takewhile(lambda name: re.fullmatch(r"\d+|(GPU|MIG)-\S+", name), names))


@dataclass(frozen=True)
class ListedGPU:
    """What nvidia-smi says of a GPU."""

    uuid: str
    memory_mb: float | None
    divided: bool  # into parts (MIG), which CUDA takes in its place


def parse_rows(answer: str) -> list[ListedGPU]:
    """The lines of an answer to QUERY; none if it is something else."""
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
    if not all(len(row) == 3 and row[0].startswith("GPU-") for row in rows):
        return []
    return [ListedGPU(uuid, float(mb) if mb.isdigit() else None, mig == "Enabled") for uuid, mb, mig in rows]


def choose(rows: list[ListedGPU], names: list[str]) -> list[ListedGPU]:
    """The GPUs of these uuids or beginnings of one. As in CUDA an unknown or ambiguous name ends the list."""
    chosen = []
    for name in names:
        matching = [row for row in rows if row.uuid.startswith(name)]
        if len(matching) != 1:
            break
        chosen += matching
    return chosen if len(set(chosen)) == len(chosen) else []  # CUDA takes a GPU given twice for a mistake


def _parts(names: list[str]) -> list[GPU]:
    """Parts of GPUs by their uuids. One process sees one of them, so each is asked for by its own."""
    names = list(dict.fromkeys(names))
    with ThreadPoolExecutor() as pool:
        found = pool.map(_memory_by_torch, names)
        return [GPU(name, memory) for name, memories in zip(names, found, strict=True) for memory in memories]


def _by_torch(names: list[str] | None) -> list[GPU]:
    """What torch sees of the GPUs of these names, which are those of CUDA_VISIBLE_DEVICES if set."""
    memories = _memory_by_torch()
    names = names or [str(number) for number in range(len(memories))]
    return [GPU(name, memory) for name, memory in zip(names, memories, strict=False)]


def _memory_by_torch(visible: str | None = None) -> list[float]:
    """MiB of every GPU that a process with this CUDA_VISIBLE_DEVICES (None: ours) sees, in CUDA's order."""
    answer = _answer(PROBE, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    try:
        return json.loads(answer)
    except ValueError:
        warnings.warn(
            "there is an NVIDIA driver, but torch cannot say which GPUs there are, so none is used; "
            f"{pasted(['python', '-c', 'import torch; torch.cuda.init()'])} may tell why"
        )
        return []


def _answer(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints; "" if it is not there, fails, or takes too long."""
    environment = {**os.environ, **(environment or {})}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, timeout=PATIENCE
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _has_driver() -> bool:
    """Whether CUDA can be there at all; asking torch instead would take seconds on every other machine."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def places_on(gpus: list[GPU], per_gpu: int) -> list[GPU]:
    """A GPU for every run that may go on at once; one run where the memory to share is not known."""
    unknown = [gpu.name for gpu in gpus if gpu.memory_mb is None]
    if unknown and per_gpu > 1:
        warnings.warn(
            f"the memory of {', '.join(unknown)} is not known: one run at a time there, not {per_gpu}"
        )
    return gpus + [gpu for gpu in gpus if gpu.memory_mb is not None] * (per_gpu - 1)


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


def fits(peak: float | None, beside: list[float | None], memory_mb: float | None) -> bool:
    """Whether a run may start beside others on a GPU: if its memory and all peaks are known and fit."""
    if not beside:
        return True
    peaks = [peak, *beside]
    return None not in (*peaks, memory_mb) and sum(peaks) + CONTEXT_MB * len(peaks) <= USABLE * memory_mb
