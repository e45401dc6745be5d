"""What is said where memory runs out, and what counts as that."""

import errno
import io
import multiprocessing
import os
import sys

import pytest
import torch

from clipfit.io import checkpoints
from dassl.config import get_cfg_default
from dassl.data import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from launch.errors import message_of_run, ran_out_of_memory
from trainers.clipfit import CLIPFit

CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
SHORT = ["--trainer", "CLIPFit", "--shots", 1, "--seed", 1, "OPTIM.MAX_EPOCH", 1, "VERBOSE", "False"]


def refused_by_a_cpu():
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(10**14)
    return refusal.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(CUDA),
        refused_by_a_cpu(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_memory_that_ran_out_is_known_whoever_says_it(error):
    assert ran_out_of_memory(error)
    assert "DATALOADER.TRAIN_X.BATCH_SIZE" in message_of_run(error)
    try:
        try:
            raise error
        except Exception as first:
            raise ValueError("the plugin's own words") from first
    except ValueError as wrapped:
        assert ran_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("CUDA error: device-side assert triggered")]
)
def test_other_errors_get_no_advice(error):
    assert not ran_out_of_memory(error) and message_of_run(error) == str(error)


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers "
        "are out of shared memory. Please try to raise your shared memory limit.",
        "unable to write to file </torch_12_345_0>: No space left on device (28)",
        "unable to mmap 1024 bytes from file </torch_12_345_0>: Cannot allocate memory (12)",
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "a.py", line 1, in b\n    c\n'
        "RuntimeError: unable to write to file </torch_12_345_0>: No space left on device (28)\n",
    ],
)
def test_a_full_shared_memory_names_the_key_that_needs_none(text):
    message = message_of_run(RuntimeError(text))
    assert "DATALOADER.NUM_WORKERS 0" in message and "/dev/shm" in message and "\n" not in message
    assert message.startswith(("DataLoader worker", "unable to", "RuntimeError: unable to"))


def test_no_room_for_the_locks_of_workers_names_it_too(monkeypatch):
    def refuse(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", refuse)
    with pytest.raises(OSError) as caught:
        multiprocessing.get_context("spawn").Lock()
    assert "DATALOADER.NUM_WORKERS 0" in message_of_run(caught.value)


def test_a_full_data_disk_is_no_matter_of_workers():
    assert "NUM_WORKERS" not in message_of_run(OSError(errno.ENOSPC, "No space left on device", "data/a.png"))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(
    "content, message",
    [
        (b"no picture", "{path} cannot be read as an image (it is not of the formats"),
        (None, "no image file at '{path}'; check where the data lie (DATASET.ROOT)"),
    ],
)
def test_a_loader_workers_error_is_the_line_that_it_would_be_without_workers(content, message, tmp_path):
    path = tmp_path / "a.png"
    if content:
        path.write_bytes(content)
    texts = []
    for workers in (0, 1):
        cfg = get_cfg_default()
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = build_data_loader(
            cfg, data_source=[Datum(str(path))], tfm=build_transform(cfg), is_train=False
        )
        with pytest.raises(OSError) as caught:
            list(loader)
        texts.append(message_of_run(caught.value))
        del loader, caught
    assert texts[0] == texts[1] and "\n" not in texts[1]
    assert texts[1].startswith(message.format(path=path))


def test_a_file_that_does_not_fit_into_memory_is_named_with_what_helps(monkeypatch, tmp_path):
    torch.save({"w": torch.zeros(9)}, tmp_path / "large.pt")

    def refuse(*words):
        raise MemoryError

    monkeypatch.setattr(checkpoints.tensor_files, "read", refuse)
    with pytest.raises(MemoryError) as caught:
        checkpoints.load_checkpoint(tmp_path / "large.pt")
    message = message_of_run(caught.value)
    assert message.startswith(f"{tmp_path / 'large.pt'} (0 MiB) does not fit into memory; end other programs")
    assert "BATCH_SIZE" not in message


def test_a_program_that_does_not_fit_into_memory_is_named_too(monkeypatch, tmp_path):
    class Large(io.BytesIO):
        def read(self, *words):
            raise MemoryError

        def fileno(self):
            return descriptor

    descriptor = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(checkpoints, "open_regular", lambda path: Large())
    monkeypatch.setattr(checkpoints.tensor_files, "is_program", lambda file: True)
    with pytest.raises(MemoryError, match=r"archive\.pt \(\d+ MiB\) does not fit into memory"):
        checkpoints.load_published("archive.pt", [])
    os.close(descriptor)


def test_every_error_has_a_message():
    assert (
        message_of_run(KeyError("no such name")) == "no such name"
        and message_of_run(RuntimeError()) == "RuntimeError"
    )


@pytest.mark.parametrize(
    "method, key",
    [
        ("forward_backward", "DATALOADER.TRAIN_X.BATCH_SIZE"),
        ("model_inference", "DATALOADER.TEST.BATCH_SIZE"),
        ("test", "DATALOADER.TEST.BATCH_SIZE"),
        ("setup", "--backbone"),
    ],
)
def test_the_advice_names_what_was_too_large(run_train, monkeypatch, method, key):
    def test(*args, **kwargs):
        raise torch.OutOfMemoryError(CUDA)

    def step(*args, **kwargs):
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(CLIPFit, method, test if method == "test" else step)
    message = run_train(*SHORT)
    assert message.startswith(f"error: {CUDA}; a smaller {key} ")
    assert "MODEL.MEMORY_GB" in message and "\n" not in message
