"""What is said where memory runs out, and what counts as that."""

import pytest
import torch

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


def test_every_error_has_a_message():
    assert (
        message_of_run(KeyError("no such name")) == "no such name"
        and message_of_run(RuntimeError()) == "RuntimeError"
    )


@pytest.mark.parametrize(
    "method, key", [("forward_backward", "TRAIN_X"), ("model_inference", "TEST"), ("test", "TEST")]
)
def test_the_advice_names_the_batch_that_was_too_large(run_train, monkeypatch, method, key):
    def test(*args, **kwargs):
        raise torch.OutOfMemoryError(CUDA)

    def step(*args, **kwargs):
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(CLIPFit, method, test if method == "test" else step)
    message = run_train(*SHORT)
    assert message.startswith(f"error: {CUDA}; a smaller DATALOADER.{key}.BATCH_SIZE ")
    assert "clipfit/chunks.py" in message and "\n" not in message
