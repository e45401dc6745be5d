"""Errors of a run: what to change where memory ran out. Imports no torch."""

import re
import traceback
from collections.abc import Iterator

from .bare_errors import message_of

# An allocator of torch for GPU or CPU, the CUDA driver, or a CUDA library that could not get its workspace.
OUT_OF_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator|_STATUS_ALLOC_FAILED")


def message_of_run(error: BaseException) -> str:
    """The text of an error for people, with what to change if memory ran out."""
    if not ran_out_of_memory(error):
        return message_of(error)
    return f"{message_of(error)}; {_what_needs_less(error)}"


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this error, or one that led to it, says that the memory of a GPU or the machine ran out."""
    return any(
        isinstance(one, MemoryError) or (isinstance(one, RuntimeError) and OUT_OF_MEMORY.search(str(one)))
        for one in causes(error)
    )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised from, or else while handling what, back to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _what_needs_less(error: BaseException) -> str:
    in_test = any(
        frame.f_code.co_name == "test"  # of the trainer, also for a plugin's own
        for one in causes(error)
        for frame, _ in traceback.walk_tb(one.__traceback__)
    )
    key = "DATALOADER.TEST.BATCH_SIZE" if in_test else "DATALOADER.TRAIN_X.BATCH_SIZE"
    return f"a smaller {key} needs less memory, with many classes also a smaller ROWS in clipfit/chunks.py"
