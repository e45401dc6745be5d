"""The log file: what is kept of what is printed."""

import io
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tqdm import tqdm

from dassl.utils import Logger, close_logger, log_only, setup_logger

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def restored():
    yield
    close_logger()


def body(path):
    """The lines of a log file without the header of each start."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("# ")]


def test_what_is_printed_goes_to_console_and_file(tmp_path, capsys):
    setup_logger(tmp_path)
    print("result", 57.16)
    print("warning", file=sys.stderr)
    log_only("quiet")
    print("no line end yet", end="")
    assert body(tmp_path / "log.txt") == ["result 57.16", "warning", "quiet"]
    close_logger()
    assert body(tmp_path / "log.txt")[-1] == "no line end yet"
    out, err = capsys.readouterr()
    assert (out, err) == ("result 57.16\nno line end yet", "warning\n")


def test_lines_reach_the_file_at_once(tmp_path):
    setup_logger(tmp_path)
    print("one")
    assert body(tmp_path / "log.txt") == ["one"]


def test_a_second_start_appends_after_a_header_with_time_and_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--root", "my data"])
    for text in ("first", "second"):
        setup_logger(tmp_path)
        print(text)
        close_logger()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    headers = [line for line in lines if line.startswith("# ")]
    assert len(headers) == 2
    assert headers[0].endswith("python train.py --root 'my data'")
    assert body(tmp_path / "log.txt") == ["first", "second"]


def test_a_line_cut_by_a_kill_is_ended_before_the_next_start(tmp_path):
    (tmp_path / "log.txt").write_text("epoch [1/10] ba")
    setup_logger(tmp_path)
    assert body(tmp_path / "log.txt") == ["epoch [1/10] ba"]


def test_progress_bars_are_shown_and_not_kept(tmp_path, capsys):
    setup_logger(tmp_path)
    print("before")
    for step in tqdm(range(3), mininterval=0):
        if step == 1:
            print("between", file=sys.stderr)
    print("after")
    assert body(tmp_path / "log.txt") == ["before", "between", "after"]
    assert "100%" in capsys.readouterr().err


def test_another_folder_switches_the_file(tmp_path):
    console = sys.stdout
    setup_logger(tmp_path / "a")
    print("in a")
    setup_logger(tmp_path / "b" / "mine.txt")
    print("in b")
    close_logger()
    print("nowhere")
    assert body(tmp_path / "a" / "log.txt") == ["in a"]
    assert body(tmp_path / "b" / "mine.txt") == ["in b"]
    assert sys.stdout is console
    assert not console.closed


def test_the_same_folder_again_changes_nothing(tmp_path):
    setup_logger(tmp_path)
    stream = sys.stdout
    setup_logger(tmp_path)
    assert sys.stdout is stream
    assert (tmp_path / "log.txt").read_text().count("# ") == 1


@pytest.mark.parametrize("output", [None, ""])
def test_no_folder_means_no_log(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    console = sys.stdout
    setup_logger(output)
    assert sys.stdout is console
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_stream_like_the_console(tmp_path):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with Logger(tmp_path / "x.log", console) as stream:
        stream.writelines(["a\n", "b\n"])
        stream.flush()
        assert (stream.encoding, stream.isatty(), stream.write("xyz")) == ("ascii", False, 3)
        with pytest.raises(io.UnsupportedOperation):
            stream.fileno()
    assert not console.closed
    assert (tmp_path / "x.log").read_text() == "a\nb\nxyz\n"


def test_a_crash_leaves_its_traceback_in_the_log(tmp_path):
    code = f"from dassl.utils import setup_logger; setup_logger({str(tmp_path)!r}); print('started'); 1 / 0"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    lines = body(tmp_path / "log.txt")
    assert lines[:2] == ["started", "Traceback (most recent call last):"]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in done.stderr


def test_a_full_disk_names_the_log_and_the_console_goes_on():
    console = io.StringIO()
    with suppress(OSError), open("/dev/full", "a", buffering=1) as full:  # closing it fails too
        logger = Logger(full, console)
        with pytest.raises(OSError, match=r"cannot save /dev/full \(No space left.*make room"):
            logger.write("a line\n")
        logger.write("the error\n")
        logger.close()
    assert console.getvalue() == "a line\nthe error\n"
