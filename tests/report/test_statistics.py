"""Average ranks and the signed-rank test, against hand-made ranks and the enumeration of all signs."""

from functools import partial
from itertools import product

import pytest

from grid.plan import plan
from report import selection
from report.definitions import load
from report.paper import SHIPPED, Paper
from report.statistics import average_ranks, compare, wilcoxon

PAPER = Paper.read(SHIPPED)
TABLES = load(PAPER)
Selection = partial(selection.Selection, PAPER)


def two_sided(differences):
    """P(|W - mean| >= observed) over all signs, with mid-ranks; the definition, slowly."""
    sizes = sorted(abs(d) for d in differences)
    ranks = [sizes.index(abs(d)) + 1 + (sizes.count(abs(d)) - 1) / 2 for d in differences]
    centre = sum(ranks) / 2
    observed = abs(sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0) - centre)
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in product((0, 1), repeat=len(ranks))
    ]
    return sum(abs(total - centre) >= observed - 1e-9 for total in sums) / len(sums)


@pytest.mark.parametrize(
    "differences",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [1.2, -0.4, 3.1, 2.2, -0.9, 0.3, 1.7],
        [1.0, 1.0, -1.0, 2.0, 2.0, 3.0, -0.5],  # ties
        [-1.5, -0.3, 0.2, -2.4, -0.8, -1.1, -3.0, 0.6, -0.7, -1.9, -0.1],
    ],
)
def test_p_is_the_share_of_signs_that_are_as_extreme(differences):
    p_value, note = wilcoxon(differences)
    assert p_value == pytest.approx(two_sided(differences))
    assert note == ""


def test_six_differences_of_one_sign_are_the_least_that_can_be_significant():
    assert wilcoxon([1, 2, 3, 4, 5, 6])[0] == pytest.approx(2 / 2**6)


def test_fewer_than_six_data_sets_are_too_few():
    assert wilcoxon([1.0] * 5) == (None, "too few data sets: 5, at least 6 are needed")
    assert wilcoxon([]) == (None, "too few data sets: 0, at least 6 are needed")


def test_data_sets_without_a_difference_are_left_out():
    p_value, note = wilcoxon([1.0, 2.0, 0.0, 3.0, -4.0, 5.0, 6.0])
    assert p_value == pytest.approx(two_sided([1, 2, 3, -4, 5, 6]))
    assert note == "1 without a difference left out"
    assert wilcoxon([0.0] * 11)[1] == "too few data sets with a difference: 0, at least 6 are needed"
    assert wilcoxon([0.1 + 0.2 - 0.3] * 3 + [1, 2, 3, 4, 5])[0] is None  # rounding is no difference


def test_ranks_are_averaged_and_equal_scores_share_them():
    scores = {
        "a": {"x": 90, "y": 80, "z": 70},
        "b": {"x": 80, "y": 80, "z": 90},
        "c": {"x": 70, "y": 80, "z": 70},
    }
    ranks = average_ranks(scores)
    assert ranks == {"a": (1 + 2 + 2.5) / 3, "b": (2 + 2 + 1) / 3, "c": (3 + 2 + 2.5) / 3}


def test_ranks_are_over_the_data_sets_that_all_have():
    assert average_ranks({"a": {"x": 1, "y": 9}, "b": {"x": 2}}) == {"a": 2, "b": 1}
    assert average_ranks({"a": {"x": 1}, "b": {"y": 2}}) == {}


def outcomes_of(table, selection, accuracy, folder):
    outcomes = plan(TABLES[table].specs(selection), folder, "data")
    for spec, run in outcomes.items():
        run.result = {"accuracy": accuracy(spec), "extras": []}
    return outcomes


def test_tables_1_10_11_and_12_are_compared_over_data_sets():
    assert [name for name, table in TABLES.items() if table.statistics] == [
        "table1",
        "table10",
        "table11",
        "table12",
    ]


def test_methods_are_compared_by_their_means_over_seeds(tmp_path):
    selection = Selection(("demo",), methods=("CoOp", "CLIPFit"), seeds=(1, 2))
    size = {name: number for number, name in enumerate(PAPER.family_of("demo").datasets)}

    def accuracy(spec):
        better = 1 + size[spec.dataset] if spec.trainer == "CLIPFit" else 0
        return 50 + better + (spec.seed if spec.shots == 16 else 0)

    outcomes = outcomes_of("table10", selection, accuracy, tmp_path)
    (found,) = compare(TABLES["table10"], selection, outcomes)
    assert (found.table, found.embedded, found.title) == (
        "table10",
        True,
        "accuracy over data sets, 16 shots",
    )
    assert found.average_rank == {"CoOp": 2, "CLIPFit": 1}
    (pair,) = found.comparisons
    assert (pair.first, pair.second, pair.datasets) == ("CoOp", "CLIPFit", 6)
    assert pair.mean_difference == pytest.approx(-3.5)
    assert pair.p_value == pytest.approx(2 / 2**6)


def test_few_data_sets_are_ranked_but_not_tested(tmp_path):
    selection = Selection(("dtd", "eurosat"), methods=("CoOp", "CLIPFit"), seeds=(1,))
    outcomes = outcomes_of("table1", selection, lambda spec: 60 + (spec.trainer == "CLIPFit"), tmp_path)
    (found,) = compare(TABLES["table1"], selection, outcomes)
    assert found.average_rank == {"CoOp": 2, "CLIPFit": 1}
    assert found.comparisons[0].p_value is None
    assert "too few data sets: 2" in found.comparisons[0].note


def test_nothing_is_compared_without_two_methods_that_have_numbers(tmp_path):
    selection = Selection(("demo",), methods=("CLIPFit",), seeds=(1,))
    assert (
        compare(TABLES["table1"], selection, outcomes_of("table1", selection, lambda spec: 1, tmp_path)) == []
    )
    assert compare(TABLES["table1"], Selection(("demo",)), {}) == []
    assert compare(TABLES["table2"], Selection(("demo",)), {}) == []
    assert compare(TABLES["table10"], Selection(("demo",), shots=(4,)), {}) == []
