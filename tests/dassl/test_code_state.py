"""Which code ran: the commit, and what git does not know of it."""

import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from dassl import code_state as module
from dassl.code_state import PROJECT, code_state, requirement_versions

CODE = {"dassl/__init__.py": "", "trainers/coop.py": "A = 1\n", "train.py": "", "README.md": "words"}


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(folder, files):
    for name, text in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def checkout(tmp_path):
    """A project of one commit."""
    project = tmp_path / "project"
    write(project, CODE)
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    return project


def test_a_clean_checkout_is_its_commit(checkout):
    write(checkout, {"README.md": "other words", "notes/plan.py": "", "trainers/__pycache__/coop.pyc": ""})
    head = git(checkout, "rev-parse", "HEAD")
    assert code_state(checkout) == {"commit": head, "no_commit": None, "changed": {}, "untracked": {}}


def test_changed_and_deleted_files_are_named_with_their_content(checkout):
    write(checkout, {"trainers/coop.py": "A = 2\n"})
    (checkout / "train.py").unlink()
    state = code_state(checkout)
    assert state["commit"] == git(checkout, "rev-parse", "HEAD") + "+changes"
    assert state["changed"] == {"train.py": None, "trainers/coop.py": sha256("A = 2\n")}
    git(checkout, "add", ".")  # staged is not committed
    assert code_state(checkout) == state


@pytest.mark.parametrize("ignored", [False, True])
def test_an_untracked_plugin_is_code_also_where_git_ignores_it(ignored, checkout):
    if ignored:
        write(checkout, {".git/info/exclude": "trainers/mine.py\n"})
    write(checkout, {"trainers/mine.py": "B = 1\n", "trainers/größe 1.py": "", "datasets/photo.jpg": ""})
    state = code_state(checkout)
    assert state["commit"].endswith("+changes") and state["changed"] == {}
    assert state["untracked"] == {"trainers/größe 1.py": sha256(""), "trainers/mine.py": sha256("B = 1\n")}


def test_a_project_below_the_root_of_a_checkout(tmp_path):
    project = tmp_path / "work/clipfit"
    write(project, CODE)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    write(project, {"trainers/coop.py": "A = 3\n", "trainers/mine.py": ""})
    state = code_state(project)
    assert state["changed"] == {"trainers/coop.py": sha256("A = 3\n")}
    assert state["untracked"] == {"trainers/mine.py": sha256("")}


def test_a_copy_inside_somebody_elses_checkout_has_no_commit(checkout):
    write(checkout / "copy", CODE)
    state = code_state(checkout / "copy")
    assert state["commit"] is None
    assert state["no_commit"] == "the git checkout around this code does not hold it"


def test_the_repository_of_a_git_hook_is_not_ours(checkout, tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert code_state(checkout)["no_commit"] is None


def test_a_folder_outside_git_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    write(tmp_path / "project", CODE)
    state = code_state(tmp_path / "project")
    assert state == {"commit": None, "no_commit": "not a git checkout", "changed": {}, "untracked": {}}


def test_without_git_that_is_said(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state(checkout)["no_commit"] == "git is not installed"


@pytest.fixture
def fake_git(tmp_path, monkeypatch):
    """Put a git on PATH that runs this Python code."""

    def make(code):
        program = tmp_path / "bin/git"
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    return make


@pytest.mark.parametrize(
    "answer, said",
    [
        (
            "fatal: detected dubious ownership in repository at '/x'\nTo add an exception ...",
            "git refuses to read a checkout of another user; "
            "git config --global --add safe.directory {} allows it",
        ),
        ("fatal: bad object HEAD\nmore", "git says: bad object HEAD"),
        ("", "git says: nothing"),
    ],
)
def test_what_git_refuses_is_said(answer, said, checkout, fake_git):
    fake_git(f"import sys; sys.stderr.write({answer!r}); sys.exit(128)")
    assert code_state(checkout)["no_commit"] == said.format(checkout)


def test_git_is_not_waited_for_forever(checkout, fake_git, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    fake_git("import signal; signal.pause()")
    assert code_state(checkout)["no_commit"] == "git gave no answer in 0 seconds"


# Packages -------------------------------------------------------------------------------------------


def test_versions_are_of_the_requirements_whatever_is_imported(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "# words\nPillow>=10.0   # why\n\nnot-there-1.x>=2\n-r other\n"
    )
    found = requirement_versions(tmp_path)
    assert found == {"not-there-1.x": None, "Pillow": metadata.version("pillow")}
    ours = requirement_versions()
    assert {"torch", "numpy", "clip-anytorch", "tensorboard"} < ours.keys() and ours["torch"]
    code = "from dassl.code_state import *; import json; print(json.dumps(requirement_versions()))"
    elsewhere = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert elsewhere.stdout.strip() == json.dumps(ours)


def test_a_copy_without_requirement_files_knows_what_the_package_asks_for(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=2.9", "tqdm>=4.66; extra == 'x'"])
    assert list(requirement_versions(tmp_path)) == ["torch", "tqdm"]


def test_it_imports_no_torch():
    code = "import sys, dassl.code_state; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
