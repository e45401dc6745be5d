"""Runs that share a GPU: their memory beside the grid's prediction, and a broken one before a healthy one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.context import Context, Skipped
from benchmarks.gpu.harness import PROJECT
from benchmarks.gpu.runs import TrainRun
from grid.gpus import CONTEXT_MB, USABLE, visible_gpus

PLUGIN = Path(__file__).with_name("device_assert.py")
AT_ONCE = (1, 2, 4, 8)
BATCH = 32  # pictures of a step
NOT_CODE = ("tests", "docs", "output", "data")


def two_runs(context: Context) -> str:
    """Memory of two runs at once, as nvidia-smi counts it, beside the sum that the grid reckons with."""
    gpus = visible_gpus()
    if not gpus:
        raise Skipped("nvidia-smi names no GPU")
    before = _used_mb(gpus[0].name)
    flags = ("--backbone", "random:ViT-B/16")
    pairs = ("OPTIM.MAX_EPOCH", 10, "DATALOADER.NUM_WORKERS", 4)
    runs = [TrainRun(context, f"run{number}", "CLIPFit", *pairs, flags=flags).start() for number in (1, 2)]
    most = before
    while any(run.process.poll() is None for run in runs):
        most = max(most, _used_mb(gpus[0].name))
        time.sleep(0.05)
    for run in runs:
        if run.failed:
            context.problem(run.failed)
    if context.problems:
        return ""
    peaks = [run.result["peak_memory_mb"] for run in runs]
    predicted, measured = sum(peaks) + len(peaks) * CONTEXT_MB, most - before
    beside_tensors = (measured - sum(peaks)) / len(peaks)
    context.numbers.update(
        peaks_mb=peaks,
        context_mb=CONTEXT_MB,
        predicted_mb=predicted,
        set_aside_mb=predicted / USABLE,
        measured_mb=measured,
        beside_tensors_mb=beside_tensors,
        steps=[len(run.losses()) for run in runs],
        seconds_train=[run.result.get("seconds_train") for run in runs],
    )
    said = (
        f"two runs took {measured:,.0f} MiB, predicted {predicted:,.0f} (a run takes {beside_tensors:,.0f} "
        f"beside its tensors; CONTEXT_MB is {CONTEXT_MB})"
    )
    if measured > predicted / USABLE:
        context.problem(f"more than the grid sets aside, {predicted / USABLE:,.0f} MiB")
    return said


def many_runs(context: Context) -> str:
    """Small runs at once on one GPU: what each and all of them train in a second, and the memory in use."""
    gpus = visible_gpus()
    if not gpus:
        raise Skipped("nvidia-smi names no GPU")
    rows = context.numbers["rows"] = []
    for count in AT_ONCE:
        before = most = _used_mb(gpus[0].name)
        pairs = ("OPTIM.MAX_EPOCH", 20, "OPTIM.WARMUP_EPOCH", 0, "DATALOADER.NUM_WORKERS", 0, "THREADS", 1)
        flags = ("--backbone", "random:ViT-B/16")
        names = [f"{count}/run{number}" for number in range(count)]
        runs = [TrainRun(context, name, "CLIPFit", *pairs, flags=flags).start() for name in names]
        while any(run.process.poll() is None for run in runs):
            most = max(most, _used_mb(gpus[0].name))
            time.sleep(0.05)
        failed = [run.failed for run in runs if run.failed]
        for words in failed:
            context.problem(f"{count} at once: {words}")
        rates = [BATCH * len(run.losses()) / run.result["seconds_train"] for run in runs if not run.failed]
        rows.append({"runs": count, "pictures_per_s": sum(rates), "used_mb": most - before})
        context.save()
        if failed:
            break
    return "; ".join(f"{row['runs']} at once {row['pictures_per_s']:,.0f} pictures/s" for row in rows)


def _used_mb(gpu: str) -> float:
    """Memory of a GPU in use, by all processes, in MiB."""
    query = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    try:
        return float(answer)
    except ValueError:
        raise Skipped(f"nvidia-smi tells no memory in use: {answer!r}") from None


def sticky_error(context: Context) -> str:
    """A run whose kernel fails an assertion, then a healthy run in the same slot of the grid."""
    copy = context.folder / "project"
    _copy_project(copy)
    shutil.copy(PLUGIN, copy / "trainers" / PLUGIN.name)
    paths = [str(copy), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.sticky_grid", str(context.root), str(context.folder / "runs")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode or not done.stdout.strip():
        context.problem(f"the grid ended with status {done.returncode}")
        return ""
    context.numbers.update(json.loads(done.stdout.splitlines()[-1]))
    ended, failed = context.numbers["done"], context.numbers["failed"]
    if "CLIPFit" not in ended:
        context.problem(f"the healthy run did not end well: {failed.get('CLIPFit', 'no reason is known')}")
    if context.on_gpu and "CUDA" not in failed.get("DeviceAssert", ""):
        context.problem("the broken run did not end in a CUDA error")
    return f"the broken run: {failed.get('DeviceAssert', '')}; the healthy run behind it: {', '.join(ended)}"


def _copy_project(target: Path) -> None:
    """The code and the configs as they are here, where a plugin can be added without a trace."""
    target.mkdir()
    for path in sorted(PROJECT.iterdir()):
        if path.is_file() and path.suffix == ".py":
            shutil.copy(path, target)
        elif path.is_dir() and path.name not in NOT_CODE and _holds_code(path):
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))


def _holds_code(folder: Path) -> bool:
    return folder.name == "configs" or (not folder.name.startswith(".") and any(folder.glob("*.py")))
