"""Any paper is a folder of YAML and CSV: an invented one is run and shown, what is wrong in one is said."""

import csv
import json
from pathlib import Path

import pytest

import reproduce
from dassl.config.facts import Facts
from launch.registered import DataSet, data_sets
from report import definitions, paper
from report.definitions import load
from report.paper import SHIPPED, Paper
from report.selection import Selection

PAPER = """
title: Two shapes
citation: A. Nobody, Two shapes, 2031
shots: [1]
families:
  ours: {datasets: [demo_garden, demo_signs]}
titles: {demo_garden: The garden}
"""
ZERO_SHOT = """
title: Without training
source: Table 1, page 3
protocol: few_shot
shots: [1]
metrics: [accuracy]
data: each
layout: {rows: [method], columns: [data]}
best_among: rows
printed: first
rows:
  - {name: CLIP, trainer: ZeroshotCLIP}
"""
TRAINED = """
title: One epoch of training
source: Table 2, page 4
protocol: few_shot
shots: [1]
metrics: [accuracy, params]
data: average
layout: {rows: [method], columns: [metric]}
printed: second
rows:
  - {name: Tuned, trainer: CLIPFit, printed: T, set: {OPTIM.MAX_EPOCH: 1, OPTIM.WARMUP_EPOCH: 0}}
"""
FIRST = "dataset,method,accuracy\ndemo_garden,CLIP,50.0\ndemo_signs,CLIP,60.25\naverage,CLIP,\n"
SECOND = "method,metric,value,unit\nT,accuracy,40.0,\nT,params,4,k\n"
NOTES = "ref,table,dataset,methods,shots,metrics,note\nN1,first,demo_signs,CLIP,,accuracy,smudged\n"


@pytest.fixture
def folder(tmp_path):
    """The folder of a paper that nobody wrote."""
    files = {
        "paper.yaml": PAPER,
        "tables/table1.yaml": ZERO_SHOT,
        "tables/trained.yaml": TRAINED,
        "printed/first.csv": FIRST,
        "printed/second.csv": SECOND,
        "printed/notes.csv": NOTES,
    }
    for name, text in files.items():
        path = tmp_path / "two shapes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "two shapes"


@pytest.fixture
def run(folder, demo_root, tmp_path, capsys):
    def _run(command, *words):
        where = ["--root", str(demo_root), "--output", str(tmp_path / "out"), "--threads", "1"]
        seeds = ["--seeds", "1"]
        status = reproduce.main([command, *words, "--paper", str(folder), *seeds, *where])
        return status, capsys.readouterr().out

    return _run


def test_an_invented_paper_is_planned_run_and_shown_beside_its_print(run, tmp_path):
    status, planned = run("plan", "--commands")
    assert status == 0 and len(planned.splitlines()) == 4  # two methods on two data sets

    status, shown = run("run", "--jobs", "1")
    assert status == 0 and "4 runs, 4 to do" in shown
    assert "Table 1: Without training" in shown and "One epoch of training: average over 2 data sets" in shown

    report = tmp_path / "out/report"
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "<title>Two shapes: tables and figures</title>" in page
    assert "N1: smudged" in page and "CLIPFit:" not in page
    garden, signs, average = cells(report / "tables/table1.csv")
    assert [garden["column"], signs["column"]] == ["The garden", "demo_signs"]
    assert [row["printed"] for row in (garden, signs, average)] == ["50.0", "60.25", "?"]
    measured = results(tmp_path / "out", "ZeroshotCLIP")
    assert float(garden["difference"]) == pytest.approx(measured["demo_garden"] - 50.0, abs=1e-4)
    assert float(average["mean"]) == pytest.approx(sum(measured.values()) / 2, abs=1e-4)
    tuned, parameters = cells(report / "tables/trained.csv")
    assert [row["printed"] for row in (tuned, parameters)] == ["40.0", "4k"]
    trained = results(tmp_path / "out", "CLIPFit").values()
    assert float(tuned["difference"]) == pytest.approx(sum(trained) / 2 - 40.0, abs=1e-4)


def cells(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(output, trainer):
    """Data set -> accuracy in percent."""
    files = output.glob(f"few_shot/*/shots_1/{trainer}/*/seed1/result.json")
    return {path.parts[-6]: json.loads(path.read_text(encoding="utf-8"))["accuracy"] for path in files}


def test_list_names_the_paper_and_its_tables(run):
    status, printed = run("list")
    assert status == 0 and printed.endswith("A. Nobody, Two shapes, 2031\n")
    assert {line.split()[0] for line in printed.splitlines()[2:4]} == {"table1", "trained"}


def test_names_of_another_paper_are_not_known(run):
    with pytest.raises(SystemExit, match="unknown table or figure 'table2'.*table1"):
        run("plan", "table2")
    with pytest.raises(SystemExit, match="unknown data set 'dtdd'; did you mean 'dtd'"):
        run("plan", "--datasets", "dtdd")
    with pytest.raises(SystemExit, match="no table has 16 shots; choose of 1"):
        run("plan", "--shots", "16")


def test_a_folder_without_paper_yaml_is_no_paper(folder, run):
    (folder / "paper.yaml").unlink()
    with pytest.raises(
        SystemExit, match="paper.yaml does not exist; a paper's folder has paper.yaml, tables/"
    ):
        run("list")


@pytest.mark.parametrize(
    "old, new, error, message",
    [
        ("citation", "citatoin", KeyError, "unknown key 'citatoin'; did you mean 'citation'"),
        ("title: Two shapes", "title:", ValueError, "lacks title"),
        ("{datasets: [", "{datasets: [gardn, ", ValueError, "families, ours: unknown data set 'gardn'"),
        ("{datasets:", "{data_sets:", KeyError, "families, ours: unknown key 'data_sets'; .*'datasets'"),
        ("{datasets: [demo_garden, demo_signs]}", "{source: demo}", ValueError, "ours lacks datasets"),
        ("[demo_garden, demo_signs]", "demo_garden", ValueError, "ours, datasets: 'demo_garden' is no list"),
        ("shots: [1]", "shots: 1", ValueError, r"shots: 1 is no list; write \[1\]"),
    ],
)
def test_a_broken_paper_yaml_is_named_with_what_is_wrong(folder, old, new, error, message):
    path = folder / "paper.yaml"
    path.write_text(PAPER.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(error, match=message) as raised:
        Paper.read(folder)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "text, message",
    [("method,shots\nCLIP,1\n", "no column accuracy or value"), ("value\n1\n", "no column method")],
)
def test_a_print_without_methods_or_numbers_is_named(folder, text, message):
    (folder / "printed/first.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"first.csv has {message}"):
        Paper.read(folder).print_of("first")


def test_the_source_of_transfers_need_not_be_among_the_other_data_sets(folder, run):
    with_source = PAPER.replace("demo_signs]", "demo_signs], source: demo, others: [demo_cloth]")
    (folder / "paper.yaml").write_text(with_source, encoding="utf-8")
    text = ZERO_SHOT.replace("protocol: few_shot", "protocol: cross_dataset")
    (folder / "tables/table1.yaml").write_text(text.replace("ZeroshotCLIP", "CoOp"), encoding="utf-8")
    status, planned = run("plan", "table1", "--commands")
    trained, tested = planned.splitlines()
    assert "--dataset demo " in trained and "--dataset demo_cloth " in tested


def test_a_family_without_a_source_has_no_tables_of_transfers(folder, run):
    text = ZERO_SHOT.replace("protocol: few_shot", "protocol: cross_dataset")
    (folder / "tables/table1.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="nothing of table1 is selected") as raised:
        run("plan", "table1")
    assert "ours" not in str(raised.value) and "demo (demo demo_cloth)" in str(raised.value)


# Data sets that are in no family of the paper ------------------------------------------------------


@pytest.fixture
def dropped_in(monkeypatch):
    """Register data sets beside the shipped ones: stem -> facts."""

    def add(**facts):
        more = [
            DataSet(stem, stem.title(), Path(f"datasets/{stem}.py"), Facts(stem.title(), **stated), None)
            for stem, stated in facts.items()
        ]
        every = (*data_sets(), *more)
        monkeypatch.setattr(paper, "data_sets", lambda: every)
        for module in (paper, definitions):
            monkeypatch.setattr(module, "data_set", lambda word: {one.stem: one for one in every}[word])

    paper.registered_name.cache_clear()
    yield add
    paper.registered_name.cache_clear()


def test_a_data_set_without_facts_is_of_the_family_own(dropped_in):
    dropped_in(photos={}, birds={"family": "garden"})
    read = Paper.read(SHIPPED)
    own, garden = read.family_of("photos"), read.family_of("birds")
    assert (own.name, own.datasets, own.embedded, own.remark) == (
        "own",
        ("photos",),
        False,
        " (own data sets)",
    )
    assert (garden.name, garden.remark) == ("garden", " (data sets of the family garden)")
    assert read.families[-1] is own
    assert Selection(read, ("own", "garden")).families == (garden, own)
    assert read.overrides("CLIPAdapter", "photos", 16) == {} != read.overrides("CLIPAdapter", "dtd", 16)


def test_what_the_paper_leaves_out_is_tested_with_the_model_of_its_source(dropped_in):
    dropped_in(photos={"family": "coop", "role": "other"})
    read = Paper.read(SHIPPED)
    rest = read.family_of("imagenet_a")
    assert (rest.source, rest.shifted, rest.others) == ("imagenet", ("imagenet_a", "imagenet_r"), ("photos",))
    assert "imagenet" not in rest.every and read.family_of("imagenet").name == "paper"

    def wanted(table, *datasets):
        selection = Selection(read, datasets, ("CLIPFit",), seeds=(1,))
        return [(spec.dataset, spec.eval_only) for spec, _ in load(read)[table].specs(selection)]

    assert wanted("table3", "imagenet_a") == [("imagenet_a", True)]
    assert wanted("table9", "photos") == [("photos", True)]
    assert wanted("table1", "imagenet_a") == []  # there is nothing to train on
    assert wanted("table3", "paper") == [("imagenet", False), ("imagenetv2", True), ("imagenet_sketch", True)]


def test_a_data_set_without_a_source_is_a_target_of_the_one_that_is_asked_for_beside_it(dropped_in):
    dropped_in(
        photos={},
        pairs={"train": 0},
        birds={"role": "shifted", "classes": 20},
        trees={"role": "shifted", "classes": 1001},
    )
    read = Paper.read(SHIPPED)

    def tested(table, *datasets):
        selection = Selection(read, datasets, ("CLIPFit",), seeds=(1,))
        specs = [spec for spec, _ in load(read)[table].specs(selection) if spec.eval_only]
        return {
            (spec.dataset, spec.source) for spec in specs if spec.dataset not in ("demo_signs", "demo_v2")
        }

    assert tested("table9", "own", "demo_signs") == {("photos", "demo"), ("pairs", "demo")}
    assert tested("table9", "photos", "imagenet", "imagenet_a") == {("photos", "imagenet")}
    assert tested("table3", "own", "demo_v2") == {("birds", "demo"), ("trees", "demo")}
    assert tested("table3", "own", "imagenet") == {("birds", "imagenet")}  # which has 1,000 classes
    assert tested("table9", "own") == tested("table9", "dtd") - {("dtd", "")} == set()

    selection = Selection(read, ("photos", "demo_signs"), ("CLIPFit",), seeds=(1,))
    (test,) = [spec for spec, _ in load(read)["table9"].specs(selection) if spec.dataset == "photos"]
    assert test.pairs == ("MODEL.BACKBONE.NAME", "demo")  # that of the model


def test_two_sources_of_a_family_are_named(dropped_in):
    stated = {"family": "garden", "role": "source"}
    dropped_in(birds={**stated, "path": "birds.yaml"}, trees={**stated, "path": "trees.yaml"})
    with pytest.raises(ValueError, match="birds.yaml and trees.yaml are both the source of .* garden"):
        Paper.read(SHIPPED)


def test_a_family_of_facts_that_has_the_name_of_the_papers_is_named(dropped_in):
    dropped_in(birds={"family": "paper", "path": "birds.yaml"})
    with pytest.raises(ValueError, match="families, paper: birds is of a family of this name too"):
        Paper.read(SHIPPED)
