"""From results of runs to cells: means, spreads, averages, harmonic means, and why a cell is empty.

Runs are planned but not run: their results are made up here, and the numbers worked out by hand.
"""

from functools import partial
from statistics import fmean, pstdev

import pytest

from grid.plan import plan
from report import selection
from report.definitions import load
from report.model import Head
from report.numbers import harmonic_mean, milliseconds_per_image
from report.paper import SHIPPED, Paper
from report.results import reported_runs, tables

PAPER = Paper.read(SHIPPED)
TABLES = load(PAPER)
Selection = partial(selection.Selection, PAPER)
printed = PAPER.print_of


@pytest.fixture
def planned(tmp_path):
    """Plan a table; every run for which ``accuracy`` gives a number is done with that result."""

    def make(table, selection, accuracy=lambda spec: None, **more):
        outcomes = plan(TABLES[table].specs(selection), tmp_path, "data")
        for spec, run in outcomes.items():
            value = accuracy(spec)
            if value is not None:
                run.state, run.result = "done", result(value, **more)
        return outcomes

    return make


def result(accuracy, **more):
    work = {"train_images": 100, "max_epoch": 10, "seconds_train": 4.0, "trainable_params": 46_080}
    return {"accuracy": accuracy, "extras": [], **work, **more}


def only(table, selection, outcomes):
    (made,) = tables(TABLES[table], selection, outcomes)
    return made


def cell(table, row, column):
    """By labels, (group, label) for a row of a group."""
    rows = [(head.group, head.label) if isinstance(row, tuple) else head.label for head in table.rows]
    columns = [head.label for head in table.columns]
    return table.cells[rows.index(row), columns.index(column)]


def by_half(base, new):
    """Accuracies of base-to-new runs by their seed."""
    return lambda spec: (new if spec.eval_only else base).get(spec.seed)


# Numbers --------------------------------------------------------------------------------------------


def test_a_cell_is_the_mean_and_population_sd_over_seeds(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1, 2, 3))
    accuracies = {1: 80.0, 2: 83.0, 3: 86.0}
    table = only("table1", selection, planned("table1", selection, by_half(accuracies, accuracies)))
    ours = cell(table, "base", "CLIPFit").ours
    assert (ours.mean, ours.seeds, ours.reason) == (83.0, (1, 2, 3), "")
    assert ours.sd == pytest.approx(6**0.5)  # squares 9, 0, 9


def test_one_seed_has_no_sd(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(2,))
    table = only("table1", selection, planned("table1", selection, lambda spec: 50.0))
    assert cell(table, "base", "CLIPFit").ours.sd is None


def test_hm_is_that_of_the_mean_accuracies_and_its_sd_that_of_the_seeds(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1, 2))
    accuracy = by_half({1: 60.0, 2: 90.0}, {1: 30.0, 2: 50.0})
    ours = cell(only("table1", selection, planned("table1", selection, accuracy)), "HM", "CLIPFit").ours
    assert ours.mean == pytest.approx(2 * 75 * 40 / 115)
    assert ours.sd == pytest.approx(pstdev([40.0, 2 * 90 * 50 / 140]))


def test_the_average_hm_is_that_of_the_averages(planned):
    selection = Selection(("dtd", "eurosat"), methods=("CLIPFit",), seeds=(1,))
    numbers = {("dtd", False): 80, ("dtd", True): 60, ("eurosat", False): 90, ("eurosat", True): 40}
    outcomes = planned("table1", selection, lambda spec: numbers[spec.dataset, spec.eval_only])
    table = only("table1", selection, outcomes)
    assert cell(table, ("average of 2", "base"), "CLIPFit").ours.mean == 85
    assert cell(table, ("average of 2", "HM"), "CLIPFit").ours.mean == pytest.approx(2 * 85 * 50 / 135)


def test_the_hm_of_the_printed_averages_is_the_printed_hm_of_table_1():
    base, new, hm = (
        printed("table01").get("CLIPFit", shots=16, metric=m).value for m in ("base", "new", "hm")
    )
    assert harmonic_mean(base, new) == pytest.approx(hm, abs=0.005)
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_the_sd_of_an_average_is_over_seeds_not_over_data_sets(planned):
    selection = Selection(("dtd", "eurosat"), methods=("CLIPFit",), shots=(4,), seeds=(1, 2))
    numbers = {("dtd", 1): 10.0, ("dtd", 2): 20.0, ("eurosat", 1): 90.0, ("eurosat", 2): 92.0}
    table = only("table10", selection, planned("table10", selection, lambda s: numbers[s.dataset, s.seed]))
    ours = cell(table, "CLIPFit", "average of 2").ours
    assert (ours.mean, ours.sd) == (53.0, 3.0)  # 50 and 56


def test_the_average_of_a_shift_has_the_source_in_it_and_of_a_transfer_has_not(planned):
    for table, expected in (("table3", fmean([90, 60, 60])), ("table9", 60)):
        selection = Selection(methods=("CLIPFit",), seeds=(1,))
        outcomes = planned(table, selection, lambda spec: 60 if spec.eval_only else 90)
        made = only(table, selection, outcomes)
        assert cell(made, "ImageNet", "CLIPFit").ours.mean == 90
        assert cell(made, "average", "CLIPFit").ours.mean == pytest.approx(expected)


def test_a_gain_is_a_difference_in_points(planned):
    selection = Selection(methods=("KgCoOp",), seeds=(1, 2))
    outcomes = planned("table4", selection, lambda spec: 70 + spec.seed * (2 if spec.config_file else 1))
    table = only("table4", selection, outcomes)
    gain = cell(table, "gain", "base")
    assert (gain.ours.mean, gain.ours.sd) == (1.5, 0.5)  # 1 and 2
    assert gain.printed.text == "1.40"
    assert table.rows[2] == Head("gain", "KgCoOp", unit="points")


def test_parameters_and_time_stand_beside_accuracies(planned):
    selection = Selection(methods=("CLIPFit",), seeds=(1,))
    table = only("table7", selection, planned("table7", selection, lambda spec: 50))
    parameters = cell(table, "CLIPFit", "parameters")
    assert (parameters.ours.mean, parameters.printed.text, parameters.difference) == (46_080, "44k", 2080)
    assert cell(table, "CLIPFit", "time per image").ours.mean == pytest.approx(4.0)  # 4 s, 1,000 images
    shift = only("table3", selection, planned("table3", selection, lambda spec: 50))
    assert cell(shift, ("cost", "parameters"), "CLIPFit").ours.mean == 46_080


def test_zero_shot_clip_is_one_run_for_all_seeds_and_takes_no_time_to_train(planned):
    selection = Selection(("dtd",), methods=("ZeroshotCLIP",), seeds=(2, 3))
    outcomes = planned("table1", selection, lambda spec: 44.0, max_epoch=0, seconds_train=0.0)
    table = only("table1", selection, outcomes)
    base = cell(table, "base", "ZeroshotCLIP")
    assert (base.ours.mean, base.ours.sd, base.ours.seeds, len(base.runs)) == (44.0, None, (2, 3), 1)
    assert any("does not depend on the seed" in note for note in table.notes)
    assert cell(table, ("cost", "time per image"), "ZeroshotCLIP").ours.reason == "not defined"


def test_time_per_image_is_unknown_where_a_result_does_not_say():
    assert milliseconds_per_image({"train_images": None, "max_epoch": 5, "seconds_train": 1.0}) is None


def test_a_cell_names_its_runs_and_the_help_they_had(planned):
    selection = Selection(("dtd",), methods=("TipAdapter",), shots=(16,), seeds=(1, 2))
    outcomes = planned("table10", selection, lambda spec: 50, extras=["val search"])
    one = cell(only("table10", selection, outcomes), "TipAdapter", "DTD")
    assert one.help == ("val search",)
    assert one.runs == tuple(run.name for run in outcomes.values())


# Why a cell is empty --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state, reason",
    [
        ("todo", "not run"),
        ("no data", "data missing"),
        ("failed", "failed"),
        ("unfinished", "unfinished"),
        ("stale", "stale"),
    ],
)
def test_an_empty_cell_says_why(planned, state, reason):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1, 2))
    outcomes = planned("table1", selection)
    for run in outcomes.values():
        run.state = state
    ours = cell(only("table1", selection, outcomes), "HM", "CLIPFit").ours
    assert (ours.mean, ours.sd, ours.seeds, ours.reason) == (None, None, (), reason)


def test_a_damaged_run_costs_its_own_cells_which_say_why(planned):
    selection = Selection(("dtd",), methods=("CoOp", "CLIPFit"), seeds=(1,))
    outcomes = planned("table1", selection, lambda spec: 80)
    for spec, run in outcomes.items():
        if spec.trainer == "CoOp" and spec.eval_only:
            run.folder.mkdir(parents=True)
            (run.folder / "result.json").write_text('{"accuracy": NaN}')
            run.refresh()
    table = only("table1", selection, outcomes)
    for metric in ("new", "HM"):
        ours = cell(table, metric, "CoOp").ours
        assert ours.mean is None and "accuracy is nan, no number" in ours.reason
        assert cell(table, metric, "CLIPFit").ours.mean == 80
    assert cell(table, "base", "CoOp").ours.mean == 80


def test_damaged_starts_cost_no_more_than_what_they_tell(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1,))
    outcomes = planned("table1", selection, lambda spec: 50)
    first, _ = outcomes.values()
    first.folder.mkdir(parents=True)
    (first.folder / "starts.jsonl").write_text("[]\n")
    run, other = reported_runs(PAPER, outcomes)
    assert run.starts == () and "starts.jsonl, line 1 is no start" in run.reason
    assert run.result["accuracy"] == other.result["accuracy"] == 50


def test_a_run_that_nobody_planned_was_not_run():
    selection = Selection(("dtd",), methods=("CLIPFit",))
    assert cell(only("table1", selection, {}), "base", "CLIPFit").ours.reason == "not run"


def test_some_seeds_are_enough_for_a_number_and_the_others_say_why_they_lack(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1, 2, 3))
    outcomes = planned("table1", selection, by_half({1: 80, 2: 90}, {1: 60}))
    table = only("table1", selection, outcomes)
    base, hm = (cell(table, metric, "CLIPFit").ours for metric in ("base", "HM"))
    assert (base.mean, base.seeds) == (85, (1, 2))
    assert base.reason.startswith("seed 3: ")
    assert hm.mean == pytest.approx(2 * 80 * 60 / 140)  # of the one seed that has both
    assert hm.seeds == (1,)


def test_seeds_that_lack_for_different_reasons_are_told_apart(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1, 2))
    outcomes = planned("table1", selection)
    for run in outcomes.values():
        run.state = {1: "failed", 2: "no data"}[run.spec.seed]
    ours = cell(only("table1", selection, outcomes), "base", "CLIPFit").ours
    assert ours.reason == "seed 1: failed; seed 2: data missing"


def test_an_average_needs_all_its_data_sets(planned):
    selection = Selection(("dtd", "eurosat", "food101"), methods=("CLIPFit",), shots=(4,), seeds=(1,))
    outcomes = planned("table10", selection, lambda spec: None if spec.dataset == "dtd" else 70)
    for run in outcomes.values():
        run.state = "failed" if run.result is None else run.state
    ours = cell(only("table10", selection, outcomes), "CLIPFit", "average of 3").ours
    assert (ours.mean, ours.reason) == (None, "1 of 3 data sets: failed")


def test_a_finished_run_counts_even_if_something_else_of_it_is_missing(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1,))
    outcomes = planned("table1", selection, lambda spec: 50)
    for run in outcomes.values():
        run.state, run.reason = "unfinished", "change not recorded"
    assert cell(only("table1", selection, outcomes), "base", "CLIPFit").ours.mean == 50


# Beside the print -----------------------------------------------------------------------------------


def test_every_printed_number_has_a_cell():
    everything = Selection()
    for table in TABLES.values():
        made = only(table.id, everything, {})
        shown = {id(one.printed) for one in made.cells.values() if one.printed}
        if table.printed == ("text_numbers",):
            assert len(shown) == len(table.rows)
        else:
            assert shown == {id(one) for one in printed(*table.printed).cells.values()}, table.id


def test_a_doubtful_printed_number_comes_with_its_note():
    table = only("table1", Selection(), {})
    assert cell(table, ("StanfordCars", "new"), "CoCoOp").printed.note.startswith("A1: suspicious")


def test_a_subset_has_no_printed_average():
    selection = Selection(("dtd", "eurosat"))
    table = only("table1", selection, {})
    assert [head.group for head in table.rows[-5:]] == ["average of 2"] * 3 + ["cost"] * 2
    assert cell(table, ("average of 2", "HM"), "CLIPFit").printed is None
    assert cell(table, ("DTD", "HM"), "CLIPFit").printed is not None
    averages = only("table6", selection, {})
    assert averages.title.endswith("average over DTD, EuroSAT only")
    assert not any(one.printed for one in averages.cells.values())


def test_one_data_set_has_no_average():
    table = only("table1", Selection(("dtd",)), {})
    assert {head.group for head in table.rows} == {"DTD", "cost"}


def test_targets_alone_are_shown_without_the_source():
    table = only("table9", Selection(("dtd", "eurosat")), {})
    labels = [head.label for head in table.rows]
    assert labels == ["DTD", "EuroSAT", "average of 2", "parameters", "time per image"]


def test_a_method_left_out_has_no_column():
    table = only("table1", Selection(methods=("CoOp", "CLIPFit")), {})
    assert [head.label for head in table.columns] == ["CoOp", "CLIPFit"]


def test_a_selection_of_shots_keeps_the_groups_of_these():
    assert {head.group for head in only("table10", Selection(shots=(1, 16)), {}).rows} == {
        "1 shot",
        "16 shots",
    }
    assert tables(TABLES["table1"], Selection(shots=(4,)), {}) == []


def test_embedded_data_have_a_table_of_their_own_without_print():
    for table in TABLES.values():
        paper, embedded = tables(table, Selection(("paper", "demo")), {})
        assert (paper.embedded, embedded.embedded) == (False, True)
        assert not any(one.printed for one in embedded.cells.values())
        heads = {text for head in (*embedded.rows, *embedded.columns) for text in (head.label, head.group)}
        assert not heads & {"ImageNet", "DTD", "EuroSAT"}
        assert not set(embedded.notes) & set(table.printed_notes)


def test_records_say_where_a_run_was_made(planned):
    selection = Selection(("dtd",), methods=("CLIPFit",), seeds=(1,))
    outcomes = planned("table1", selection, lambda spec: None if spec.eval_only else 50)
    done, waiting = outcomes.values()
    done.folder.mkdir(parents=True)
    (done.folder / "environment.json").write_text('{"device": "a GPU"}', encoding="utf-8")
    first, second = reported_runs(PAPER, outcomes)
    assert (first.state, first.starts, first.result["accuracy"]) == ("done", ({"device": "a GPU"},), 50)
    assert (second.result, second.starts, second.command) == ({}, (), " ".join(waiting.command))


def test_records_say_whether_their_data_are_embedded(planned):
    selection = Selection(("dtd", "demo_v2"), methods=("ZeroshotCLIP",), seeds=(1,))
    runs = reported_runs(PAPER, planned("table1", selection))
    embedded = {record.name.split("/")[2]: record.embedded for record in runs}
    assert embedded == {
        "dtd": False,
        "demo_v2": True,
    }
