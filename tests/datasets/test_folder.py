"""Where things stand in datasets/: loaders register themselves, tools stay out of training's way."""

import ast
import subprocess
import sys

import pytest

from launch.resolve import PROJECT


def test_importing_the_data_sets_imports_no_tool():
    look = "import sys, datasets; print([name for name in sys.modules if name.startswith('datasets.')])"
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    imported = ast.literal_eval(done.stdout.splitlines()[-1])
    assert {"datasets.dtd", "datasets.demo"} <= set(imported)
    assert not [name for name in imported if name.split(".")[1] in ("tools", "doctor", "prepare")]


@pytest.mark.parametrize("program", ["doctor", "prepare"])
def test_a_program_starts_by_its_short_name_without_a_warning(program, tmp_path):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", f"datasets.{program}", "dtdd"]
    done = subprocess.run([*command, "--root", tmp_path], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown data set 'dtdd'; did you mean 'dtd'?")
