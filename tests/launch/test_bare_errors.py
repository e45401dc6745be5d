"""An error that says nothing gets its type, its place and what was asked."""

import importlib.util
import sys

import pytest

from launch import bare_errors
from launch.bare_errors import described, message_of

PLUGIN = """\
import weights

_MODELS = {"ViT-B/16": 1}

def look_up(name): return _MODELS[name]
def look_up_elsewhere(name): return weights.find(name)
def assume(name): assert name in _MODELS
def assume_aloud(name): assert name in _MODELS, f"{name} is not there"
def ask_for_an_attribute(name): return weights.missing

def refuse(name):
    raise KeyError(
        f"no backbone {name}; choose ViT-B/16"
    )

def refuse_curtly(name):
    raise ValueError(name)

def refuse_in_silence(name):
    raise NotImplementedError
"""
WEIGHTS = "FILES = {}\ndef find(name): return FILES[name]\n"
HERE = "in trainers/fork.py, line"


@pytest.fixture
def error_of(tmp_path, monkeypatch):
    """The error of a function of PLUGIN, which lies in trainers/ beside a module of its own in weights/."""
    monkeypatch.setattr(bare_errors, "PROJECT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "weights")
    monkeypatch.delitem(sys.modules, "weights", raising=False)
    for path, code in (("trainers/fork.py", PLUGIN), ("weights/weights.py", WEIGHTS)):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(code)
    spec = importlib.util.spec_from_file_location("fork", tmp_path / "trainers/fork.py")
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)

    def call(function, name):
        with pytest.raises((LookupError, ValueError, AssertionError, AttributeError, RuntimeError)) as caught:
            getattr(plugin, function)(name)
        return caught.value

    yield call
    monkeypatch.delitem(sys.modules, "weights")


@pytest.mark.parametrize(
    ("function", "name", "message"),
    [
        ("look_up", "ViT-B/99", f"KeyError {HERE} 5: a lookup of 'ViT-B/99' failed"),
        ("look_up", "spotted cat", f"KeyError {HERE} 5: a lookup of 'spotted cat' failed"),
        ("look_up", 7, f"KeyError {HERE} 5: a lookup of 7 failed"),
        (
            "look_up_elsewhere",
            "ViT-B/99",
            "KeyError in weights/weights.py, line 2, called by trainers/fork.py, line 6: "
            "a lookup of 'ViT-B/99' failed",
        ),
        ("assume", "RN50", f"AssertionError {HERE} 7: def assume(name): assert name in _MODELS"),
        ("assume_aloud", "RN50", f"AssertionError {HERE} 8: RN50 is not there"),
        (
            "ask_for_an_attribute",
            "",
            f"AttributeError {HERE} 9: module 'weights' has no attribute 'missing'",
        ),
        ("refuse", "RN50", "no backbone RN50; choose ViT-B/16"),
        ("refuse_curtly", "RN50", f"ValueError {HERE} 17: RN50"),
        ("refuse_in_silence", "", f"NotImplementedError {HERE} 20: raise NotImplementedError"),
    ],
)
def test_an_error_without_a_sentence_says_where_and_what(error_of, function, name, message):
    assert message_of(error_of(function, name)) == message


def test_the_trainer_is_named_where_it_is_known(error_of):
    message = described(error_of("look_up", "ViT-B/99"), trainer="MMRL")
    assert message == f"KeyError {HERE} 5 (trainer MMRL): a lookup of 'ViT-B/99' failed"
