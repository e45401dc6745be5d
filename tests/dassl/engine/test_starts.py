"""starts.jsonl: a line per start of a run, whatever code and machine each had."""

import json
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from plugins import make_cfg

from clipfit.io.origins import note_origin
from dassl.engine import run_files
from dassl.run_folder import read_environment, read_starts, write_config
from dassl.utils import list_digest


@pytest.fixture
def commit(monkeypatch):
    """Say which commit the code is at."""

    def _commit(name):
        state = {"commit": name, "no_commit": None, "changed": {}, "untracked": {}}
        monkeypatch.setattr(run_files, "code_state", lambda: state)

    return _commit


def commits(folder):
    return [start["commit"] for start in read_starts(folder)]


def test_a_start_says_when_what_with_which_code_and_where(folder, build):
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=1, DATASET__NUM_SHOTS=2)
    write_config(cfg.OUTPUT_DIR, cfg, command="python train.py --seed 1")
    trainer = build(cfg)
    trainer.inputs = {"backbone": "f00d"}
    trainer.train()
    (start,) = read_starts(cfg.OUTPUT_DIR)
    assert read_environment(cfg.OUTPUT_DIR) == start
    age = datetime.now(UTC) - datetime.fromisoformat(start["time"])
    assert timedelta(0) <= age < timedelta(minutes=10) and start["time"].endswith("+00:00")
    assert start["command"] == "python train.py --seed 1"
    assert start["packages"]["torch"] == torch.__version__.split("+")[0]
    assert (start["threads"], start["ranks"]) == (torch.get_num_threads(), 1)
    assert start["inputs"] == trainer.result()["inputs"] == {"backbone": "f00d"}
    images = [Path(item.impath).name for item in trainer.dm.dataset.train_x]
    assert start["lists"]["train_x"] == {"images": 4, "digest": list_digest(images)}
    assert {"commit", "no_commit", "changed", "untracked", "python", "platform", "device"} <= start.keys()
    assert {"kernels", "deterministic", "cuda"} <= start.keys()


def test_a_start_says_where_the_files_of_the_data_came_from(folder, build):
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=1)
    build(cfg).train()
    origin = {
        "from": "https://example.org/a.zip",
        "digest": "md5:f00d",
        "date": "2031-01-01",
        "gives": ["images"],
    }
    trainer = build(make_cfg(folder, OUTPUT_DIR=f"{folder}/second", OPTIM__MAX_EPOCH=1))
    trainer.dm.dataset.dataset_dir = str(folder / "data set")
    note_origin(folder / "data set", "a.zip", origin)
    trainer.train()
    assert read_starts(cfg.OUTPUT_DIR)[0]["sources"] is None
    assert read_starts(f"{folder}/second")[0]["sources"] == {"a.zip": origin}


def test_a_run_outside_train_py_names_its_program(folder, build, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mine.py", "--name", "a b"])
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=1)
    build(cfg).train()
    assert shlex.split(read_starts(cfg.OUTPUT_DIR)[0]["command"]) == ["python", "mine.py", "--name", "a b"]


def test_killed_at_one_commit_and_resumed_at_another_both_are_told(folder, build, interrupt, commit):
    cfg = make_cfg(folder)
    commit("first")
    interrupt(cfg, epoch=1)
    commit("second")
    trainer = build(cfg)
    trainer.train()
    assert commits(cfg.OUTPUT_DIR) == ["first", "second"]
    assert read_environment(cfg.OUTPUT_DIR)["commit"] == "second"
    result = json.loads(Path(cfg.OUTPUT_DIR, "result.json").read_text())
    assert result["starts"] == 2


def test_a_run_that_goes_on_elsewhere_brings_its_starts(folder, build, interrupt, commit):
    commit("first")
    interrupt(make_cfg(folder, OUTPUT_DIR=f"{folder}/first"), epoch=1)
    second = make_cfg(folder, OUTPUT_DIR=f"{folder}/second", RESUME=f"{folder}/first")
    commit("second")
    interrupt(second, epoch=2)
    commit("third")
    build(second).train()
    assert commits(second.OUTPUT_DIR) == ["first", "second", "third"]
    assert commits(f"{folder}/first") == ["first"]


def test_a_run_that_an_older_version_began_keeps_what_it_said(folder, build, interrupt, commit):
    cfg = make_cfg(folder)
    interrupt(cfg, epoch=1)
    Path(cfg.OUTPUT_DIR, "starts.jsonl").unlink()
    Path(cfg.OUTPUT_DIR, "environment.json").write_text('{"commit": "old", "packages": {"torch": "2.9"}}')
    commit("new")
    build(cfg).train()
    assert commits(cfg.OUTPUT_DIR) == ["old", "new"]


def test_a_test_is_a_start_before_it_begins(folder, build):
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=1)
    build(cfg).train()
    tested = make_cfg(folder, OUTPUT_DIR=f"{folder}/tested")
    trainer = build(tested)
    trainer.load_model(cfg.OUTPUT_DIR)
    seen = []
    trainer.before_test = lambda: seen.append(len(read_starts(tested.OUTPUT_DIR)))
    trainer.final_test()
    trainer.save_result()
    assert seen == [1] and len(read_starts(tested.OUTPUT_DIR)) == 1
    assert Path(tested.OUTPUT_DIR, "fewshot.json").is_file()


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "starts.jsonl").write_text('{"commit": null}\n{"comm\n')
    with pytest.raises(ValueError, match="starts.jsonl, line 2 is not valid JSON"):
        read_starts(tmp_path)


def test_digests_of_the_images_trained_on_are_written_where_they_are_known(folder, build):
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=1)
    trainer = build(cfg)
    trainer.train_files = {"00.png": "f00d"}
    trainer.train()
    assert json.loads(Path(cfg.OUTPUT_DIR, "fewshot.json").read_text())["files"] == {"00.png": "f00d"}
