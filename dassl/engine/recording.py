"""TRAIN.RECORD: what happens to every trained tensor at every iteration (file format: docs/recording.md).

gradient   squared gradient sum |g|^2, of the gradient that the optimizer steps with, unscaled
change     squared distance |v - v0|^2 of the tensor from its value v0 when training started

It works for any trainer: gradients are read by a hook on the registered optimizers, values after the step.
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from dassl.run_folder import RECORD_FILES

from .run_files import StepLog
from .stages import StagedOptimizer


def check_kinds(kinds: Iterable[str]) -> None:
    """Raises: ValueError naming what TRAIN.RECORD may hold."""
    for kind in kinds:
        if kind not in RECORD_FILES:
            raise ValueError(f"TRAIN.RECORD names {kind!r}; choose from {', '.join(RECORD_FILES)}, or []")


class Recorder:
    """Watches the trained tensors of registered models and writes a line per iteration and kind.

    Args: models and optims by registered name; only torch optimizers are watched, of stages (stages.py) all
    """

    def __init__(self, models: dict, optims: dict, folder: str | Path, kinds: Iterable[str]):
        staged = [o for o in optims.values() if isinstance(o, StagedOptimizer)]
        later = {id(parameter) for one in staged for parameter in one.of_all_stages()}
        trained = {
            f"{model}/{name}": parameter
            for model, module in models.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad or id(parameter) in later
        }
        self.names, self._parameters = list(trained), list(trained.values())
        self._logs = {kind: StepLog(Path(folder, RECORD_FILES[kind])) for kind in kinds}
        self._gradient = [0.0] * len(self.names)  # of this iteration: numbers, then 0-d tensors
        self._from_scratch = True
        self._take_start()
        every = [*optims.values(), *(stage.optimizer for one in staged for stage in one.stages.all)]
        optimizers = {id(o): o for o in every if isinstance(o, torch.optim.Optimizer)}
        self._hooks = [o.register_step_pre_hook(self._before_step) for o in optimizers.values()]

    @torch.no_grad()
    def append(self, epoch: int, batch: int) -> None:
        """Write the lines of a finished iteration, both numbers from 1."""
        rows = [self._gradient if kind == "gradient" else self._changes() for kind in self._logs]
        for log, values in zip(self._logs.values(), _as_numbers(rows), strict=True):
            log.append({"epoch": epoch, "batch": batch, "values": values})
        self._gradient = [0.0] * len(self.names)

    def keep(self, epochs: int, steps: int) -> None:
        """Drop what lies behind the first ``epochs`` and ``steps`` of the next: a resumed run repeats it."""
        self._from_scratch = epochs == steps == 0
        for log in self._logs.values():
            log.keep(epochs, steps)
            if not log.path.stat().st_size:
                log.append({"epoch": 0, "names": self.names})

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for log in self._logs.values():
            log.close()

    def state(self) -> dict:
        """What a resume point must hold: the values at the start, which no trainer needs but this record."""
        return {"start": self._start}

    def load_state(self, state: dict) -> None:
        self._start = [value.to(p.device) for value, p in zip(state["start"], self._parameters, strict=True)]

    @torch.no_grad()
    def _before_step(self, optimizer, args, kwargs) -> None:
        if self._from_scratch:  # a trainer may have set its tensors after this recorder was made
            self._take_start()
            self._from_scratch = False
        if "gradient" not in self._logs:
            return
        stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for index, parameter in enumerate(self._parameters):
            if id(parameter) in stepped and parameter.grad is not None:
                self._gradient[index] = self._gradient[index] + parameter.grad.double().square().sum()

    def _changes(self) -> list[torch.Tensor]:
        pairs = zip(self._parameters, self._start, strict=True)
        return [(value.double() - start.double()).square().sum() for value, start in pairs]

    def _take_start(self) -> None:
        self._start = [parameter.detach().clone() for parameter in self._parameters]


def _as_numbers(rows: list[list]) -> list[list[float]]:
    """Rows of numbers and 0-d tensors as numbers. All tensors come over at once: one wait for the device."""
    tensors = [value for row in rows for value in row if isinstance(value, torch.Tensor)]
    numbers = iter(torch.stack([t.to(tensors[0].device) for t in tensors]).tolist() if tensors else [])
    return [[next(numbers) if isinstance(value, torch.Tensor) else value for value in row] for row in rows]
