"""Errors of a run: what to change where memory ran out. Imports no torch."""

import errno
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from .bare_errors import message_of

# Loader workers hand batches over in files of /dev/shm, which containers keep small.
SHARED_MEMORY = re.compile(
    r"killed by signal: Bus error|shared memory|/dev/shm|(?:write to|mmap|truncate) .*file </torch_"
)
# An allocator of torch for GPU or CPU, the CUDA driver, or a CUDA library that could not get its workspace.
LESS = "or MODEL.MEMORY_GB needs less memory"
READERS = {("checkpoints.py", "load_checkpoint"), ("checkpoints.py", "load_published")}
OUT_OF_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator|_STATUS_ALLOC_FAILED")


def message_of_run(error: BaseException) -> str:
    """The text of an error for people, with what to change if memory ran out, of whatever kind."""
    if lacks_shared_memory(error):
        return (
            f"{_first_line(error)}: loader workers hand over batches in /dev/shm, which is full or small "
            "here; DATALOADER.NUM_WORKERS 0 works without it (a container gets more with --shm-size)"
        )
    if not ran_out_of_memory(error):
        return message_of(error)
    return "; ".join(filter(None, [message_of(error), _what_needs_less(error)]))


def lacks_shared_memory(error: BaseException) -> bool:
    """Whether this error, or one that led to it, says that the memory of loader workers ran out."""
    return any(SHARED_MEMORY.search(str(one)) or _no_room_for_workers(one) for one in causes(error))


def _no_room_for_workers(error: BaseException) -> bool:
    """Whether Python's own multiprocessing found no room for its locks and queues."""
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
        return False
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any("multiprocessing" in Path(file).parts for file in files)


def _first_line(error: BaseException) -> str:
    """What the first of the errors that led to this one says, in one line."""
    lines = [line for one in causes(error) for line in str(one).splitlines() if line.strip()]
    named = [line for line in lines if SHARED_MEMORY.search(line)]
    return (named or lines or [type(error).__name__])[0].strip().rstrip(".")


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
    """What to change, by what the program did; "" where a file was read, whose reader has said what helps."""
    frames = [frame for one in causes(error) for frame, _ in traceback.walk_tb(one.__traceback__)]
    names = {frame.f_code.co_name for frame in frames}  # of methods of the trainer, also a plugin's own
    if READERS & {(Path(frame.f_code.co_filename).name, frame.f_code.co_name) for frame in frames}:
        return ""
    if "build_model" in names:
        return f"a smaller --backbone {LESS}"
    key = "DATALOADER.TEST.BATCH_SIZE" if "test" in names else "DATALOADER.TRAIN_X.BATCH_SIZE"
    return f"a smaller {key} {LESS}"
