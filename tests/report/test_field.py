"""The second paper, papers/field: what its tables say of every method, with and without runs.

Runs are planned but not run, as in test_results.py.
"""

import csv

import pytest

import reproduce
from grid.plan import plan
from launch.registered import PROJECT
from report import selection
from report.definitions import load
from report.formats import write
from report.formats.text import terminal
from report.model import Report
from report.paper import SHIPPED, Paper
from report.results import tables

FIELD = Paper.read("field")
TABLES = load(FIELD)
OF_THE_PAPER = Paper.read(SHIPPED)


@pytest.fixture
def made(tmp_path):
    """A table of the field; ``result`` gives the result of a run, or None."""

    def make(name, datasets=(), result=lambda spec: None, seeds=(1,), **selected):
        chosen = selection.Selection(FIELD, datasets, seeds=seeds, output=tmp_path, **selected)
        outcomes = plan(TABLES[name].specs(chosen), tmp_path, "data")
        for spec, run in outcomes.items():
            if found := result(spec):
                run.state, run.result = "done", {"accuracy": 50.0, "extras": [], **found}
        (table,) = tables(TABLES[name], chosen, outcomes)
        return table

    return make


def beside_print(name):
    """A table of the field that no run was planned for."""
    (table,) = tables(TABLES[name], selection.Selection(FIELD, seeds=(1,)), {})
    return table


def cell(table, row, column):
    rows, columns = ([head.label for head in heads] for heads in (table.rows, table.columns))
    return table.cells[rows.index(row), columns.index(column)]


def column(table, name):
    return {head.label: cell(table, head.label, name).words for head in table.rows}


@pytest.mark.parametrize("name", TABLES)
def test_all_methods_of_the_two_generations_are_in_both_tables(name):
    """Others are added by --methods, as to every table."""
    compared = ["ZeroshotCLIP", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MaPLe", "CLIPAdapter", "TipAdapter"]
    since = ["CLIPFit", "TwoStage", "CLIPLoRA", "ProLIP", "PromptSRC", "MMRL"]
    assert {*compared, *since} <= {row.trainer for row in TABLES[name].rows}


def test_the_print_of_the_papers_methods_is_that_of_its_tables():
    for name, table, metric in (("base2new", "table01", "hm"), ("few_shot", "table02", "accuracy")):
        shown = beside_print(name)
        head = "HM" if name == "base2new" else "16 shots"
        for row in TABLES[name].rows:
            theirs = OF_THE_PAPER.print_of(table).get(row.printed, shots=16, metric=metric)
            if theirs is not None:
                assert cell(shown, row.name, head).printed == theirs
    assert cell(beside_print("base2new"), "CLIPFit", "HM").printed.text == "79.03"


@pytest.mark.parametrize("name", ["base2new", "few_shot", "counts"])
def test_every_printed_number_has_its_source_and_its_row(name):
    known = {row.printed for table in TABLES.values() for row in table.rows}
    with open(FIELD.print_file(name), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(row["source"] for row in rows) and {row["method"] for row in rows} <= known


def test_numbers_in_the_notes_are_those_of_the_print():
    told = " ".join(TABLES["base2new"].printed_notes + TABLES["few_shot"].printed_notes)
    base2new, few_shot = beside_print("base2new"), beside_print("few_shot")
    for row in ("CLIPFit", "ProLIP, a photo of a {}.", "PromptSRC", "TwoStage", "MMRL"):
        assert cell(base2new, row, "HM").printed.text in told
    for row in ("CLIPFit", "PromptSRC", "CLIPLoRA"):
        assert cell(few_shot, row, "16 shots").printed.text in told


def test_printed_harmonic_means_follow_from_their_halves():
    """Those of averages, to a hundredth: what MMRL's re-runs lead to included, as its note says."""
    table = beside_print("base2new")
    for row in ("TwoStage", "CLIPLoRA", "ProLIP", "PromptSRC", "IVLP", "MMRL"):
        base, new, hm = (cell(table, row, name).printed.value for name in ("base", "new", "HM"))
        assert 2 * base * new / (base + new) == pytest.approx(hm, abs=0.011)
    others = 11 * 85.68 - 95.60 + 96.55, 11 * 77.16 - 80.17 + 72.06
    base, new = (total / 11 for total in others)
    assert (
        f"{base:.2f} / {new:.2f} / {2 * base * new / (base + new):.2f}"
        in cell(table, "MMRL", "HM").printed.note
    )


def test_what_no_paper_at_hand_prints_is_said_so_and_no_number():
    table = beside_print("few_shot")
    for row in ("TwoStage", "MMRL", "ProLIP", "MaPLe"):
        printed = cell(table, row, "4 shots").printed
        assert (printed.text, printed.value) == ("not at hand", None)
    assert "not at hand" in terminal(table)
    assert cell(table, "CLIPFit", "training time").printed is None  # nobody prints it


# Words ----------------------------------------------------------------------------------------------


def test_the_budget_is_that_of_the_recipes(made):
    found = column(made("base2new", ("imagenet", "dtd")), "budget")
    assert (found["ZeroshotCLIP"], found["CLIPFit"], found["MaPLe"]) == (
        "none",
        "10 to 100 epochs",
        "5 epochs",
    )
    assert (found["TwoStage"], found["CLIPLoRA"]) == ("4,800 steps", "8,000 steps")


def test_fewer_shots_have_the_budget_of_the_most_that_are_shown(made):
    table = made("few_shot", ("dtd", "eurosat"), shots=(1, 4))
    assert cell(table, "TwoStage", "budget").words == "1,200 steps"
    assert {head.group for head in table.columns} == {"", "with 4 shots"}


def test_what_is_tuned_per_data_set_is_named(made):
    table = made("few_shot", ("sun397", "eurosat"), shots=(16,))
    assert cell(table, "TwoStage", "tuned per data set").words == "no"
    clipfit = cell(table, "CLIPFit", "tuned per data set")
    assert clipfit.words == "yes" and "TRAINER.CLIPFIT.BETA" in clipfit.footnotes[0]
    assert "searched on validation images" in cell(table, "TipAdapter", "tuned per data set").footnotes[-1]
    one = made("few_shot", ("dtd",), shots=(16,))  # nothing to compare with
    assert cell(one, "TwoStage", "tuned per data set").words == "–"


def test_a_search_is_seen_in_the_results(made):
    table = made("few_shot", ("demo",), lambda spec: {"extras": ["val search"]}, shots=(16,))
    found = cell(table, "TipAdapter", "tuned per data set")
    assert (found.words, found.footnotes) == ("yes", ("in the runs: val search",))


def test_inference_is_that_of_the_results_and_else_the_stated_one(made):
    assert cell(beside_print("base2new"), "TwoStage", "inference").words == "per-class"
    table = made("base2new", ("demo",), lambda spec: {"inference": "decoupled"})
    assert cell(table, "TwoStage", "inference").words == "decoupled"


def test_training_time_is_the_mean_of_a_data_set(made):
    seconds = {"demo_garden": 2.0, "demo_cloth": 5.0}
    table = made("base2new", tuple(seconds), lambda spec: {"seconds_train": seconds[spec.dataset]})
    assert cell(table, "CLIPFit", "training time").ours.mean == 3.5
    assert cell(table, "CLIPFit", "training time").ours.seeds == (1,)


def test_embedded_data_stand_without_print_and_its_sources(made):
    table = made("base2new", ("demo",))
    assert "printed in" not in [head.label for head in table.columns]
    assert not any(one.printed for one in table.cells.values())
    assert column(table, "tuned per data set")["TipAdapter"] == "no"
    assert cell(table, "TwoStage", "budget").words == "30 epochs"
    gone = [row.name for row in TABLES["base2new"].rows if not row.is_there(None)]
    assert {column(table, "budget")[name] for name in gone} <= {"–"}


# Methods that are not there -------------------------------------------------------------------------


@pytest.fixture
def another(tmp_path):
    """The tables of a paper with one row of a method that nobody registers."""

    def make(**row):
        folder = tmp_path / "another"
        (folder / "tables").mkdir(parents=True)
        (folder / "paper.yaml").write_text(f"_BASE_: {PROJECT}/paper/paper.yaml\ntitle: Another\n")
        rows = [{"name": "CoOp", "trainer": "CoOp"}, {"name": "Unheard", "trainer": "Unheard", **row}]
        keys = {"title": "T", "source": "S", "protocol": "base2new", "shots": [16], "metrics": ["base", "hm"]}
        keys |= {"data": "each", "layout": {"rows": ["method"], "columns": ["data", "metric"]}, "rows": rows}
        (folder / "tables/one.yaml").write_text(str(keys).replace("True", "true"))
        paper = Paper.read(folder)
        return selection.Selection(paper, ("dtd",), seeds=(1,), output=tmp_path), load(paper)["one"]

    return make


def test_an_optional_method_that_is_not_there_has_a_row_and_no_runs(another, tmp_path):
    chosen, table = another(optional=True)
    specs = [spec for spec, _ in table.specs(chosen)]
    assert {spec.trainer for spec in specs} == {"CoOp"}
    (made,) = tables(table, chosen, plan(table.specs(chosen), tmp_path, "data"))
    assert cell(made, "Unheard", "base").ours.reason == "no method"
    assert "Unheard: trainers/ registers no such method" in made.notes[-1]


def test_results_of_an_optional_method_whose_file_is_gone_are_shown(another, tmp_path):
    (tmp_path / "base2new/train_base/dtd/shots_16/Unheard").mkdir(parents=True)
    chosen, table = another(optional=True)
    assert "Unheard" in {spec.trainer for spec, _ in table.specs(chosen)}


def test_a_method_that_must_be_there_and_is_not_is_an_error(another, tmp_path):
    chosen, table = another()
    with pytest.raises(ValueError, match="unknown trainer 'Unheard'"):
        plan(table.specs(chosen), tmp_path, "data")


def test_a_method_without_new_classes_is_tested_on_its_own_only():
    chosen = selection.Selection(FIELD, ("demo_cloth",), methods=("TipAdapter",), seeds=(1,))
    (spec,) = [spec for spec, _ in TABLES["base2new"].specs(chosen)]
    assert not spec.eval_only


def test_its_mean_of_both_halves_is_not_defined(made):
    table = made("base2new", ("demo_cloth",), lambda spec: {"seconds_train": 1.0})
    assert cell(table, "TipAdapter", "base").ours.mean == 50.0
    assert cell(table, "TipAdapter", "HM").ours.reason == "not defined"


def test_a_method_of_ones_own_is_added(made):
    table = made("few_shot", ("dtd",), methods=("ZeroshotCLIP2",))
    assert [head.label for head in table.rows] == ["ZeroshotCLIP2"]


# The door -------------------------------------------------------------------------------------------


def test_the_field_is_called_by_its_name_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert reproduce.main(["list", "--paper", "field", "--datasets", "dtd", "--output", "out"]) == 0
    assert "The field, few-shot classification" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"feild/paper\.yaml does not exist.*by name there is field"):
        reproduce.main(["list", "--paper", "feild"])


def test_runs_of_the_papers_methods_are_those_of_its_own_tables():
    ours = selection.Selection(FIELD, ("food101",), seeds=(1,))
    theirs = selection.Selection(OF_THE_PAPER, ("food101",), seeds=(1,))
    for name, table in (("base2new", "table1"), ("few_shot", "table10")):
        here = {spec for spec, _ in TABLES[name].specs(ours)}
        assert {spec for spec, _ in load(OF_THE_PAPER)[table].specs(theirs)} <= here


@pytest.mark.parametrize(
    "line, words",
    [
        ("about: [budgte]", "unknown word 'budgte'.*budget"),
        ("printed: [nowhere]", "printed/nowhere.csv does not exist"),
        ("rows: [{name: a, trainer: CoOp, facts: {budgets: 1}}]", "facts: .*'budgets'.*budget"),
    ],
)
def test_a_wrong_word_names_the_nearest(line, words, tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "paper.yaml").write_text(f"_BASE_: {PROJECT}/papers/field/paper.yaml\n")
    table = f"_BASE_: {PROJECT}/papers/field/tables/few_shot.yaml\nprinted: []\n"
    kept = table if not line.startswith("printed") else table.replace("printed: []\n", "")
    (tmp_path / "tables/one.yaml").write_text(f"{kept}{line}\n")
    with pytest.raises((KeyError, ValueError, FileNotFoundError), match=words):
        load(Paper.read(tmp_path))


def test_words_stand_in_every_format(made, tmp_path):
    table = made("base2new", ("demo",))
    files = write(Report("The field", (table,)), tmp_path / "report")
    assert {path.suffix for path in files} == {".html", ".md", ".tex", ".csv"}
    for text in [terminal(table), *(path.read_text(encoding="utf-8") for path in files)]:
        lines = [line for line in text.splitlines() if "per-class" in line]
        assert any("TwoStage" in line for line in lines) or "<td>per-class</td>" in text
        assert "30 epochs" in text and "not defined" in text
