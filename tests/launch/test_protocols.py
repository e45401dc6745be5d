"""A protocol is one file: what it says is followed by paths, classes, tables; what is wrong in it is said."""

import csv
import shlex
import shutil
from pathlib import Path

import pytest

import reproduce
import train
from dassl.run_folder import read_result
from dassl.utils import close_logger
from launch import protocols
from launch.arguments import parse_args
from launch.folder import run_folder
from launch.protocols import Stage, read_protocols
from launch.registered import protocol
from launch.resolve import resolve

BASE2ALL = """
train: {place: base2all/train, classes: base}
test: {place: base2all/test, classes: all}
metrics: {base: train, everything: test}
hm: [base, everything]
"""
PAPER = """
title: Half of the classes
shots: [1]
families: {ours: {datasets: [demo_garden]}}
"""
TABLE = """
title: Trained on half of the classes, tested on all
source: Table 1
protocol: base2all
shots: [1]
metrics: [base, everything, hm, params]
data: average
layout: {rows: [method], columns: [metric]}
rows:
  - {name: Tuned, trainer: CLIPFit, set: {OPTIM.MAX_EPOCH: 1, OPTIM.WARMUP_EPOCH: 0}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of protocols, to which a test may add."""
    copy = tmp_path / "protocols"
    shutil.copytree(protocols.FOLDER, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(protocols, "FOLDER", copy)
    return copy


@pytest.fixture
def fifth(folder):
    (folder / "base2all.yaml").write_text(BASE2ALL, encoding="utf-8")


def resolved(*words):
    return resolve(parse_args(["--seed", "1", "--dataset", "demo", "--trainer", *words]))


@pytest.mark.slow
def test_a_fifth_protocol_trains_is_tested_and_fills_a_table(fifth, demo_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in (("paper.yaml", PAPER), ("tables/table1.yaml", TABLE)):
        Path("half", name).parent.mkdir(exist_ok=True)
        Path("half", name).write_text(text, encoding="utf-8")
    words = ["table1", "--paper", "half", "--seeds", "1", "--root", str(demo_root)]
    assert reproduce.main(["plan", *words, "--commands"]) == 0
    training, test = map(shlex.split, capsys.readouterr().out.splitlines())
    for command in (training, test):
        train.main(command[2:])
        close_logger()

    (trained,) = Path("output").glob("base2all/train/demo_garden/shots_1/CLIPFit/demo-*/seed1")
    (tested,) = Path("output").glob("base2all/test/demo_garden/shots_1/CLIPFit/demo-*/seed1")
    base, everything = (read_result(path) for path in (trained, tested))
    assert (base["subsample_classes"], everything["subsample_classes"]) == ("base", "all")
    assert everything["num_classes"] == 2 * base["num_classes"] and everything["model_dir"] == str(trained)

    assert reproduce.main(["report", *words]) == 0
    with open("output/report/tables/table1.csv", newline="", encoding="utf-8") as file:
        cells = {cell["column"]: float(cell["mean"]) for cell in csv.DictReader(file)}
    a, b = base["accuracy"], everything["accuracy"]
    expected = {"base": a, "everything": b, "HM": 2 * a * b / (a + b), "parameters": base["trainable_params"]}
    assert cells == pytest.approx(expected, abs=1e-4)


def test_a_fifth_protocol_is_listed_and_a_method_of_known_classes_is_refused_its_test(fifth, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--help"])
    assert (
        "protocols: base2all base2new few_shot photos cross_dataset domain_shift\n" in capsys.readouterr().out
    )
    training = resolved("TipAdapter", "--protocol", "base2all")
    assert run_folder(training) == Path("output/base2all/train/demo/shots_16/TipAdapter/demo/seed1")
    with pytest.raises(ValueError, match="TipAdapter knows only .* or the base classes of base2all or"):
        resolved("TipAdapter", "--protocol", "base2all", "--eval-only")
    assert resolved("CLIPFit", "--protocol", "base2all", "--eval-only").cfg.RUN.NEW_CLASSES


def test_a_protocol_that_only_tests_loads_what_another_one_trains(folder):
    text = "train: {place: sketch/train}\ntest: {place: sketch}\ntargets: shifted\ntrained_by: few_shot\n"
    (folder / "sketch.yaml").write_text(text, encoding="utf-8")
    test = resolved("CLIPFit", "--protocol", "sketch", "--eval-only", "RUN.SOURCE", "demo")
    assert test.trained_by == "few_shot" and run_folder(test).parts[1] == "sketch"
    with pytest.raises(ValueError, match="only tests, with the model that --protocol few_shot trains"):
        resolved("CLIPFit", "--protocol", "sketch")


def test_what_a_file_leaves_out():
    assert protocol("").stage(True).place == "custom/test"
    few_shot = protocol("few_shot")
    assert few_shot.train == Stage("few_shot", "all") and not few_shot.transfers
    assert not few_shot.are_new("base") and few_shot.are_new("new")
    with pytest.raises(ValueError, match="did you mean 'base2new'"):
        protocol("base2nwe")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("metrics:", "metric:", "unknown key 'metric'; did you mean 'metrics'"),
        ("train: {place: base2all/train, classes: base}", "", "lacks train"),
        ("classes: base", "classes: bas", "train, classes: .*did you mean 'base'"),
        ("place: base2all/train", "palce: x", "train: .*lacks place"),
        ("base2all/test", "a/b/c", "test, place: 'a/b/c'; give one folder, or two"),
        ("base2all/test", "few_shot", "the runs of base2all lie in few_shot too"),
        ("everything: test", "everything: tests", "metrics, everything: .*did you mean 'test'"),
        ("hm: [base, everything]", "hm: [base, all]", "hm: .*name two of the metrics: base, everything"),
        ("hm: [base, everything]", "targets: others", "targets: .*did you mean 'other'"),
        ("hm: [base, everything]", "page: 1", "page: 1; write true or false"),
        ("hm: [base, everything]", "trained_by: few_shots", "trained_by: .*did you mean 'few_shot'"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(folder, old, new, message):
    (folder / "base2all.yaml").write_text(BASE2ALL.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_protocols(folder)


def test_a_run_leaves_its_page_where_its_protocol_says_so(folder, run_train, tmp_path, capsys):
    (folder / "seen.yaml").write_text("train: {place: seen}\npage: true\n", encoding="utf-8")
    words = ["--trainer", "ZeroshotCLIP", "--seed", 1, "--output-dir"]
    assert run_train(*words, "with", "--protocol", "seen") is None
    assert "The page of this run is with/report.html" in capsys.readouterr().out
    made = (tmp_path / "with/report.html").read_text(encoding="utf-8")
    assert "ZeroshotCLIP on Demo" in made
    (tmp_path / "with/report.html").unlink()  # as if it had been killed before the page
    assert run_train(*words, "with", "--protocol", "seen") is None
    assert "is finished already" in capsys.readouterr().out
    assert (tmp_path / "with/report.html").read_text(encoding="utf-8") == made
    assert run_train(*words, "without") is None
    assert not (tmp_path / "without/report.html").exists()
