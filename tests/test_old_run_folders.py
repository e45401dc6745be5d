"""Run folders that earlier versions wrote mean what they meant: finished, begun, failed.

fixtures/run_folders/<version>/ is an output folder as that version left it, on a CPU, without event files and
with neutral paths. In v0.1 (commit d4e6394): base2new is CLIPFit on demo with its test on the new classes;
few_shot/demo was killed after step 11, and its resume point holds 10 epochs; few_shot/demo_garden failed
twice, as a picture had been damaged.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import datasets  # noqa: F401 - registers Demo
import reproduce
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from grid.failures import Failure
from launch.compare import NOT_RECORDED

V01 = Path(__file__).parent / "fixtures/run_folders/v0.1"
CLIPFIT = "base2new/{}/demo/shots_16/CLIPFit/demo/seed1"
BEGUN = Path("output/few_shot/demo/shots_1/CoOp/demo/seed1")
BEGUN_WORDS = ["--trainer", "CoOp", "--protocol", "few_shot", "--shots", 1, "--seed", 1]


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The old output folder where train.py, called in ``tmp_path``, puts its runs by itself."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # PREC auto is fp32, as it was there
    return shutil.copytree(V01, tmp_path / "output")


@pytest.fixture
def states(demo_root, tmp_path, monkeypatch, capsys, output):
    """Run folder -> its line in ``reproduce.py plan``."""
    monkeypatch.chdir(tmp_path)

    def plan(*words):
        assert reproduce.main(["plan", *words, "--seeds", "1", "--root", str(demo_root)]) == 0
        lines = capsys.readouterr().out.splitlines()[::2]  # the others are commands
        return {line[10:].split()[0]: line for line in lines}

    return plan


@pytest.fixture
def drawn(demo_root):
    """demo, drawn at a root that the old runs did not know."""
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT = "Demo", str(demo_root)
    build_dataset(cfg)


def contents(folder):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind, flags", [("train_base", []), ("test_new", ["--eval-only"])])
def test_a_finished_run_is_finished_already_with_its_data_at_another_root(
    kind, flags, run_train, output, drawn, capsys
):
    folder = output / CLIPFIT.format(kind)
    before = contents(folder)
    words = ["--trainer", "CLIPFit", "--protocol", "base2new", "--seed", 1, *flags]
    assert run_train(*words) is None
    said = capsys.readouterr().out
    assert f"output/{CLIPFIT.format(kind)}: finished, inputs not recorded\n" in said
    assert f"* accuracy: {json.loads(before[Path('result.json')])['accuracy']:.2f}%" in said
    assert contents(folder) == before


def test_a_finished_run_and_its_test_are_done_in_a_plan(states):
    lines = states("table1", "--datasets", "demo", "--methods", "clipfit")
    for kind in ("train_base", "test_new"):
        state, folder, remark = lines[CLIPFIT.format(kind)].split(maxsplit=2)
        assert (state, folder) == ("done", CLIPFIT.format(kind)) and remark == f"({NOT_RECORDED})"


def test_a_begun_run_is_unfinished_and_a_failed_one_says_why(states, output):
    lines = states("table2", "--datasets", "demo", "--methods", "coop", "--shots", "1")
    assert lines["few_shot/demo/shots_1/CoOp/demo/seed1"].startswith("unfinished ")
    failed = "few_shot/demo_garden/shots_1/CoOp/demo/seed1"
    assert lines[failed].startswith("failed ")
    assert "data/demo_garden: pictures or split.json were changed after drawing" in lines[failed]
    failure = Failure.read(output, failed)
    assert failure.error in lines[failed] and failure.command[:2] == ["python", "train.py"]
    assert any("in check_drawn" in line for line in failure.log)


@pytest.mark.slow
def test_a_begun_run_goes_on_from_its_resume_point(run_train, output, capsys, result):
    folder = output.parent / BEGUN
    before = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(before) == 11
    assert run_train(*BEGUN_WORDS) is None
    assert f"Resuming from {BEGUN}/resume.pt: 10 epochs are done" in capsys.readouterr().out
    after = (folder / "metrics.jsonl").read_text().splitlines()
    assert after[:10] == before[:10] and len(after) == 30
    repeated = json.loads(
        before[10]
    )  # the step behind the resume point: the same up to another machine's bits
    assert json.loads(after[10]) == pytest.approx(repeated, rel=1e-3)
    assert result(folder)["epoch"] == 30 and not (folder / "resume.pt").exists()
    log = (folder / "log.txt").read_text()
    assert log.startswith((V01 / BEGUN.relative_to("output") / "log.txt").read_text())
