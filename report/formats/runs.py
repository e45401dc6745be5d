"""The runs behind the numbers: what each used, and the environments that they share."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from report.model import ReportedRun
from report.numbers import milliseconds_per_image

# What of a start is its environment: not when it was, nor what it read.
ENVIRONMENT = (
    "python",
    "platform",
    "packages",
    "device",
    "cuda",
    "threads",
    "ranks",
    "kernels",
    "deterministic",
)
COMMITS = "commits"  # of all starts in an environment


@dataclass(frozen=True)
class RunRow:
    """One run as the table of runs shows it; None where it is not known."""

    run: ReportedRun
    accuracy: float | None  # percent
    params: int | None  # trained parameters
    ms_per_image: float | None  # of training, per epoch
    memory_mb: float | None
    help: tuple[str, ...]  # what it used beside the training images
    environments: tuple[int, ...]  # numbers of those that its starts had, from 1

    @property
    def precision(self) -> str:
        return self.run.result.get("precision") or ""

    @property
    def backbone(self) -> str:
        return self.run.result.get("backbone") or ""

    @property
    def facts(self) -> dict[str, str]:
        """Of its last start, with the commits of all."""
        starts = self.run.starts
        return facts({**starts[-1], COMMITS: _commits(starts)} if starts else {})


def facts(environment: dict) -> dict[str, str]:
    """What a reader asks first of an environment; empty where it does not say."""
    packages = environment.get("packages", {})
    named = {
        "commit": ", ".join(environment.get(COMMITS, ())),
        "torch": packages.get("torch"),
        "device": environment.get("device"),
        "CUDA": environment.get("cuda"),
        "threads": environment.get("threads"),
        "deterministic": {True: "yes", False: "no"}.get(environment.get("deterministic")),
        "Python": environment.get("python"),
        "platform": environment.get("platform"),
    }
    return {name: "" if value is None else str(value) for name, value in named.items()}


def _commits(starts: Iterable[dict]) -> list[str]:
    """Each once: seven digits, "+" behind them where files differed from it, "none" where git told none."""
    shown = [_short(start["commit"]) if start["commit"] else "none" for start in starts if "commit" in start]
    return list(dict.fromkeys(shown))


def _short(commit: str) -> str:
    return commit[:7] + ("+" if commit.endswith("+changes") else "")


# Environments ---------------------------------------------------------------------------------------


def run_rows(runs: tuple[ReportedRun, ...]) -> tuple[list[RunRow], list[dict]]:
    """Rows of the table of runs, and each different environment once, in order of appearance.

    Starts share an environment if whatever both tell of theirs agrees: older versions told less, and listed
    the packages that were imported.
    """
    environments: list[dict] = []
    rows = [_row(run, [_number(start, environments) for start in run.starts]) for run in runs]
    return rows, environments


def _number(start: dict, environments: list[dict]) -> int:
    """The number of a start's environment, from 1; adds what it tells to that one, or a new one."""
    told = {name: start[name] for name in ENVIRONMENT if name in start}
    position = next((n for n, known in enumerate(environments) if _agree(known, told)), len(environments))
    if position == len(environments):
        environments.append({COMMITS: []})
    known = environments[position]
    packages = {**known.get("packages", {}), **told.get("packages", {})}
    known.update({**told, **({"packages": packages} if packages else {})})
    known[COMMITS] = list(dict.fromkeys([*known[COMMITS], *_commits([start])]))
    return position + 1


def _agree(one: dict, other: dict) -> bool:
    """Whether two environments are equal in everything that both tell."""
    both = one.keys() & other.keys() - {"packages"}
    packages = one.get("packages", {}), other.get("packages", {})
    return all(one[name] == other[name] for name in both) and all(
        packages[0][name] == packages[1][name] for name in packages[0].keys() & packages[1].keys()
    )


def _row(run: ReportedRun, environments: list[int]) -> RunRow:
    result = run.result
    return RunRow(
        run,
        accuracy=result.get("accuracy"),
        params=result.get("trainable_params"),
        ms_per_image=milliseconds_per_image(result),
        memory_mb=result.get("peak_memory_mb"),
        help=tuple(result.get("extras") or ()),
        environments=tuple(dict.fromkeys(environments)),
    )


def states(runs: tuple[ReportedRun, ...]) -> str:
    """ "12 done, 3 todo": how many runs are in which state."""
    return ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).items())
