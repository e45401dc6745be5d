"""The scripts' folders: one for each shipped method, called like its file."""

import shutil
import subprocess
from pathlib import Path

import pytest

from launch.registered import methods, shipped_files, shipped_methods

PROJECT = Path(__file__).parents[2]
SCRIPTS = PROJECT / "scripts"


def test_every_shipped_method_has_its_folder():
    folders = {path.parent.name for path in SCRIPTS.glob("*/base2new_train.sh")}
    expected = set(shipped_files(PROJECT / "trainers"))
    told = [f"ln -s clipfit scripts/{name}" for name in expected - folders]
    assert folders == expected, told


def test_each_of_these_scripts_is_one_that_reaches_any_method():
    everywhere = {path.name for path in SCRIPTS.glob("*.sh")} - {"common.sh"}
    assert everywhere == {path.name for path in (SCRIPTS / "clipfit").glob("*.sh")} and len(everywhere) == 6


def test_the_usage_line_names_every_method_where_one_is_to_be_chosen():
    def usage(script):
        done = subprocess.run(["bash", SCRIPTS / script, "demo"], capture_output=True, text=True)
        assert done.returncode == 2
        return done.stderr.splitlines()

    line, names, _ = usage("few_shot.sh")
    assert line.endswith("few_shot.sh <method> <data set> <seed>")
    assert names.split()[1:] == methods() and set(shipped_methods()) <= set(methods())
    line, _ = usage("kgcoop/few_shot.sh")
    assert line.endswith("kgcoop/few_shot.sh <data set> <seed>")


@pytest.mark.parametrize("name", ["python", "python3"])
def test_a_script_finds_python_by_either_name(name, tmp_path):
    """In a checkout without an environment of its own, on a machine that knows one of the names."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for tool in ("bash", "dirname", "basename"):
        (commands / tool).symlink_to(shutil.which(tool))
    (commands / name).write_text('#!/bin/sh\necho "$0 $*"\n')
    (commands / name).chmod(0o755)
    shutil.copytree(SCRIPTS, tmp_path / "clone/scripts", symlinks=True)
    done = subprocess.run(
        ["bash", tmp_path / "clone/scripts/clipfit/few_shot.sh", "demo", "1"],
        capture_output=True,
        text=True,
        env={"PATH": str(commands)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{commands / name} train.py --trainer clipfit --protocol few_shot")
