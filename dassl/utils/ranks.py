"""The processes that share one run: ``torchrun --nproc-per-node 2 train.py ...``.

Each process is a rank with a copy of the model. Ranks share the pictures of every batch (`part`), and where
one pass over the texts serves the batch, the classes too. What rank r computes of its n_r of N pictures
counts n_r / N (`weight`): a loss that is a mean over pictures, plus terms that no picture changes, then has
the gradient of the whole batch as the sum over the ranks, and every rank takes the same step
(shared_steps.py).

In a run of one process nothing here does anything, and no torch is imported.

Ranks must meet in the same order. So every meeting begins with `check`: a rank that fails comes there too and
says so, and one that is gone breaks the connection. Nobody waits for a rank that will not come.
"""

from __future__ import annotations

import datetime
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

BY_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = datetime.timedelta(hours=1)  # for a rank that is alive; one that is gone is noticed at once
FAILED, NO_MEMORY, FINE = range(3)  # how a rank comes to a meeting
END_OF_LOST = 2.0  # seconds in which a process whose connection broke is seen to have ended


class Share(NamedTuple):
    """What a rank has of something that is shared: the entries start..stop - 1 of `count`."""

    start: int
    stop: int
    count: int
    weight: float  # of a mean over the part in the mean over all


class RankLost(RuntimeError):
    """The connection to another rank broke."""


class FailedElsewhere(RuntimeError):
    """Another rank has failed, and says why."""


_rank, _size = 0, 1
_processes: list[tuple[str, int]] = []  # host and process id of every rank
_sharing = False
_taken: Share | None = None  # of the batch that this rank was given last


def rank() -> int:
    """Number of this process, from 0."""
    return _rank


def size() -> int:
    """How many processes share the run."""
    return _size


def is_first() -> bool:
    """Whether this process writes the run's files and speaks for it."""
    return _rank == 0


def on_this_machine() -> int:
    """How many processes of the run are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if _size > 1 else 1


# Beginning and end ----------------------------------------------------------------------------------


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the ranks that torchrun has started, if it has. Ranks other than the first print nothing.

    A caller that has initialized torch's process group keeps it, for one run after another.
    """
    global _rank, _size, _processes
    asked = all(name in os.environ for name in BY_TORCHRUN) and int(os.environ["WORLD_SIZE"]) > 1
    if not asked:
        yield
        return
    import torch

    dist = torch.distributed
    is_callers = dist.is_initialized()
    if not is_callers:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    _rank, _size = dist.get_rank(), dist.get_world_size()
    streams = sys.stdout, sys.stderr
    try:
        _processes = _everyones((socket.gethostname(), os.getpid()))
        if not is_first():
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        yield
        if not is_callers:
            dist.destroy_process_group()  # after an error it would wait for those that are gone
    finally:
        sys.stdout, sys.stderr = streams
        _rank, _size, _processes = 0, 1, []


def settle_device(use_cuda: bool) -> None:
    """Give each rank a GPU of its own. Raises: ValueError if there are too few of them"""
    if _size == 1 or not use_cuda:
        return
    import torch

    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if 0 < there < on_this_machine():
        raise ValueError(
            f"{on_this_machine()} ranks on a machine with {there} GPUs, and each rank needs its own: give "
            f"torchrun --nproc-per-node {there}, or USE_CUDA False"
        )
    if there:
        torch.cuda.set_device(number)


def first_decides(decide: Callable[[], Any]) -> Any:
    """What ``decide()`` returns on rank 0, on every rank.

    Raises: on rank 0 what it raises there; SystemExit with the same status on the others
    """
    if _size == 1:
        return decide()
    if not is_first():
        status, value = _from_first(None)
        if status is not None:
            raise SystemExit(status)
        return value
    try:
        value = decide()
    except BaseException as error:
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        with suppress(RankLost):
            _from_first((status, None))
        raise
    return _from_first((None, value))[1]


@contextmanager
def failing_together(text_of: Callable[[BaseException], str]) -> Iterator[None]:
    """An error of one rank ends all of them with the same status, and rank 0 says what it was.

    Args: text_of, an error for people
    """
    try:
        yield
    except Exception as error:
        if _size == 1:
            raise
        words = _tell(error, text_of)
        if words is None:
            raise SystemExit(1) from error
        if words:
            raise RuntimeError(words) from error
        raise


def _tell(error: Exception, text_of: Callable[[BaseException], str]) -> str | None:
    """Tell the others of an error, and hear theirs.

    Returns: "" where this rank shall print its own, words where it shall print those, None for nothing
    """
    if isinstance(error, RankLost):
        return "" if is_first() or 0 in _gone() else None
    try:
        if not isinstance(error, FailedElsewhere):
            with suppress(FailedElsewhere):
                check(FAILED)
        texts = _everyones("" if isinstance(error, FailedElsewhere) else text_of(error))
    except RankLost:  # the others have ended
        return ""
    if not is_first():
        return None
    number, text = next(((number, text) for number, text in enumerate(texts) if text), (0, ""))
    return f"rank {number}: {text}" if number else ""


# Meetings -------------------------------------------------------------------------------------------


def check(state: int = FINE, count: int = 0) -> None:
    """Meet the others before something is exchanged.

    Args:   count, of the things that this rank will exchange: the same on every rank
    Raises: RankLost; FailedElsewhere, or torch.OutOfMemoryError if that is what another rank came with, here
            too; ValueError for different counts
    """
    if _size == 1:
        return
    import torch

    worst = torch.tensor([state, count, -count])
    with none_lost():
        torch.distributed.all_reduce(worst, op=torch.distributed.ReduceOp.MIN)
    least, fewest, most = worst.tolist()
    if least == FAILED:
        raise FailedElsewhere("another rank has failed")
    if least == NO_MEMORY and state == FINE:
        error = torch.OutOfMemoryError("another rank is out of memory")
        error.elsewhere = True
        raise error
    if least == FINE and fewest != -most:
        raise ValueError(
            f"the ranks have {fewest} and {-most} gradients of the same step: a trainer whose steps differ "
            "in what they train runs as one process"
        )


barrier = check


def tell_of_no_memory(error: BaseException) -> None:
    """Let the other ranks repeat the step too. Args: error, torch.OutOfMemoryError"""
    if _size > 1 and not hasattr(error, "elsewhere"):
        check(NO_MEMORY)


@contextmanager
def first_then_others() -> Iterator[None]:
    """The block runs on rank 0, then on the others: files that it makes on first use are made once."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def from_first(compute: Callable[[], Any]) -> Any:
    """``compute()`` on rank 0 alone, and what it returned on every rank."""
    value = compute() if is_first() else None
    if _size == 1:
        return value
    check()
    return _from_first(value)


def collected(value: Any) -> list | None:
    """The values of all ranks in their order, on rank 0; None on the others."""
    import torch

    found = [None] * _size if is_first() else None
    check()
    with none_lost():
        torch.distributed.gather_object(value, found)
    return found


def _from_first(value: Any) -> Any:
    import torch

    box = [value]
    with none_lost():
        torch.distributed.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return box[0]


def _everyones(value: Any) -> list:
    import torch

    found = [None] * _size
    with none_lost():
        torch.distributed.all_gather_object(found, value)
    return found


# Sharing a batch ------------------------------------------------------------------------------------


@contextmanager
def sharing(active: bool = True) -> Iterator[None]:
    """Inside, loaders of the engine give each rank its part of every batch."""
    global _sharing, _taken
    before = _sharing, _taken
    _sharing, _taken = active and _size > 1, None
    try:
        yield
    finally:
        _sharing, _taken = before


def is_sharing() -> bool:
    """Whether this rank computes a part of what is to be computed, and the other ranks the rest."""
    return _sharing


def part(count: int) -> Share:
    """What this rank has of `count` things in a row. Where those are fewer than the ranks, some share one."""
    if count >= _size:
        start, stop = count * _rank // _size, count * (_rank + 1) // _size
        return Share(start, stop, count, (stop - start) / count)
    place = count * _rank // _size
    together = sum(count * other // _size == place for other in range(_size))
    return Share(place, place + 1, count, 1 / (count * together))


def take(some: Share) -> None:
    """The batch that comes now is this part of one that is shared."""
    global _taken
    _taken = some


def taken() -> Share | None:
    """The part that the last batch was; None for one that every rank has whole."""
    return _taken


def weight() -> float:
    """How much this rank's mean over its pictures counts in the mean over the batch."""
    return 1 / _size if _taken is None else _taken.weight


# Ranks that are gone --------------------------------------------------------------------------------


@contextmanager
def none_lost() -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # gloo and NCCL have no type of their own for it
        # torchrun ends the ranks that are left by SIGTERM: this one still has to say why.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise RankLost(_words()) from error


def _words() -> str:
    until = time.monotonic() + END_OF_LOST
    while not (gone := _gone()) and time.monotonic() < until:
        time.sleep(0.05)
    who = f"rank {', '.join(map(str, gone))} has ended" if gone else "the connection to another rank broke"
    return f"{who}, and the run needs all its {_size} ranks; the same command resumes it from what is saved"


def _gone() -> list[int]:
    """The ranks on this machine whose processes have ended."""
    here = socket.gethostname()
    return [number for number, (host, process) in enumerate(_processes) if host == here and _ended(process)]


def _ended(process: int) -> bool:
    with suppress(OSError):  # Linux: a process that nobody has waited for yet is there, as a zombie
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
