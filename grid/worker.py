"""A warm process that executes one run after another, so that imports are paid once.

python -m grid.worker

It reads command lines as JSON lists, one a line, from its standard input, and answers each on its standard
output with ``{"error": null}`` or ``{"error": "..."}``. What runs print goes to their log.txt only. It ends
with its parent, in the middle of a run if need be: a run survives that.

A run in a used process ends in the same bits as one by ``python train.py``: every run seeds all generators
and sets threads and kernels itself (launch/runtime.py); `execute` undoes the rest.
"""

import gc
import json
import os
import queue
import sys
import threading
import traceback
import warnings

# cuBLAS reads it when it is first used, and any later run may be a deterministic one.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import train
from dassl.utils import close_logger


def execute(argv: list[str]) -> str | None:
    """One run of train.py in this process. Returns: None, or what went wrong in one message."""
    before = sys.argv
    sys.argv = ["train.py", *argv]  # log.txt begins with it
    try:
        with warnings.catch_warnings():  # leaving it also forgets which warnings were given already
            train.main(argv)
    except SystemExit as stop:
        return None if stop.code in (None, 0) else str(stop.code).removeprefix("error: ")
    except Exception as error:  # train.py lets only surprises through
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    finally:
        close_logger()
        sys.argv = before
        _release_memory()
    return None


def _release_memory() -> None:
    """Let go of the run's loader workers and of models that refer to themselves, on the GPU too."""
    import torch  # by now the run has paid for it

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
        error = execute(commands.get())
        answers.write(json.dumps({"error": error}) + "\n")


def _listen(requests, commands) -> None:
    """Hand on every command; leave at once when the parent closes the pipe, or ends in whatever way."""
    for line in requests:
        commands.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    serve()
