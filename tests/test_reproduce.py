"""reproduce.py as a user calls it, on the quickest runs there are: zero-shot CLIP on embedded data."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reproduce
import train
from dassl.utils import close_logger
from launch.resolve import PROJECT

QUICK = ["--datasets", "demo_garden", "--methods", "zsclip", "--seeds", "1"]


@pytest.fixture
def run(demo_root, tmp_path, capsys):
    """Run a command on the quick selection; returns exit status and what it printed."""

    def _run(command, *words, selection=QUICK):
        where = ["--root", str(demo_root), "--output", str(tmp_path / "out")]
        status = reproduce.main([command, *words, *selection, *where])
        return status, capsys.readouterr().out

    return _run


def accuracy(folder):
    return json.loads(next(folder.glob("*/*/*/seed1/result.json")).read_text())["accuracy"]


def test_a_table_is_run_then_shown_and_not_run_again(run, tmp_path):
    status, printed = run("run", "table1")
    assert status == 0 and "2 runs, 2 to do" in printed
    base = accuracy(tmp_path / "out/base2new/train_base/demo_garden")
    new = accuracy(tmp_path / "out/base2new/test_new/demo_garden")
    for value in (base, new, 2 * base * new / (base + new)):
        assert f"{value:.2f}" in printed
    report = tmp_path / "out/report"
    assert {"report.html", "report.md"} <= {path.name for path in report.iterdir()}

    status, again = run("run", "table1")
    assert status == 0 and "2 runs, 0 to do" in again and f"{base:.2f}" in again


def test_list_counts_shared_runs_once(run):
    status, printed = run(
        "list", "table1", "table7", selection=[*QUICK[:2], "--methods", "coop", "--seeds", "1"]
    )
    table, citation = printed.strip().split("\n\n")
    lines = {line.split()[0]: line.split() for line in table.splitlines()[2:]}
    assert status == 0
    assert lines["table1"][-2:] == lines["table7"][-2:] == ["2", "2"]  # runs, todo
    assert lines["all,"][-2:] == ["2", "2"]
    assert citation.startswith("Li et al.")


def test_planned_commands_make_the_results_that_reports_read(run, capsys):
    _, printed = run("plan", "table1", "--commands")
    commands = [shlex.split(line) for line in printed.splitlines()]
    assert len(commands) == 2
    for command in commands:
        assert shutil.which(command[0]) and Path(command[1]).name == "train.py"
        train.main(command[2:])
        close_logger()
    capsys.readouterr()
    assert run("plan", "table1", "--commands") == (0, "")
    _, states = run("plan", "table1")
    assert [line.split()[0] for line in states.splitlines()[::2]] == ["done", "done"]


def test_an_empty_cell_says_why(run):
    status, printed = run("report", "table1")
    assert status == 0 and "not run" in printed
    _, printed = run(
        "report", "table1", selection=["--datasets", "dtd", "--methods", "zsclip", "--seeds", "1"]
    )
    assert "data missing" in printed and "54.30" not in printed.split("printed")[0]


def test_a_failed_run_is_told_and_ends_in_status_1(run, tmp_path):
    place = tmp_path / "out/base2new/train_base/demo_garden/shots_16/ZeroshotCLIP"
    place.mkdir(parents=True)
    (place / "demo").write_text("a file in the way")
    status, printed = run("run", "table1")
    assert status == 1
    told = printed.rpartition("\nfailed: ")[2]
    assert "--trainer ZeroshotCLIP" in told and "Not a directory" in told


@pytest.mark.parametrize(
    "words, message",
    [
        (["report", "table13"], "did you mean"),
        (["report", "table1", "--datasets", "dtdd"], "dtd"),
        (["report", "table1", "--methods", "clipfitt"], "CLIPFit"),
        (["report", "table2", "--shots", "3"], "1, 2, 4, 8, 16"),
    ],
)
def test_unknown_names_are_answered_with_valid_ones(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        reproduce.main(words)
    assert message in str(stop.value)


@pytest.mark.parametrize("command", ["run", "report"])
@pytest.mark.parametrize("module, package", [("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")])
def test_figures_are_refused_before_any_run_if_they_cannot_be_drawn(
    command, module, package, run, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(SystemExit, match=f"not installed: {package}, .*figure5.*requirements-report.txt"):
        run(command, "table1", "figure5")
    assert not (tmp_path / "out").exists()
    assert run("plan", "table1", "figure5")[0] == 0
    assert run("report", "table1")[0] == 0


@pytest.mark.parametrize("command", [["run"], ["plan", "--commands"]])
def test_runs_without_their_data_are_left_out_and_said(command, demo_root, tmp_path, capsys):
    words = ["table1", "--datasets", "dtd", "--methods", "zsclip", "--seeds", "1"]
    where = ["--root", str(demo_root), "--output", str(tmp_path)]
    assert reproduce.main([*command, *words, *where]) == 0
    printed = capsys.readouterr()
    assert "train.py" not in printed.out
    assert "2 runs are left out" in printed.err and str(demo_root / "dtd") in printed.err


def test_the_command_of_a_stale_run_moves_its_folder_aside(run, tmp_path, capsys):
    run("run", "table1")
    folder = next((tmp_path / "out/base2new/train_base/demo_garden").glob("*/*/*/seed1"))
    result = json.loads((folder / "result.json").read_text())
    result["inputs"]["trainer_version"] = 0
    (folder / "result.json").write_text(json.dumps(result))
    status, printed = run("plan", "table1", "--commands")
    assert status == 0 and printed.startswith("mkdir -p ") and f" && mv {folder} " in printed


@pytest.mark.slow
def test_what_was_finished_before_inputs_were_recorded_is_footnoted_and_verified(run, tmp_path):
    run("run", "table1")
    folder = next((tmp_path / "out/base2new/train_base/demo_garden").glob("*/*/*/seed1"))
    result = json.loads((folder / "result.json").read_text())
    del result["inputs"]
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "environment.json").unlink()
    status, printed = run("report", "table1")
    assert status == 0 and "¹ finished, inputs not recorded" in printed
    report = tmp_path / "out/report"
    files = [report / "report.html", report / "report.md", *report.glob("tables/table1*")]
    assert {path.suffix for path in files} == {".html", ".md", ".csv", ".tex"}
    assert all("finished, inputs not recorded" in path.read_text() for path in files)

    assert "2 runs, 0 to do" in run("run", "table1")[1]
    assert "2 runs, 1 to do" in run("run", "table1", "--verify")[1]
    assert json.loads((folder / "result.json").read_text())["inputs"]
    (aside,) = folder.parent.glob(".stale/*/result.json")
    assert json.loads(aside.read_text()) == result
    status, printed = run("run", "table1", "--verify")
    assert "2 runs, 0 to do" in printed and "inputs not recorded" not in printed


@pytest.mark.slow
def test_two_at_once_on_one_output_share_the_runs(demo_root, tmp_path):
    where = ["--root", str(demo_root), "--output", str(tmp_path / "out"), "--jobs", "1"]
    command = [sys.executable, "reproduce.py", "run", "table1", *QUICK, *where]
    both = [
        subprocess.Popen(
            [*command, "--report", str(tmp_path / name)],
            **dict(cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True),
        )
        for name in ("one", "other")
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    results = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("base2new/**/result.json")]
    assert [result["starts"] for result in results] == [1, 1]
    assert not (tmp_path / "out/grid/failed").exists() and not any("failed" in text for text in said)
    tables = [next((tmp_path / name).glob("tables/*.csv")).read_text() for name in ("one", "other")]
    assert tables[0] == tables[1]
