"""The two faces of training progress: a bar on a terminal, the family's plain lines everywhere else."""

import datetime
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tqdm import tqdm

from dassl.utils import log_only

MEASURED = 5  # steps from which the time of all is expected; the one before them is slower


class ShownStep(NamedTuple):
    """A step of the epoch in progress, as it is shown."""

    batch_idx: int  # from 0
    lr: float  # behind it
    line_due: bool  # whether the log has a line for it
    numbers: Callable[[], Mapping | None]  # what it has reported, which may have to be waited for


class Progress:
    """Shows every step. On a terminal: one bar for the whole training, the plain lines go to the log only.

    Args: tells_time, whether a line says how long training will take, as soon as a few steps have shown it
    """

    def __init__(self, done: int, total: int, tells_time: bool = False):
        self._bar, self._left = None, total - done
        self._first, self._steps, self._tells_time = 0.0, 0, tells_time
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, leave=True)

    def step(self, trainer, step: ShownStep, losses, batch_time, data_time) -> None:
        """Report a finished step, whose numbers are in the meters."""
        self._left -= 1
        if self._tells_time:
            self._tell_time()
        if step.line_due:
            line = progress_line(trainer, step, losses, batch_time, data_time, self._left)
            if self._bar is None:
                print(line)
            else:
                log_only(line)
        if self._bar is not None:
            shown = {name: f"{meter.avg:.4g}" for name, meter in losses.meters.items()}
            self._bar.set_description(f"epoch {trainer.epoch + 1}/{trainer.max_epoch}", refresh=False)
            self._bar.set_postfix({**shown, "lr": f"{step.lr:.1e}"}, refresh=False)
            self._bar.update()

    def _tell_time(self) -> None:
        self._steps += 1
        if self._steps == 1:
            self._first = time.monotonic()
        elif self._steps == 1 + MEASURED:
            step = (time.monotonic() - self._first) / MEASURED
            left = datetime.timedelta(seconds=round(step * self._left))
            print(f"expected time: {left} for {self._left:,} more steps of {step:.3f} s")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_line(trainer, step: ShownStep, losses, batch_time, data_time, steps_left: int) -> str:
    """One line of the family's log: current value and epoch average; ``eta`` to the end of training."""
    eta = datetime.timedelta(seconds=int(batch_time.avg * steps_left))
    return (
        f"epoch [{trainer.epoch + 1}/{trainer.max_epoch}] "
        f"batch [{step.batch_idx + 1}/{trainer.num_batches}] "
        f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
        f"data {data_time.val:.3f} ({data_time.avg:.3f}) "
        f"{losses} lr {step.lr:.4e} eta {eta}"
    )
