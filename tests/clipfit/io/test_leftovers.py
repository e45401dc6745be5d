"""Temporary files of killed processes: dead ones of this host and old ones go, all others stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipfit.io.files import atomic_write, remove_leftovers, temporary_beside


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def left(folder, pid, name="result.json", host=None):
    path = temporary_beside(folder / name)
    end = path.name.removeprefix(f".{name}.{os.getpid()}-")
    path = path.with_name(f".{name}.{pid}-{end if host is None else host + end[8:]}")
    path.write_text("half")
    return path


def test_a_temporary_of_a_dead_process_goes_and_that_of_a_living_one_stays(tmp_path, dead):
    gone, kept = left(tmp_path, dead), left(tmp_path, os.getpid())
    (tmp_path / "result.json").write_text("{}")
    assert remove_leftovers(tmp_path) == [gone]
    assert sorted(tmp_path.iterdir()) == [kept, tmp_path / "result.json"]


def test_what_another_host_may_be_writing_stays_until_it_is_old(tmp_path, dead):
    paths = [left(tmp_path, dead, host="00000000"), left(tmp_path, dead, host="")]  # "": of older versions
    assert remove_leftovers(tmp_path) == []
    for path in paths:
        os.utime(path, (1, 1))
    assert sorted(remove_leftovers(tmp_path)) == sorted(paths)


@pytest.mark.parametrize("name", [".x.tmp", "x.12-00000000.tmp", ".x.pid-0123abcd.tmp", "a.tmp"])
def test_files_of_other_programs_stay_however_old(name, tmp_path):
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (1, 1))
    assert remove_leftovers(tmp_path) == []


def test_folders_go_too_and_only_those_of_a_name_if_one_is_given(tmp_path, dead):
    folder = left(tmp_path, dead, "demo")
    folder.unlink()
    (folder / "images").mkdir(parents=True)
    left(tmp_path, dead, "other")
    assert remove_leftovers(tmp_path, "demo") == [folder] and not folder.exists()


def test_what_a_killed_writer_leaves_is_found(tmp_path):
    program = (
        "import os, sys; from clipfit.io.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: file.write('half'); file.flush(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.json"], check=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_file_is_written_while_leftovers_are_removed(tmp_path):
    with atomic_write(tmp_path / "a.json") as file:
        remove_leftovers(tmp_path)
        file.write("{}")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["a.json"]
