"""The README's commands parse, its files exist, and its example trainer runs."""

import re
import shlex
import types
from pathlib import Path

import pytest
from PIL import Image

from launch.arguments import parse_args
from launch.resolve import resolve

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def commands(start):
    return [line.strip() for line in README.splitlines() if line.strip().startswith(start)]


@pytest.mark.parametrize("command", commands("python train.py"))
def test_train_commands_resolve(command, monkeypatch, tmp_path):
    (tmp_path / "my.yaml").write_text("OPTIM: {MAX_EPOCH: 5}\n")
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    for name, color in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), color).save(tmp_path / "photos" / name / "1.png")
    monkeypatch.chdir(tmp_path)
    assert resolve(parse_args(shlex.split(command)[2:])).cfg.TRAINER.NAME == "CLIPFit"


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"@@|TODO|FIXME", README)


def test_every_script_exists():
    scripts = re.findall(r"(?:bash|python) ((?:scripts/)?[\w/]+\.(?:sh|py))", README)
    assert scripts
    for path in scripts:
        assert (PROJECT / path).exists(), path


def test_every_config_key_exists():
    cfg = resolve(parse_args(["--trainer", "CLIPFit", "--protocol", "base2new", "DATASET.NAME", "Demo"])).cfg
    prose = re.sub(r"```python\n.*?```", "", README, flags=re.DOTALL)
    keys = set(re.findall(r"\b(?:[A-Z]\w*\.)+[A-Z_]+\b", prose))
    assert "TRAINER.CLIPFIT.BETA" in keys
    for key in keys:
        node = cfg
        for part in key.split("."):
            assert part in node, key
            node = node[part]


def test_the_example_trainer_is_short_and_runs(run_train, result):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(code.splitlines()) <= 60
    module = types.ModuleType("trainers.feature_scale")
    module.__package__ = "trainers"
    exec(code, module.__dict__)

    words = ["--trainer", "FeatureScale", "--protocol", "base2new", "--seed", 1]
    pairs = ["OPTIM.MAX_EPOCH", 3, "VERBOSE", "False", "TRAINER.FEATURESCALE.PULL", 0.5]
    assert run_train(*words, *pairs) is None
    assert run_train(*words, "--eval-only", *pairs) is None
    (base,) = Path("output/base2new/train_base").rglob("result.json")
    (new,) = Path("output/base2new/test_new").rglob("result.json")
    assert result(base.parent)["trainable_params"] == 64
    assert result(new.parent)["accuracy"] is not None and result(new.parent)["epoch"] == 3
