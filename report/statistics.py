"""Methods compared over data sets: average rank, and Wilcoxon's signed-rank test between any two of them."""

from itertools import combinations, product
from statistics import fmean

from report.definitions import Definition
from report.model import Comparison, Statistics
from report.results import Outcomes, Part, parts
from report.selection import Selection

FEWEST = 6  # data sets: with five, the smallest two-sided p is 2 / 2^5 = 0.0625
SAME = 9  # decimals; scores that agree so far are equal, whatever the order they were added up in
LABELS = {"hm": "HM"}  # the other metrics are called as they are

Scores = dict[str, dict[str, float]]  # method -> data set -> mean over seeds


def compare(definition: Definition, selection: Selection, outcomes: Outcomes) -> list[Statistics]:
    """The statistics of a table: one per family of data sets; none if it has none."""
    asked = definition.statistics
    shots = asked.get("shots", definition.shots[0])
    if not asked or not selection.of_shots((shots,)):
        return []
    label = LABELS.get(asked["metric"], asked["metric"])
    found = []
    for part in parts(definition, selection, outcomes):
        scores, family = _scores(part, shots, asked["metric"]), part.family
        if len(scores) > 1:
            found.append(
                Statistics(
                    table=definition.id,
                    title=f"{label} over data sets, {shots} shots{family.remark}",
                    average_rank=average_ranks(scores),
                    comparisons=tuple(_compare(a, b, scores) for a, b in combinations(scores, 2)),
                    embedded=family.embedded,
                )
            )
    return found


def _scores(part: Part, shots: int, metric: str) -> Scores:
    """Of the methods that have a number."""
    scores: Scores = {}
    for row, dataset in product(part.methods, part.datasets):
        if (mean := part.mean(row, dataset, shots, metric)) is not None:
            scores.setdefault(row.name, {})[dataset] = mean
    return scores


def average_ranks(scores: Scores) -> dict[str, float]:
    """Mean rank of each method over the data sets that all have; 1 is best, equal scores share their ranks.

    Empty if there is no such data set.
    """
    datasets = _shared(list(scores.values()))
    ranks = [_ranks({method: scores[method][dataset] for method in scores}) for dataset in datasets]
    return {method: fmean(rank[method] for rank in ranks) for method in scores} if ranks else {}


def _ranks(by_method: dict[str, float]) -> dict[str, float]:
    rounded = {method: round(score, SAME) for method, score in by_method.items()}
    better = {method: sum(other > score for other in rounded.values()) for method, score in rounded.items()}
    equal = {method: sum(other == score for other in rounded.values()) for method, score in rounded.items()}
    return {method: better[method] + (equal[method] + 1) / 2 for method in rounded}


def _compare(first: str, second: str, scores: Scores) -> Comparison:
    datasets = _shared([scores[first], scores[second]])
    differences = [scores[first][name] - scores[second][name] for name in datasets]
    p_value, note = wilcoxon(differences)
    mean = fmean(differences) if differences else 0.0
    return Comparison(first, second, len(datasets), mean, p_value, note)


def wilcoxon(differences: list[float]) -> tuple[float | None, str]:
    """Two-sided p of Wilcoxon's signed-rank test, and a note; data sets without a difference are left out.

    p is exact, equal differences or not: over all 2^n signs. It is None where fewer than six data sets are
    left, of which no outcome would be significant at 0.05.
    """
    kept = [rounded for value in differences if (rounded := round(value, SAME))]
    equal = len(differences) - len(kept)
    if len(kept) < FEWEST:
        what = "with a difference" if equal else ""
        return None, f"too few data sets {what}".rstrip() + f": {len(kept)}, at least {FEWEST} are needed"
    from scipy import stats  # half a second, and not always needed

    every_sign = stats.PermutationMethod(n_resamples=2 ** len(kept))
    note = f"{equal} without a difference left out" if equal else ""
    return float(stats.wilcoxon(kept, method=every_sign).pvalue), note


def _shared(scores: list[dict[str, float]]) -> list[str]:
    """The data sets that all of them have."""
    return [name for name in scores[0] if all(name in others for others in scores)] if scores else []
