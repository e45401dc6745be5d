"""When a warm process may do another run, and that it ends where it may not."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

import train
from dassl.utils import stop_signals
from grid import worker
from grid.executors import local
from grid.executors.local import LocalExecutor
from launch.folder import FolderInUse
from launch.resolve import PROJECT

ASSERT = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture
def answer(monkeypatch):
    """What the worker answers to a run that raises this error (None: it ends well)."""

    def answer(error):
        def run_command(argv):
            if error is not None:
                raise error

        monkeypatch.setattr(train, "run_command", run_command)
        return worker.execute([])

    return answer


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError(ASSERT),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA driver error: unspecified launch failure"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    ],
)
def test_a_cuda_error_spoils_the_process(answer, error):
    given = answer(error)
    assert given.spoiled and given.error == str(error) and not given.out_of_memory
    wrapped = ValueError("the plugin's own words")
    wrapped.__cause__ = error
    assert answer(wrapped).spoiled and answer(wrapped).error == "the plugin's own words"


def test_other_errors_leave_the_process_as_it_was(answer):
    assert answer(None) == worker.Answer()
    assert answer(ValueError("BETA is -1")) == worker.Answer("BETA is -1")
    no_memory = answer(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    assert no_memory.out_of_memory and not no_memory.spoiled


def test_a_folder_that_another_process_holds_is_told_apart(answer):
    given = answer(FolderInUse("another process is running in output/x"))
    assert given == worker.Answer("another process is running in output/x", elsewhere=True)


def test_a_signal_ends_the_run_with_words_and_the_process(monkeypatch):
    def stopped(argv):
        os.kill(os.getpid(), signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in stop_signals.SIGNALS}
    monkeypatch.setattr(train, "run_command", stopped)
    try:
        words = "SIGTERM: stopped; the same command goes on from what is saved"
        assert worker.execute([]) == worker.Answer(words, spoiled=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    monkeypatch.setattr(train, "run_command", lambda argv: None)
    assert worker.execute([]) == worker.Answer()
    assert {number: signal.getsignal(number) for number in stop_signals.SIGNALS} == before


def test_errors_that_train_py_does_not_expect_count_too(answer):
    class Surprise(Exception):
        pass

    assert answer(Surprise("what?")) == worker.Answer("Surprise: what?")
    surprise = Surprise("what?")
    surprise.__context__ = torch.AcceleratorError(ASSERT)
    assert answer(surprise).spoiled


@pytest.mark.parametrize("error, message", [(None, None), (ValueError("it came late"), "it came late")])
def test_an_error_that_comes_to_light_when_memory_is_released_spoils_the_process(
    answer, monkeypatch, error, message
):
    def fail():
        raise torch.AcceleratorError(ASSERT)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert answer(error) == worker.Answer(message, spoiled=True)


# Once CUDA has failed in a process it goes on failing there; every message names the process.
SCRIPT = """
import os, torch, train
from grid import worker

failed = []

def run_command(argv):
    if "2" == argv[argv.index("--seed") + 1] or failed:
        failed.append(True)
        raise torch.AcceleratorError(f"CUDA error: device-side assert triggered in process {os.getpid()}")
    raise ValueError(f"in process {os.getpid()}")

train.run_command = run_command
worker.serve()
"""


def test_a_worker_answers_and_ends_after_a_cuda_error():
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(json.dumps(["--seed", "2"]) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["spoiled"]
        process.wait(60)  # raises if it goes on


def test_after_a_cuda_error_the_next_run_gets_a_new_process(tmp_path, short_runs, monkeypatch):
    monkeypatch.setattr(local, "WORKER", [sys.executable, "-c", SCRIPT])
    monkeypatch.setattr(local, "HEARTBEAT", 0.02)
    runs = short_runs(tmp_path, [1, 2, 3])
    executor = LocalExecutor(jobs=1)
    executor.open(runs)

    def error_of(planned):
        executor.start(planned)
        while not (outcomes := executor.wait()):
            pass
        return outcomes[0].error

    one, two, three = runs
    try:
        first = error_of(one)
        assert first.startswith("in process ") and error_of(one) == first
        assert error_of(two) == f"CUDA error: device-side assert triggered {first}"
        second = error_of(three)
        assert second.startswith("in process ") and second != first and error_of(one) == second
    finally:
        executor.close()
