"""What a table says of a method in words, read from its training runs: their configs, and their results.

budget      length of a training: epochs, or optimizer steps
tuned       whether settings differ between data sets, or were searched on each; a footnote names them
inference   whence a class has its features, as results call it: unified, per-class, ...
source      where the printed numbers stand; in tables with a print only

`facts` of a row say what its paper or release says. Where a run says otherwise of itself, the run counts;
what they say of budget and tuning is about the printed data sets and stands beside the print only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dassl.config import flatten
from report.model import Cell, Head

if TYPE_CHECKING:
    from grid.plan import Planned

SOURCE = "source"
WORDS = {
    "budget": Head("budget", unit="words"),
    "tuned": Head("tuned per data set", unit="words"),
    "inference": Head("inference", unit="words"),
    SOURCE: Head("printed in", unit="words"),
}
UNKNOWN = "–"
SETTINGS = ("OPTIM.", "TRAINER.", "LOSS.", "INPUT.", "DATALOADER.TRAIN_X.")  # that may be tuned
SEARCH = "search"  # in what a result names as extra help


def cell(word: str, facts: dict[str, str], runs: list[Planned], trains: bool, printed: bool) -> Cell:
    """The cell of a word and a method.

    Args: facts of its row; runs, of its trainings that the table is about; trains, whether it trains at all;
          printed, whether a print stands beside them
    """
    if word == "tuned":
        return _tuned(runs, facts.get(word, "") if printed else "")
    if word == "budget" and not trains:
        return Cell(words="none")
    stated = facts.get(word, UNKNOWN) if printed or word == "inference" else UNKNOWN
    told = {"budget": _budget, "inference": _inference}.get(word, lambda runs: "")(runs)
    return Cell(words=told or stated)


def _budget(runs: list[Planned]) -> str:
    """ "50 epochs", "10 to 100 epochs", "4,800 steps"."""
    lengths: dict[str, set[int]] = {}
    for run in runs:
        optim = run.family.OPTIM
        unit, length = ("step", optim.MAX_STEPS) if optim.MAX_STEPS else ("epoch", optim.MAX_EPOCH)
        lengths.setdefault(unit, set()).add(length)
    return " or ".join(_span(numbers, unit) for unit, numbers in lengths.items())


def _span(numbers: set[int], unit: str) -> str:
    ends = " to ".join(f"{number:,}" for number in sorted({min(numbers), max(numbers)}))
    return f"{ends} {unit}" if numbers == {1} else f"{ends} {unit}s"


def _tuned(runs: list[Planned], fact: str) -> Cell:
    by_dataset = {run.spec.dataset: run for run in runs}
    settings = [flatten(run.family) for run in by_dataset.values()]
    keys = [key for key in (settings[0] if settings else ()) if key.startswith(SETTINGS)]
    differing = [key for key in keys if any(one.get(key) != settings[0][key] for one in settings)]
    extras = dict.fromkeys(word for run in runs for word in (run.result or {}).get("extras") or ())
    reasons = [f"differ between data sets: {', '.join(differing)}"] if differing else []
    reasons += [f"in the runs: {word}" for word in extras if SEARCH in word]
    reasons += [fact] if fact else []
    if reasons:
        return Cell(words="yes", footnotes=tuple(reasons))
    return Cell(words="no" if len(settings) > 1 else UNKNOWN)


def _inference(runs: list[Planned]) -> str:
    told = (run.result.get("inference") for run in runs if run.result)
    return ", ".join(sorted(filter(None, set(told))))
