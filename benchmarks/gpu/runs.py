"""Runs of train.py on the embedded data, as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from benchmarks.gpu.context import Context
from benchmarks.gpu.harness import PROJECT
from dassl.run_folder import METRICS, all_checkpoints, read_result

LOG_LINES = 5


class TrainRun:
    """One command line of train.py with its folder, on the base classes of ``demo``.

    Args: name, of its folder; pairs, KEY VALUE words; flags, words before them; environment, variables that
          differ (None: removed); images, a list of own pictures instead of ``demo``
    """

    def __init__(
        self,
        context: Context,
        name: str,
        trainer: str,
        *pairs: object,
        flags: Iterable[str] = (),
        environment: Mapping[str, str | None] | None = None,
        images: Path | None = None,
    ):
        self.trainer, self.folder = trainer, context.folder / name
        demo = str(PROJECT / "configs/datasets/demo.yaml")
        data = ("--protocol", "base2new", "--root", str(context.root), "--dataset-config-file", demo)
        self.words = [
            *("--trainer", trainer, "--seed", "1", *(("--images", str(images)) if images else data)),
            *("--output-dir", str(self.folder), *flags, "VERBOSE", "False"),
            *([] if context.on_gpu else ["USE_CUDA", "False"]),
            *map(str, pairs),
        ]
        changed = {**os.environ, **(environment or {})}
        self._environment = {key: value for key, value in changed.items() if value is not None}
        self._output = context.folder / f"{name}.txt"
        self.process: subprocess.Popen | None = None

    def start(self) -> TrainRun:
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with open(self._output, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(PROJECT / "train.py"), *self.words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=PROJECT,
            )
        return self

    def wait(self) -> int:
        return self.process.wait()

    @property
    def failed(self) -> str:
        """The exit status and the last lines of what it printed; empty if it ended well."""
        if self.process.returncode == 0:
            return ""
        said = self._output.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return f"exit status {self.process.returncode}: {' / '.join(said)}"

    @cached_property
    def result(self) -> dict:
        """result.json of a run that has ended; empty if there is none."""
        return read_result(self.folder) or {}

    @property
    def metrics(self) -> str:
        """metrics.jsonl so far."""
        path = self.folder / METRICS
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def losses(self) -> list[float]:
        return [json.loads(line)["loss"] for line in self.metrics.splitlines()]


def run_all(runs: Iterable[TrainRun], at_once: int) -> None:
    """Start the runs in this order, at most so many at once, and wait for all."""
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda run: run.start().wait(), runs))


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two run folders in metrics.jsonl and in the tensors of their checkpoints."""
    from dassl.utils import load_checkpoint

    texts = [
        path.read_text(encoding="utf-8") if path.is_file() else ""
        for path in (one / METRICS, other / METRICS)
    ]
    found = [] if texts[0] == texts[1] else [_first_difference(*texts)]
    files = sorted({path.relative_to(run) for run in (one, other) for path in all_checkpoints(run)})
    for file in files:
        if not ((one / file).is_file() and (other / file).is_file()):
            found.append(f"{file} is in one folder only")
            continue
        states = [load_checkpoint(run / file)["state_dict"] for run in (one, other)]
        names = states[0].keys() | states[1].keys()
        unequal = [
            name
            for name in sorted(names)
            if name not in states[0] or name not in states[1] or not states[0][name].equal(states[1][name])
        ]
        if unequal:
            found.append(f"{file}: {len(unequal)} of {len(names)} tensors differ, such as {unequal[0]}")
    return found


def _first_difference(one: str, other: str) -> str:
    lines = one.splitlines(), other.splitlines()
    for number, (left, right) in enumerate(zip(*lines, strict=False), start=1):
        if left != right:
            return f"{METRICS} differs from line {number}: {left} / {right}"
    return f"{METRICS} has {len(lines[0])} lines, and {len(lines[1])}"
