"""Checks, and what is measured: python -m benchmarks.gpu [--quick | --full]"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.gpu.context import Context
from benchmarks.gpu.harness import Check, dump, run
from benchmarks.gpu.tables import markdown
from clipfit.io.commands import PATH
from dassl.utils import atomic_write, available_cores

FORMAT = 1
LIMITS = {"quick": 170, "rates": 350, "full": 3600}  # seconds for everything
MACHINE = Check("machine", "benchmarks.gpu.machine:look")  # first, since it says what can run

TRAINING, STEP, SHARING, RATES = (
    f"benchmarks.gpu.{name}" for name in ("training", "step", "sharing", "rates")
)
CHECKS = (
    Check("methods", f"{TRAINING}:methods", cores=8),
    Check("no_compiler", f"{TRAINING}:no_compiler", needs_gpu=True),
    Check("step_against_cpu", f"{STEP}:against_cpu", cores=4),
    Check("deterministic", f"{TRAINING}:deterministic", cores=2),
    Check("kill_and_resume", f"{TRAINING}:kill_and_resume", cores=2),
    Check("prograd_temperature", f"{TRAINING}:prograd_temperature", cores=4),
    Check("two_runs_a_gpu", f"{SHARING}:two_runs", needs_gpu=True, alone=True),
    Check("sticky_error", f"{SHARING}:sticky_error", needs_gpu=True),
    Check("clipfit_step", f"{STEP}:clipfit_step", needs_gpu=True, alone=True),
    Check("half_precision", f"{TRAINING}:half_precision", cores=2),
    MACHINE,
)
MEASUREMENTS = (
    Check("graphs", f"{TRAINING}:graphs", cores=8, needs_gpu=True),
    Check("steps", f"{RATES}:steps", alone=True),
    Check("tests", f"{RATES}:tests", alone=True),
    Check("runs_at_once", f"{SHARING}:many_runs", needs_gpu=True, alone=True),
    MACHINE,
)
PARTS = {"quick": CHECKS, "rates": MEASUREMENTS, "full": (*CHECKS[:-1], *MEASUREMENTS)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write; returns the exit status: 0 if no check failed."""
    args = parse_arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the checks' processes end too
    report = ReportFile(Path(args.out), args.part)
    folder = Path(tempfile.mkdtemp(prefix="clipfit-gpu-"))
    quick = args.part != "full"
    settings = Context(args.device, quick, available_cores(), folder, folder / "data", folder / "none")
    until = time.monotonic() + args.limit
    try:
        run([MACHINE], settings, args.limit / 2, until, report.take_machine)
        settings.device = settings.device or ("cuda" if report.has_gpu else "cpu")
        report.begin(settings.device)
        others = [check for check in PARTS[args.part] if check != MACHINE]
        run(others, settings, args.limit / 2, until, report.take)
        return report.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="How fast is this GPU? Under six minutes."
    )
    parts = parser.add_mutually_exclusive_group()
    quick, full = "does it work? shortened recipes, under three minutes", "both, recipes in full: an hour"
    parts.add_argument("--quick", dest="part", action="store_const", const="quick", help=quick)
    parts.add_argument("--full", dest="part", action="store_const", const="full", help=full)
    parser.add_argument("--out", type=PATH, default="output/gpu.json", help="(default output/gpu.json)")
    parser.add_argument("--limit", type=float, help="seconds for everything; a check gets half of them")
    parser.add_argument("--device", default="", choices=["cuda", "cpu"], help="default: a GPU, if any")
    parser.set_defaults(part="rates")
    args = parser.parse_args(argv)
    args.limit = args.limit or LIMITS[args.part]
    return args


class ReportFile:
    """The JSON file and its tables beside it, whole after every check, and the summary on standard output."""

    def __init__(self, path: Path, part: str):
        self._order = [check.name for check in PARTS[part]]
        self._path, self._begun = path, time.monotonic()
        self._entries: dict[str, dict] = {}
        self._content = {
            "format": FORMAT,
            "benchmark": "gpu",
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": ["python", "-m", "benchmarks.gpu", *sys.argv[1:]],
            "quick": part == "quick",
            "part": part,
            "cores": available_cores(),
            "finished": False,
        }

    @property
    def has_gpu(self) -> bool:
        return bool(self._entries["machine"].get("numbers", {}).get("card"))

    def take_machine(self, entry: dict) -> None:
        self._entries["machine"] = entry
        self._write()

    def begin(self, device: str) -> None:
        """Say what the checks run on."""
        self._content["device"] = device
        seen = self._entries["machine"].get("numbers", {})
        card = seen.get("card") if device == "cuda" else None
        versions = f"torch {seen.get('torch', 'unknown')}, {available_cores()} cores"
        print(f"{card or 'no GPU: what a CPU can check is run'}; {versions}", flush=True)
        self._show(self._entries["machine"])

    def take(self, entry: dict) -> None:
        self._entries[entry["name"]] = entry
        self._write()
        self._show(entry)

    def end(self) -> int:
        self._content["finished"] = True
        self._write()
        counts = Counter(entry["status"] for entry in self._entries.values())
        summary = ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "skipped"))
        gpu = "" if self._content["device"] == "cuda" else "; no GPU"
        print(f"{summary} in {time.monotonic() - self._begun:.0f} s{gpu}; {self._path}", flush=True)
        return 1 if counts["failed"] else 0

    def _show(self, entry: dict) -> None:
        line = f"{entry['status']:8}{entry['name']:21}{entry['seconds']:6.1f} s  {entry['detail']}"
        print(line.rstrip(), flush=True)

    def _write(self) -> None:
        checks = sorted(self._entries.values(), key=lambda entry: self._order.index(entry["name"]))
        content = {**self._content, "seconds": round(time.monotonic() - self._begun, 1), "checks": checks}
        with atomic_write(self._path) as file:
            file.write(dump(content))
        if tables := markdown(content):
            with atomic_write(self._path.with_suffix(".md")) as file:
                file.write(tables)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # many processes side by side; checks that compute say more
    sys.exit(main())
