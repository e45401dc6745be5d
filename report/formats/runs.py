"""The runs behind the numbers: what each used, and the environments that they share."""

import json
from collections import Counter
from dataclasses import dataclass

from report.model import ReportedRun
from report.results import milliseconds_per_image

LISTS = "lists"  # digests of image lists belong to a data set, not to an environment


@dataclass(frozen=True)
class RunRow:
    """One run as the table of runs shows it; None where it is not known."""

    run: ReportedRun
    accuracy: float | None  # percent
    params: int | None  # trained parameters
    ms_per_image: float | None  # of training, per epoch
    memory_mb: float | None
    help: tuple[str, ...]  # what it used beside the training images
    environment: int | None  # number of its environment, from 1

    @property
    def precision(self) -> str:
        return self.run.result.get("precision") or ""

    @property
    def backbone(self) -> str:
        return self.run.result.get("backbone") or ""

    @property
    def facts(self) -> dict[str, str]:
        return facts(self.run.environment)


def facts(environment: dict) -> dict[str, str]:
    """What a reader asks first of an environment.json; empty where it does not say."""
    packages = environment.get("packages", {})
    named = {
        "commit": _short(environment.get("commit") or ""),
        "torch": packages.get("torch"),
        "device": environment.get("device"),
        "CUDA": environment.get("cuda"),
        "threads": environment.get("threads"),
        "deterministic": {True: "yes", False: "no"}.get(environment.get("deterministic")),
        "Python": environment.get("python"),
        "platform": environment.get("platform"),
    }
    return {name: "" if value is None else str(value) for name, value in named.items()}


def _short(commit: str) -> str:
    """Seven digits of a commit, with "+" where files differed from it."""
    return commit[:7] + ("+" if commit.endswith("+changes") else "")


def run_rows(runs: tuple[ReportedRun, ...]) -> tuple[list[RunRow], list[dict]]:
    """Rows of the table of runs, and each different environment once, in order of appearance."""
    numbers: dict[str, int] = {}
    environments = []
    rows = []
    for run in runs:
        environment = {name: value for name, value in run.environment.items() if name != LISTS}
        key = json.dumps(environment, sort_keys=True)
        if environment and key not in numbers:
            numbers[key] = len(numbers) + 1
            environments.append(environment)
        rows.append(_row(run, numbers.get(key)))
    return rows, environments


def _row(run: ReportedRun, environment: int | None) -> RunRow:
    result = run.result
    return RunRow(
        run,
        accuracy=result.get("accuracy"),
        params=result.get("trainable_params"),
        ms_per_image=milliseconds_per_image(result),
        memory_mb=result.get("peak_memory_mb"),
        help=tuple(result.get("extras") or ()),
        environment=environment,
    )


def states(runs: tuple[ReportedRun, ...]) -> str:
    """ "12 done, 3 todo": how many runs are in which state."""
    return ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).items())
