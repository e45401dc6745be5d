"""What a run writes about itself, beside its log and its checkpoints.

metrics.jsonl      one line per finished step, flushed, full precision
starts.jsonl       a line per start: time, command, commit, versions, device, digests of the image lists
fewshot.json       the images trained on, relative paths, with their digest
"""

import json
import os
import platform
import resource
import shlex
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import torch

from clipfit.io.files import unwritable
from clipfit.io.origins import read_origins
from dassl.code_state import code_state, requirement_versions
from dassl.data.datasets.paths import relative_paths
from dassl.run_folder import read_command
from dassl.utils import atomic_write, list_digest, ranks

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux: peak memory, its reset


class StepLog:
    """Appends one JSON object per finished training step, with ``epoch`` and ``batch`` from 1, to a file."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the training

    def append(self, step: dict) -> None:
        """Raises: OSError naming the file if it cannot be written"""
        try:
            self._file.write(json.dumps(step) + "\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def keep(self, epochs: int, steps: int) -> None:
        """Drop what lies behind the first ``epochs`` and ``steps`` of the next: a resumed run repeats it.

        Raises: ValueError with file and line for damage
        """
        self._file.close()
        numbered = enumerate(_whole_lines(self.path), start=1)
        kept = [line for number, line in numbered if self._place(line, number) <= (epochs + 1, steps)]
        with atomic_write(self.path) as file:
            file.writelines(kept)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def _place(self, line: str, number: int) -> tuple[int, int]:
        """Epoch and batch of a line."""
        try:
            step = json.loads(line)
            epoch, batch = step["epoch"], step.get("batch", 0)
            if "\ufffd" in line or not (type(epoch) is type(batch) is int):
                raise ValueError("it is not a step")
            return epoch, batch
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{self.path}, line {number} is damaged ({type(error).__name__}); restore the file, or start "
                "anew with --redo, which moves the run aside"
            ) from error

    def close(self) -> None:
        with suppress(OSError):  # a full disk, which append has told
            self._file.close()


def _whole_lines(path: Path) -> list[str]:
    """The lines that end in a newline: the last one may be cut where the process was killed."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [line + "\n" for line in lines[:-1]]


def fewshot_file(dataset, cfg, files: dict[str, str] | None = None) -> dict:
    """Content of fewshot.json: the images trained on, in order. Equal digests mean equal paths.

    Args: files, relative path -> sha256 of the content, where that is known
    """
    images = relative_paths(dataset, dataset.train_x, cfg.DATASET.ROOT)
    return {
        "dataset": cfg.DATASET.NAME,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "digest": list_digest(images),
        "images": images,
        **({"files": files} if files is not None else {}),
    }


def start_line(dataset, cfg, device: torch.device, inputs: dict | None = None) -> dict:
    """A line of starts.jsonl: when, what was asked, with which code, on what, with what data.

    Args: inputs, digests of what the run reads; None if nobody took them
    """
    lists = {"train_x": dataset.train_x, "val": dataset.val, "test": dataset.test}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": read_command(cfg.OUTPUT_DIR) or shlex.join(["python", *sys.argv]),
        **code_state(),
        "packages": requirement_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or "cpu",
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "ranks": ranks.size(),
        "kernels": _kernels(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "lists": {
            name: {
                "images": len(items),
                "digest": list_digest(relative_paths(dataset, items, cfg.DATASET.ROOT)),
            }
            for name, items in lists.items()
            if items
        },
        "inputs": inputs,
        "sources": read_origins(os.path.join(cfg.DATASET.ROOT, getattr(dataset, "dataset_dir", ""))),
    }


def peak_memory_mb(device: torch.device) -> float:
    """Most memory since :func:`reset_peak_memory`, in MiB: of the GPU's allocator, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if STATUS.is_file():
        peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10  # KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure anew: one process may do many runs. Where a system cannot, its peak only grows."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        CLEAR_REFS.write_text("5")


def _kernels() -> dict[str, dict[str, bool]]:
    """What a GPU may compute float32 in TF32, and which kernels of attention it may choose from."""
    cuda = torch.backends.cuda
    return {
        "tf32": {
            "convolution": torch.backends.cudnn.conv.fp32_precision == "tf32",
            "matrix product": cuda.matmul.fp32_precision == "tf32",
        },
        "attention": {
            "flash": cuda.flash_sdp_enabled(),
            "memory efficient": cuda.mem_efficient_sdp_enabled(),
            "cudnn": cuda.cudnn_sdp_enabled(),
            "math": cuda.math_sdp_enabled(),
        },
    }
