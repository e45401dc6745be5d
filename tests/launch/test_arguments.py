"""The flags: none is abbreviated, a wrong one is answered, paths and the data root."""

import os

import pytest

import reproduce
from clipfit.io.commands import default_root
from datasets.tools import doctor, prepare
from launch.arguments import parse_args
from launch.resolve import resolve


def refusal(words, capsys, parse=parse_args):
    with pytest.raises(SystemExit) as stop:
        parse(words)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    "flag, answer",
    [
        ("--data", "did you mean --root?"),
        ("--dataset-config", "did you mean --dataset-config-file?"),
        ("--train", "did you mean --trainer?"),
        ("--sead=1", "did you mean --seed?"),
        ("--output", "did you mean --output-dir?"),
        ("--lr", "OPTIM.LR"),
        ("--epochs", "OPTIM.MAX_EPOCH"),
        ("--gpu", "CUDA_VISIBLE_DEVICES=0"),
        ("--device", "CUDA_VISIBLE_DEVICES=0"),
    ],
)
def test_flags_are_given_in_full_and_a_wrong_one_is_answered(flag, answer, capsys):
    said = refusal(["--trainer", "CLIPFit", flag, "x"], capsys)
    assert f"unknown flag {flag.partition('=')[0]}; " in said and answer in said


@pytest.mark.parametrize("command", ["list", "plan", "run", "report"])
def test_reproduce_takes_no_abbreviated_flag_either(command, capsys):
    assert "did you mean --datasets?" in refusal([command, "--dataset", "dtd"], capsys, reproduce.parse_args)
    assert "CUDA_VISIBLE_DEVICES" in refusal([command, "--gpu", "0"], capsys, reproduce.parse_args)


@pytest.mark.parametrize("program", [doctor, prepare])
def test_doctor_and_prepare_take_no_abbreviated_flag_either(program, capsys):
    assert "did you mean --root?" in refusal(["dtd", "--roo", "data"], capsys, program.main)


def test_a_value_that_is_no_number_is_one_line(capsys):
    assert "--shots" in refusal(["--shots", "many"], capsys)


def test_version_says_the_versions(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.startswith("clipfit ")


def test_home_is_expanded_in_every_flag_that_is_a_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ("root", "output_dir", "resume", "model_dir", "config_file", "dataset_config_file", "backbone")
    words = [word for flag in flags for word in (f"--{flag.replace('_', '-')}", f"~/{flag}")]
    args = vars(parse_args(words))
    assert {flag: args[flag] for flag in flags} == {flag: str(tmp_path / flag) for flag in flags}
    args = reproduce.parse_args(["report", "--root", "~/a", "--output", "~/b", "--report", "~/c"])
    assert [args.root, args.output, args.report] == [str(tmp_path / name) for name in "abc"]


def test_home_is_expanded_in_pairs_that_are_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["--trainer", "CLIPFit", "--dataset", "dtd", "--seed", "1", "DATASET.ROOT", "~/a"]
    cfg = resolve(parse_args([*words, "DATASET.FEWSHOT_LIST", "~/b.json"])).cfg
    assert (f"{tmp_path}/a", f"{tmp_path}/b.json") == (cfg.DATASET.ROOT, cfg.DATASET.FEWSHOT_LIST)


@pytest.mark.parametrize("given, root", [(None, "data"), ("", "data"), ("/pictures", "/pictures")])
def test_the_data_root_is_the_same_in_every_command(given, root, monkeypatch):
    if given is None:
        monkeypatch.delenv("DATA", raising=False)
    else:
        monkeypatch.setenv("DATA", given)
    assert default_root() == root
    words = ["--trainer", "CLIPFit", "--dataset", "dtd", "--seed", "1"]
    assert root == resolve(parse_args(words)).cfg.DATASET.ROOT
    assert reproduce.parse_args(["list"]).root == root
    assert resolve(parse_args([*words, "--root", "mine"])).cfg.DATASET.ROOT == "mine"


@pytest.mark.parametrize("program", [doctor, prepare])
def test_doctor_and_prepare_look_below_data_too(program, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DATA", str(tmp_path / "pictures"))
    monkeypatch.setattr(program, "report_all" if program is doctor else "draw", lambda *words: print(words))
    monkeypatch.setattr(doctor, "report", lambda *words: True)
    program.main(["all"] if program is doctor else ["demo"])
    assert os.fspath(tmp_path / "pictures") in capsys.readouterr().out
