"""train.py in surroundings that are no terminal, with model folders of every kind, and failed starts."""

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import train
from clipfit.io.commands import pasted
from dassl.utils import Logger, load_checkpoint, load_model_file, save_checkpoint

TRAINED = ["--trainer", "CLIPFit", "--seed", 1, "--shots", 1]
SHORT = ["OPTIM.MAX_EPOCH", 1]


class Bare:
    """A stream that can write and nothing else."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


@pytest.mark.parametrize("stream", [io.StringIO(), Bare(), None], ids=["notebook", "bare", "none"])
def test_main_works_with_any_standard_output(stream):
    with contextlib.redirect_stdout(stream), pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_cannot_print_a_name_shows_escapes(encoding, tmp_path):
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding=encoding)
    with Logger(tmp_path / "log.txt", console) as logger:
        logger.write("class 猫\n")
    console.flush()
    assert raw.getvalue() == b"class \\u732b\n"
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "class 猫\n"


def test_the_streams_of_a_run_escape_what_they_cannot_print(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with pytest.raises(SystemExit):
        train.main(["--help"])
    print("猫")
    assert raw.getvalue().endswith(b"\\u732b\n")


def test_a_model_may_be_named_by_its_run_its_folder_or_its_file(run_train, result):
    assert run_train(*TRAINED, "--output-dir", "run", *SHORT) is None
    places = ["run", "run/prompt_learner", "run/prompt_learner/model.pth.tar-1"]
    for number, place in enumerate(places):
        words = [*TRAINED, "--eval-only", "--model-dir", place, "--output-dir", f"test{number}"]
        assert run_train(*words, *SHORT) is None
        assert result(f"test{number}")["model_dir"] == "run" and result(f"test{number}")["epoch"] == 1
    test = [*TRAINED, "--eval-only", "--output-dir", "none"]
    assert "--model-dir" in run_train(*test)
    assert "nowhere does not exist" in run_train(*test, "--model-dir", "nowhere")
    Path("seeds").mkdir()
    shutil.copytree("run", "seeds/seed1")
    assert "did you mean seeds/seed1?" in run_train(*test, "--model-dir", "seeds")
    assert "is a file; give the run folder" in run_train(*test, "--model-dir", "run/config.yaml")
    assert not Path("none").exists()


def test_names_that_dataparallel_gave_are_taken_without_its_prefix(tmp_path):
    state = {"ctx": torch.ones(2), "scale": torch.zeros(1)}
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    save_checkpoint({"state_dict": wrapped, "epoch": 1}, tmp_path, remove_module_from_keys=False)
    path = tmp_path / "model.pth.tar-1"
    assert load_checkpoint(path)["state_dict"].keys() == wrapped.keys()
    assert load_model_file(path)["state_dict"].keys() == state.keys()


def test_commands_in_messages_name_the_python_that_runs():
    first, *words = shlex.split(pasted(["python", "train.py", "--root", "my data"]))
    assert words == ["train.py", "--root", "my data"]
    assert Path(shutil.which(first)).samefile(sys.executable)
    assert pasted(["mv", "a b", "c"]) == "mv 'a b' c"


def test_the_command_clipfit_is_named_where_the_shell_finds_that_of_this_python(tmp_path, monkeypatch):
    command = ["clipfit", "predict", "run/fit", "a b"]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for name in ("python", "clipfit"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pasted(command) == "clipfit predict run/fit 'a b'"
    monkeypatch.setenv("PATH", os.devnull)
    assert shlex.split(pasted(command))[1:] == ["-m", *command]


def test_a_failed_start_takes_the_folders_that_it_made_and_no_others(run_train):
    Path("mine").mkdir()
    words = ["--trainer", "CLIPFit", "--seed", 1, "--root", "nowhere", "--backbone", "demo"]
    assert "nowhere/dtd" in run_train(*words, "--output-dir", "mine/a/b", dataset="dtd")
    assert list(Path("mine").iterdir()) == []


def test_the_whole_config_goes_to_the_log_and_the_terminal_says_what_matters(run_train, capsys):
    assert run_train(*TRAINED, "--output-dir", "run", *SHORT) is None
    printed, log = capsys.readouterr().out, Path("run/log.txt").read_text()
    line = r"CLIPFit on Demo: 20 classes, 1 shots, 4,096 trained parameters; seed 1, folder run"
    assert re.search(line, printed), printed
    assert "** Config **" not in printed and "** Config **" in log and "WARMUP_CONS_LR" in log
    assert "20 training images are fewer than a batch of 32" in printed


def test_a_mac_is_told_that_its_gpu_is_not_used(run_train, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert run_train("--trainer", "ZeroshotCLIP", "--seed", 1, "--no-train") is None
    assert "(MPS) is not used" in capsys.readouterr().out


def test_images_that_fill_no_batch_are_counted(run_train, capsys):
    run_train(*TRAINED, "--output-dir", "run", *SHORT, "DATALOADER.TRAIN_X.BATCH_SIZE", 8)
    assert "each epoch leaves out 4 of them" in capsys.readouterr().out


def test_one_class_only_is_said(run_train, capsys):
    for number in range(10):
        Path("dtd/images/banded").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 48), (20 * number, 0, 0)).save(f"dtd/images/banded/banded_{number}.jpg")
    words = ["--trainer", "ZeroshotCLIP", "--backbone", "demo", "--seed", 1, "--root", ".", "--no-train"]
    assert run_train(*words, dataset="dtd") is None
    assert "has one class only (banded), so every answer is right" in capsys.readouterr().out
