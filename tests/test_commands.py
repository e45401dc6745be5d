"""What every command line of the project owes: ~ in paths, commands that work when pasted, plain words."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from dassl.config import load_yaml
from launch.arguments import parse_args
from launch.resolve import resolve
from report import run as report_of_a_run
from scripts import base2new_table

PROJECT = Path(__file__).parent.parent
OURS = [
    path
    for path in PROJECT.rglob("*.py")
    if not {"tests", ".venv"} & set(path.relative_to(PROJECT).parts) and "site-packages" not in path.parts
]
A_COMMAND = re.compile(r"\bpython3? (-[mc] |\S+\.py)")


def calls(tree):
    """Every call in a file: the name that is called, its line, its keyword arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            yield name, node.lineno, {word.arg: word.value for word in node.keywords}


def test_every_flag_that_is_a_path_takes_the_home_folder():
    """A flag of type Path would take ~ as a folder of that name; PATH expands it."""
    types = {
        f"{path.relative_to(PROJECT)}:{line}": ast.unparse(words["type"])
        for path in OURS
        for name, line, words in calls(ast.parse(path.read_text(encoding="utf-8")))
        if name == "add_argument" and "type" in words
    }
    assert len(types) > 20
    assert set(types.values()) <= {"PATH", "os.path.expanduser", "int", "float"}, types


def test_home_is_expanded_where_runs_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert report_of_a_run.main(["~/run"]) == 1
    assert f"{tmp_path}/run holds no finished run" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=f"{tmp_path}/runs"):
        base2new_table.main(["demo", "--output", "~/runs"])


def test_no_message_holds_a_command_that_names_python_for_everybody():
    """They are built by `pasted`, which names the Python that runs; a parser's `prog` is built so too."""
    plain = []
    for path in OURS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        docs |= {id(words["prog"]) for _, _, words in calls(tree) if "prog" in words}
        plain += [
            f"{path.relative_to(PROJECT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in docs and A_COMMAND.search(node.value)
        ]
    assert plain == []


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "--trainr", "CLIPFit"],
        ["reproduce.py", "plan", "--dataset", "demo"],
        ["parse_test_res.py", "--keywrd", "accuracy"],
        ["scripts/base2new_table.py", "--sead", "1"],
        ["-m", "report.run", "--wron", "1"],
        ["-m", "datasets.doctor", "--roo", "data"],
    ],
    ids=lambda command: command[command[0] == "-m"],
)
def test_the_command_in_the_answer_to_a_wrong_flag_works_when_pasted(command):
    """Also where the shell knows no `python`, only the one that was called by its path."""
    python = ".venv/bin/python" if (PROJECT / ".venv/bin/python").exists() else "python"
    bare = {"PATH": "/nowhere"} if python != "python" else os.environ
    refused = subprocess.run(
        [python, *command], cwd=PROJECT, capture_output=True, text=True, env={**os.environ, **bare}
    )
    assert refused.returncode == 2
    pasted = re.search(r"\((.* --help) lists all flags\)", refused.stderr)[1]
    shown = subprocess.run(
        ["/bin/sh", "-c", pasted], cwd=PROJECT, capture_output=True, text=True, env={**os.environ, **bare}
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage: ")


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    return tmp_path / "pipe.yaml"


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--config-file", "{pipe}"),
        ("--config-file", "/dev/null"),
        ("--config-file", "child.yaml"),
        ("--backbone", "{pipe}"),
        ("--backbone", "/dev/null"),
        ("DATASET.FEWSHOT_LIST", "{pipe}"),
        ("MODEL.INIT_WEIGHTS", "{pipe}"),
        ("MODEL.INIT_WEIGHTS", "/dev/null"),
    ],
)
def test_a_pipe_or_a_device_is_called_so_where_a_file_belongs(run_train, pipe, flag, value):
    Path("child.yaml").write_text(f"_BASE_: {pipe}")
    value = value.format(pipe=pipe)
    named = "pipe.yaml" if value == "child.yaml" else value
    message = run_train("--trainer", "CLIPFit", "--seed", 1, "--shots", 1, flag, value)
    assert re.search(rf"{named}.* is a (pipe|socket).* or a device, no file", message), message


@pytest.mark.parametrize("flag", ["--config-file", "--dataset-config-file"])
def test_a_folder_is_called_so_where_a_file_belongs(flag, tmp_path):
    dataset = ["--dataset", "demo"] if flag == "--config-file" else []
    with pytest.raises(FileNotFoundError, match="is a folder, no file"):
        resolve(parse_args(["--trainer", "CLIPFit", *dataset, flag, str(tmp_path)]))


def test_the_parent_of_a_yaml_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "parent.yaml").write_text("SEED: 7")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/child.yaml").write_text("_BASE_: ~/parent.yaml")
    assert load_yaml(tmp_path / "deep/child.yaml") == {"SEED": 7}
