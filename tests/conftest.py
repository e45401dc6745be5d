"""The embedded data, drawn once per session, and train.py called as a user calls it."""

import json
import os
from pathlib import Path

# Many small tensors: more threads cost more than they bring, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import train
from dassl.utils import close_logger
from tests.web import Server

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory):
    """Digests that tests remember lie in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory):
    """A data root; the embedded data sets are drawn into it on first use."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def command_line(tmp_path, monkeypatch):
    """Run one train.py command line in ``tmp_path`` and return the exit message, None for success."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        try:
            train.main(list(map(str, words)))
        except SystemExit as stop:
            return stop.code
        finally:
            close_logger()
        return None

    return run


@pytest.fixture
def run_train(demo_root, command_line):
    """As ``command_line``, on a data set whose pictures are drawn once per session."""

    def run(*words, dataset="demo"):
        config = PROJECT / f"configs/datasets/{dataset}.yaml"
        return command_line("--root", demo_root, "--dataset-config-file", config, *words)

    return run


@pytest.fixture
def result():
    """Read the result.json of a run folder."""
    return lambda folder: json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))


@pytest.fixture
def server():
    """A server on this machine that plays faults (tests/web.py)."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def tls():
    """A server whose certificate nobody has signed."""
    server = Server(tls=True)
    yield server
    server.close()
