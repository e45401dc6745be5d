"""The steps of a training, watched: each has its line in the records, whoever runs the epoch."""

import math
from collections.abc import Mapping
from numbers import Number

from dassl.utils import log_only, ranks, shared_steps, stop_signals


class StepWatch:
    """Stands in for a trainer's ``forward_backward`` until it is closed, and records every call in an epoch.

    Writes to the trainer's ``metrics_log`` and ``recorder``, and counts in its ``skipped_steps`` the steps
    that a gradient scaler, which trainers of the family keep as ``scaler``, left out.

    Args: epochs that are done, and steps of the next
    """

    def __init__(self, trainer, epochs: int, steps: int):
        self._trainer = trainer
        self._step = trainer.forward_backward
        self._of_instance = trainer.__dict__.get("forward_backward")
        self._begun = epochs, steps
        self._in_epoch = False
        self._scale: float | None = None  # of the gradients, after the step before
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
            self._scale = self._gradient_scale()
        passes = shared_steps.passes()
        summary = self._step(batch)
        if ranks.size() > 1 and passes == shared_steps.passes():
            raise ValueError(
                f"{trainer.cfg.TRAINER.NAME} takes its loss back by itself, so each rank of this run would "
                "train a model of its own; let it call model_backward_and_update or model_backward (PREC "
                "fp32 may do), or start it as one process"
            )
        summary, signal = shared_steps.means(summary, stop_signals.number_of_signal())
        stop_signals.agree(signal)
        self.done += 1
        self._note_skipped_step()
        if trainer.budget_steps:
            trainer.step_schedules()
        if trainer.metrics_log is not None:
            step = {"epoch": trainer.epoch + 1, "batch": self.done, "lr": lr}
            trainer.metrics_log.append({**step, **_plain_numbers(summary)})
        if trainer.recorder is not None:
            trainer.recorder.append(trainer.epoch + 1, self.done)
        return summary

    def close(self) -> None:
        """Put the method back."""
        if self._of_instance is not None:
            self._trainer.forward_backward = self._of_instance
        else:
            self._trainer.__dict__.pop("forward_backward", None)

    def _gradient_scale(self) -> float:
        """Factor of the gradient scaler; 1 without one."""
        scaler = getattr(self._trainer, "scaler", None)
        return scaler.get_scale() if hasattr(scaler, "get_scale") else 1.0

    def _note_skipped_step(self) -> None:
        """Count the step if the gradient scaler skipped it: only then its factor is lower."""
        trainer, before = self._trainer, self._scale
        self._scale = self._gradient_scale()
        if self._scale < before:
            log_only(
                f"skipped step: gradients are not finite in epoch {trainer.epoch + 1}, "
                f"batch {self.done}; gradient scale {before:g} -> {self._scale:g}"
            )
            if trainer.skipped_steps is not None:
                trainer.skipped_steps += 1


def _plain_numbers(summary) -> dict[str, float]:
    """The numbers, 0-d tensors and NumPy scalars of a loss summary, as plain numbers.

    What else the ``forward_backward`` of a trainer with its own epochs returns is between the two.
    """
    found = summary.items() if isinstance(summary, Mapping) else ()
    single = ((name, v.item() if math.prod(getattr(v, "shape", [0])) == 1 else v) for name, v in found)
    return {name: value for name, value in single if isinstance(value, Number)}
