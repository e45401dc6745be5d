"""Every command and every line of Python in docs/photos.md about a trained model works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.test_photos import drawn, run, the_run  # noqa: F401 - fixtures

PROJECT = Path(__file__).parent.parent
PAGE = (PROJECT / "docs/photos.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
OF_CLIPFIT = re.compile(r"^(clipfit |find .*\| clipfit )")
COMMANDS = [line.split("  #")[0].rstrip() for line in LINES if OF_CLIPFIT.match(line)]


@pytest.fixture
def beside_a_fit(run, drawn, tmp_path):  # noqa: F811
    """A folder in which the names of the page mean something, and the environment of its shell."""
    assert run("--images", drawn) is None
    fit = the_run(tmp_path) / "fit"
    for name in ("output/...", "run1", "run2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "fit").symlink_to(fit)
    for name in ("new_photos/a.png", "new/b.png", "new/inner/c.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 50), (200, 30, 30)).save(tmp_path / name)
    program = tmp_path / "bin/clipfit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m clipfit "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(PROJECT)}


@pytest.mark.slow
def test_every_command_about_a_model_works(beside_a_fit, tmp_path):
    assert len(COMMANDS) >= 7
    for command in COMMANDS:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=beside_a_fit, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "out.csv").is_file() and (tmp_path / "mean/fit.json").is_file()


@pytest.mark.slow
def test_every_line_of_python_works(beside_a_fit, tmp_path):
    (code,) = (block for kind, block in BLOCKS if kind == "python")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=beside_a_fit, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
