"""The steps of a training, watched: each has its line in the records, whoever runs the epoch.

The numbers of a step are read while the next one runs, so that the host never waits for a device whose work
it could prepare. Whatever is saved or shown is `settle`d first: it is of steps whose numbers are known.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from numbers import Number
from typing import NamedTuple

import torch

from dassl.utils import log_only, ranks, shared_steps, stop_signals


class LateNumbers:
    """Values by name. Tensors of one element are on their way to the host, and nobody waits until `read`."""

    def __init__(self, values: Mapping[str, object]):
        self._values = {name: _leaving(value) for name, value in values.items()}
        self._there = None
        if any(isinstance(value, torch.Tensor) and value.is_cuda for value in values.values()):
            self._there = torch.cuda.Event()
            self._there.record()

    def read(self) -> dict[str, object]:
        """The values, with numbers in place of those tensors."""
        if self._there is not None:
            self._there.synchronize()  # of copies behind which the next step is under way already
        return {name: value.item() if _is_single(value) else value for name, value in self._values.items()}


class _Pending(NamedTuple):
    """A step whose numbers are not read yet."""

    place: dict  # what its line in the records begins with
    summary: LateNumbers
    checked: LateNumbers  # its losses by number, and "scale", the factor of the gradient scaler behind it


class StepWatch:
    """Stands in for a trainer's ``forward_backward`` until it is closed, and records every call in an epoch.

    Writes to the trainer's ``metrics_log`` and ``recorder``, and counts in its ``skipped_steps`` the steps
    that a gradient scaler, which trainers of the family keep as ``scaler``, left out. What a step says is
    settled during the next one, and before anything is saved: a loss that is not finite leaves no trace.

    Args: epochs that are done, and steps of the next
    """

    def __init__(self, trainer, epochs: int, steps: int):
        self._trainer = trainer
        self._step = trainer.forward_backward
        self._of_instance = trainer.__dict__.get("forward_backward")
        self._begun = epochs, steps
        self._in_epoch = False
        self._scale: LateNumbers | None = None  # of the gradients, after the step before
        self._losses: list[torch.Tensor] | None = None  # of the step in progress
        self._pending: _Pending | None = None
        self._last = None, LateNumbers({})  # summary of the last step as it was returned, and its numbers
        self.done = 0  # steps of the epoch
        trainer.forward_backward = self

    def begin_epoch(self, epoch: int) -> None:
        """The steps that follow are those of ``epoch``, from 0."""
        self._in_epoch = True
        self.done = self._begun[1] if epoch == self._begun[0] else 0
        self._begun = -1, 0
        if epoch == self.done == 0:
            self._trainer.skipped_steps = 0

    def __call__(self, batch):
        if not self._in_epoch:
            return self._step(batch)
        trainer = self._trainer
        lr = trainer.get_current_lr()
        if self._scale is None:
            self._scale = LateNumbers({"scale": self._gradient_scale()})
        self._losses = []
        passes = shared_steps.passes()
        try:
            summary = self._step(batch)
        except BaseException:
            with suppress(RuntimeError):  # of a device that answers no more
                self.settle()  # raises what the step before has come to, which may be why this one failed
            raise
        finally:
            losses, self._losses = self._losses, None
        if ranks.size() > 1 and passes == shared_steps.passes():
            raise ValueError(
                f"{trainer.cfg.TRAINER.NAME} takes its loss back by itself, so each rank of this run would "
                "train a model of its own; let it call model_backward_and_update or model_backward (PREC "
                "fp32 may do), or start it as one process"
            )
        summary, signal = shared_steps.means(summary, stop_signals.number_of_signal())
        stop_signals.agree(signal)
        self.done += 1
        if trainer.budget_steps:
            trainer.step_schedules()
        self._last = summary, LateNumbers(summary if isinstance(summary, Mapping) else {})
        checked = {**dict(enumerate(losses)), "scale": self._gradient_scale()}
        place = {"epoch": trainer.epoch + 1, "batch": self.done, "lr": lr}
        before, self._pending = self._pending, _Pending(place, self._last[1], LateNumbers(checked))
        if before is not None:
            self._settle(before)
        if trainer.recorder is not None:
            self.settle()
            trainer.recorder.append(trainer.epoch + 1, self.done)
        return summary

    def check_later(self, loss: torch.Tensor) -> bool:
        """Take a loss of the step in progress, to be found finite when that step is settled.

        Returns: whether a step is in progress
        """
        if self._losses is None:
            return False
        loss = loss.detach()
        self._losses.append(loss if loss.numel() == 1 else loss.sum())
        return True

    def numbers_of(self, summary) -> LateNumbers:
        """What a step has reported, on its way to the host."""
        return self._last[1] if summary is self._last[0] else LateNumbers(summary)

    def settle(self) -> None:
        """Take in what the last step has said, and the losses that one in progress has got so far.

        Raises: FloatingPointError if a loss is not finite
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            self._settle(pending)
        for loss in self._losses or ():
            check_finite(loss.item(), self._trainer.epoch + 1)

    def close(self) -> None:
        """Settle, and put the method back."""
        if self._of_instance is not None:
            self._trainer.forward_backward = self._of_instance
        else:
            self._trainer.__dict__.pop("forward_backward", None)
        self.settle()

    def _settle(self, step: _Pending) -> None:
        checked, trainer = step.checked.read(), self._trainer
        scale = checked.pop("scale")
        if not all(map(math.isfinite, checked.values())):
            self._pending = None  # a step that began from what this one has made of the model
        for loss in checked.values():
            check_finite(loss, step.place["epoch"])
        self._note_skipped_step(step.place, scale)
        if trainer.metrics_log is not None:
            trainer.metrics_log.append({**step.place, **_plain_numbers(step.summary.read())})

    def _gradient_scale(self) -> float | torch.Tensor:
        """Factor of the gradient scaler, 1 without one; of torch's own on the device, to wait for nothing."""
        scaler = getattr(self._trainer, "scaler", None)
        if isinstance(scaler, torch.amp.GradScaler):
            return scaler.scale(torch.ones((), device=self._trainer.device))
        return scaler.get_scale() if hasattr(scaler, "get_scale") else 1.0

    def _note_skipped_step(self, place: dict, scale: float) -> None:
        """Count the step if the gradient scaler skipped it: only then its factor is lower."""
        before = self._scale.read()["scale"]
        self._scale = LateNumbers({"scale": scale})
        if scale < before:
            log_only(
                f"skipped step: gradients are not finite in epoch {place['epoch']}, "
                f"batch {place['batch']}; gradient scale {before:g} -> {scale:g}"
            )
            if self._trainer.skipped_steps is not None:
                self._trainer.skipped_steps += 1


def check_finite(loss: float, epoch: int) -> None:
    """Raises: FloatingPointError for a loss that is not finite. Args: epoch, from 1"""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} in epoch {epoch}; lower OPTIM.LR, or use PREC fp32")


def _is_single(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 1


def _leaving(value: object) -> object:
    """A tensor of one element as a copy that the host will have; torch pins the memory for it."""
    if not _is_single(value):
        return value
    return value.detach().to("cpu", non_blocking=True, copy=True)


def _plain_numbers(summary: Mapping) -> dict[str, float]:
    """The numbers and NumPy scalars of a loss summary, as plain numbers."""
    single = (
        (name, v.item() if math.prod(getattr(v, "shape", [0])) == 1 else v) for name, v in summary.items()
    )
    return {name: value for name, value in single if isinstance(value, Number)}
