"""SIGTERM and SIGUSR1 ask a run to stop: batch schedulers, `timeout` and `docker stop` send them.

Inside `obeyed`, a signal raises `Stopped` wherever the run is. Inside `deferred` it is only noted: the code
there asks `requested` at moments that are good for stopping. A second signal ends the process at once.

The ranks of a run (ranks.py) get a signal at different moments, and stop behind the same step: each tells the
others of it (`number_of_signal`), and what `requested` says is what they have agreed on.

A scheduler signals all processes of a run. Loader workers must live on, as the step in progress may need
them: they are started under `held` and call `ignore_in_worker`.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dassl.utils import ranks

STATUS = 143  # exit status of a stopped run: 128 + SIGTERM, as shells count
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
WORKERS_IGNORE = hasattr(signal, "sigwaitinfo")  # Linux: a signal tells its sender
ONE_SIGNAL = 1.0  # seconds in which the same wish may come twice: to a process, and to its group


class Stopped(SystemExit):
    """A signal has ended the run.

    Args: signal's name; where the run stopped; what the same command does next
    """

    def __init__(self, name: str, where: str = "", then: str = "goes on from what is saved"):
        super().__init__(STATUS)
        self.name, self.where, self.then = name, where, then
        self.says = ranks.is_first()  # one rank speaks for all

    @property
    def words(self) -> str:
        stopped = f"{self.name}: stopped {self.where}".rstrip()
        return f"{stopped}; the same command {self.then}"


_process = 0  # that obeys: a child that it forks has the handler too
_request: tuple[str, float] | None = None  # name of the first signal, and when it came
_agreed: str | None = None  # name of the signal that the ranks of the run have agreed to stop for
_deferring = False


@contextmanager
def obeyed() -> Iterator[None]:
    """Obey the signals inside. Outside the main thread, where no handler can be set, nothing happens.

    Raises: Stopped, also in place of an error that came while a request was open, such as that of a child
            process that the same signal has ended. The handlers then stay, as the process is about to end.
    """
    global _process, _request, _agreed, _deferring
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _process, _request, _agreed, _deferring = os.getpid(), None, None, False
    before, lost = {number: signal.signal(number, _take) for number in SIGNALS}, False
    try:
        yield
        raise_if_requested()
    except ranks.RankLost:  # torchrun sends the signal because that rank is gone
        lost = True
        raise
    except Exception as error:
        if _request is not None:
            raise Stopped(_request[0]) from error
        raise
    finally:
        if _request is None and not lost:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def requested() -> str | None:
    """Name of the signal that came; None while the run may go on."""
    return _agreed if ranks.size() > 1 else _request and _request[0]


def number_of_signal() -> int:
    """Number of the signal that came to this process, for `agree`; 0 for none."""
    return signal.Signals[_request[0]] if _request is not None else 0


def agree(number: int) -> None:
    """Stop for the signal that came to any rank. Args: number, the largest that the ranks have told"""
    global _agreed
    _agreed = signal.Signals(number).name if number else None


def raise_if_requested() -> None:
    """Raises: Stopped if a signal has come"""
    if _request is not None:
        raise Stopped(_request[0])


@contextmanager
def deferred(defer: bool = True) -> Iterator[None]:
    """Inside, a signal is only noted; with ``defer`` False it stops the run there at once.

    Raises: Stopped at the beginning or the end of a block where a signal counts at once, if one was noted
    """
    global _deferring
    before, _deferring = _deferring, defer
    try:
        if not defer:
            raise_if_requested()
        yield
    finally:
        _deferring = before
    if not before:
        raise_if_requested()


def _take(number: int, frame) -> None:
    global _request
    if os.getpid() != _process:
        return
    now = time.monotonic()
    if _request is None:
        _request = signal.Signals(number).name, now
        if not _deferring:
            raise Stopped(_request[0])
    elif now - _request[1] > ONE_SIGNAL:
        os._exit(STATUS)


# Loader workers -------------------------------------------------------------------------------------


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals back inside: a worker that starts there has them blocked from its first moment."""
    if not WORKERS_IGNORE:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_in_worker(worker: int = 0) -> None:
    """Ignore the signals in this loader worker, but for the SIGTERM by which its parent ends it."""
    if WORKERS_IGNORE:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while True:
        told = signal.sigwaitinfo(SIGNALS)
        if told.si_signo == signal.SIGTERM and told.si_pid == parent:
            os._exit(0)
