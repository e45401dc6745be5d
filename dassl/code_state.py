"""Which code runs: its commit, what git does not know of it, the installed packages. Imports no torch."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from clipfit.io.digests import file_digest

PROJECT = Path(__file__).resolve().parent.parent
OURS = ("dassl", "clipfit", "trainers", "datasets", "launch", "configs", "grid", "report")
OURS += ("train.py", "reproduce.py")
CODE = {".py", ".so", ".yaml", ".yml", ".json", ".csv"}  # untracked files of other kinds decide nothing
REQUIREMENTS = "requirements.txt"
PATIENCE = 30.0  # seconds that git may take, on a slow network drive
CHANGED = "+changes"  # behind a commit whose files are not those that run


class _NoCommit(Exception):
    """Why git tells no commit."""


def code_state(project: Path = PROJECT) -> dict:
    """The code in our folders, against git.

    Returns: commit (marked ``+changes`` where files differ from it, None if git tells none), no_commit (why,
             else None), changed and untracked: path -> sha256 of the content, None for a file that is gone.
             Untracked files count also where git was told to ignore them: a plugin is a plugin.
    """
    try:
        commit, changed, untracked = _ask_git(project)
    except _NoCommit as reason:
        return {"commit": None, "no_commit": str(reason), "changed": {}, "untracked": {}}
    return {
        "commit": commit + (CHANGED if changed or untracked else ""),
        "no_commit": None,
        "changed": {path: _digest(project / path) for path in changed},
        "untracked": {path: _digest(project / path) for path in untracked},
    }


def requirement_versions(project: Path = PROJECT) -> dict[str, str | None]:
    """Requirement -> its installed version, None where it is not installed; imported or not."""
    return {name: _version(name) for name in sorted(_requirements(project), key=str.lower)}


# git ------------------------------------------------------------------------------------------------


def _ask_git(project: Path) -> tuple[str, list[str], list[str]]:
    """Commit, changed files, untracked files. Raises: _NoCommit"""
    commit, prefix, *_ = [*_git(project, "rev-parse", "HEAD", "--show-prefix").splitlines(), ""]
    untracked = sorted(filter(_is_code, _names(_git(project, "ls-files", "-z", "--others", "--", *OURS))))
    if "dassl/__init__.py" in untracked:
        raise _NoCommit("the git checkout around this code does not hold it")
    status = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--", *OURS]
    changed = sorted(name[3:].removeprefix(prefix) for name in _names(_git(project, *status)))
    return commit, changed, untracked


def _git(project: Path, *words: str) -> str:
    # Inside a git hook these variables lead to the repository of the hook.
    misleading = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in misleading}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            ["git", "-C", str(project), *words],
            capture_output=True,
            env=environment,
            timeout=PATIENCE,
        )
    except FileNotFoundError:
        raise _NoCommit("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise _NoCommit(f"git gave no answer in {PATIENCE:.0f} seconds") from None
    except OSError as error:
        raise _NoCommit(f"git cannot be started: {error.strerror}") from None
    if answer.returncode:
        raise _NoCommit(_reason(os.fsdecode(answer.stderr), project))
    return os.fsdecode(answer.stdout)


def _reason(message: str, project: Path) -> str:
    if "not a git repository" in message:
        return "not a git checkout"
    if "dubious ownership" in message:
        return (
            "git refuses to read a checkout of another user; "
            f"git config --global --add safe.directory {shlex.quote(str(project))} allows it"
        )
    first = next(iter(message.splitlines()), "").removeprefix("fatal: ")
    return f"git says: {first or 'nothing'}"


def _names(answer: str) -> Iterator[str]:
    """Of an answer with -z."""
    return filter(None, answer.split("\0"))


def _is_code(path: str) -> bool:
    return Path(path).suffix in CODE


def _digest(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


# Packages -------------------------------------------------------------------------------------------


def _requirements(project: Path) -> set[str]:
    """Names in requirements.txt; where that is not there, what the installed package asks for."""
    path = project / REQUIREMENTS
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
    else:
        try:
            lines = metadata.requires("clipfit") or []
        except metadata.PackageNotFoundError:
            lines = []
    return {match[0] for line in lines if (match := re.match(r"\w[\w.-]*", line))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
