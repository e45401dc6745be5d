"""A warm process that executes one run after another, so that imports are paid once.

python -m grid.worker

It reads command lines as JSON lists, one a line, from its standard input, and answers each on its standard
output with an `Answer` as JSON. What runs print goes to their log.txt only. It ends with its parent, in the
middle of a run if need be: a run survives that. It also ends after a run that may have spoiled CUDA for this
process, or that a signal stopped, behind its answer.

A run in a used process ends in the same bits as one by ``python train.py``: every run seeds all generators
and sets threads and kernels itself (launch/runtime.py); `execute` undoes the rest.
"""

import gc
import json
import os
import queue
import re
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

# cuBLAS reads it when it is first used, and any later run may be a deterministic one.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import train
from dassl.utils import close_logger, stop_signals
from launch.errors import causes, ran_out_of_memory
from launch.folder import FolderInUse

# How torch and the libraries under it begin: "CUDA error: ..." (torch.AcceleratorError too), "CUDA driver
# error: ...", "cuDNN error: CUDNN_STATUS_...", "Triton Error [CUDA]: ...". Out of memory has another text.
CUDA_ERROR = re.compile(r"\b(CUDA|HIP|cuDNN|cuSOLVER|cuFFT|NCCL|Triton)( driver)? error|_STATUS_[A-Z]", re.I)


@dataclass(frozen=True)
class Answer:
    """How a run in this process ended."""

    error: str | None = None  # what went wrong in one message; None: nothing
    out_of_memory: bool = False
    elsewhere: bool = False  # another process is running in its folder
    spoiled: bool = False  # no other run may use this process, also as a signal has asked it to end


def execute(argv: list[str]) -> Answer:
    """One run of train.py in this process."""
    before = sys.argv
    sys.argv = ["train.py", *argv]  # log.txt begins with it
    answer = Answer()
    try:
        with warnings.catch_warnings():  # leaving it also forgets which warnings were given already
            train.main(argv)
    except stop_signals.Stopped as stop:
        answer = Answer(stop.words, spoiled=True)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            answer = _answer(str(stop.code).removeprefix("error: "), stop)
    except Exception as error:  # train.py lets only surprises through
        traceback.print_exc()
        answer = _answer(f"{type(error).__name__}: {error}", error)
    finally:
        close_logger()
        sys.argv = before
    works = _release_memory()
    return replace(answer, spoiled=answer.spoiled or not works)


def _answer(message: str, error: BaseException) -> Answer:
    elsewhere = any(isinstance(one, FolderInUse) for one in causes(error))
    return Answer(message, ran_out_of_memory(error), elsewhere, may_spoil_cuda(error))


def may_spoil_cuda(error: BaseException) -> bool:
    """Whether this error, or one that led to it, came from CUDA or a library on it.

    After a device-side assert or an illegal access every later call of the process fails, and the texts do
    not say which errors are of that kind; a new process costs seconds. torch.OutOfMemoryError leaves CUDA as
    it was and is not among them.
    """
    return any(isinstance(one, RuntimeError) and CUDA_ERROR.search(str(one)) for one in causes(error))


def _release_memory() -> bool:
    """Let go of the run's loader workers and of models that refer to themselves, on the GPU too.

    Returns: whether CUDA, if the run used it, still works: an error may come to light only here
    """
    import torch  # by now the run has paid for it

    gc.collect()
    if not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        traceback.print_exc()
        return False
    return True


def serve() -> None:
    """Answer commands until the parent is gone."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # nothing that a run prints or reads may touch the two pipes
        os.dup2(nowhere, standard)
    commands: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, commands), daemon=True).start()
    while True:
        answer = execute(commands.get())
        with suppress(BrokenPipeError):  # the parent is gone, and `_listen` ends this process
            answers.write(json.dumps(asdict(answer)) + "\n")
        if answer.spoiled:
            os._exit(0)  # without a farewell to CUDA, which may fail or wait for ever


def _listen(requests, commands) -> None:
    """Hand on every command; leave when the parent closes the pipe, or ends in whatever way.

    At once, but for a run that is stopping: a signal may have come to all processes of a batch job.
    """
    for line in requests:
        commands.put(json.loads(line))
    if not stop_signals.requested():
        os._exit(0)


if __name__ == "__main__":
    serve()
