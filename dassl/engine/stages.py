"""A training in stages: one after the other, each with its own parameters, optimizer, schedule and length.

    stages = Stages([TrainingStage(...), TrainingStage(...)], begin=prepare)
    self.register_model(name, model, stages.optimizer, stages.schedule)

To the engine the optimizer and the schedule of the current stage look like those of the whole training, so
steps, gradient scaling, records and resume points work as ever. The schedule counts the steps; with the last
one of a stage the next stage begins. A trainer whose files shall say which stage their tensors come from
keeps `stages.number` among them, and calls `enter` when it loads them, before the optimizer is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from dassl.optim.lr_scheduler import EpochScheduler


class TrainingStage(NamedTuple):
    """One part of a training."""

    parameters: Mapping[str, nn.Parameter]  # what trains in it, and nothing else, by name
    steps: int  # its length; one without steps begins and is over
    optimizer: torch.optim.Optimizer
    schedule: EpochScheduler  # goes on by one with every step


class Stages:
    """The stages of a training, one of which is current: its parameters require gradients, no others.

    Args: begin, called with the number of every stage but the first when training comes to it
    """

    def __init__(self, stages: Sequence[TrainingStage], begin: Callable[[int], None]):
        if not stages:
            raise ValueError("a training has at least one stage")
        self.all, self._begin = list(stages), begin
        self.optimizer, self.schedule = StagedOptimizer(self), StagedSchedule(self)
        self.enter(0)

    @property
    def current(self) -> TrainingStage:
        return self.all[self.number]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What trains in any stage, by name."""
        return {name: one for stage in self.all for name, one in stage.parameters.items()}

    def enter(self, number: int) -> None:
        """Make a stage the current one. Raises: ValueError for a number that none has"""
        if not 0 <= number < len(self.all):
            raise ValueError(f"there is no stage {number + 1}: this training has {len(self.all)}")
        self.number = number
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        for parameter in self.current.parameters.values():
            parameter.requires_grad_(True)

    def go_on(self) -> None:
        """Begin the next stage if the current one is over; the last one never is."""
        while self.number + 1 < len(self.all) and self.current.schedule.last_epoch >= self.current.steps:
            self.current.optimizer.state.clear()  # its memory
            self.enter(self.number + 1)
            self._begin(self.number)


class StagedOptimizer:
    """The optimizer of the current stage."""

    def __init__(self, stages: Stages):
        self.stages = stages

    @property
    def _now(self) -> torch.optim.Optimizer:
        return self.stages.current.optimizer

    @property
    def param_groups(self) -> list[dict]:
        return self._now.param_groups

    @property
    def state(self) -> Mapping:
        return self._now.state

    def of_all_stages(self) -> Iterator[nn.Parameter]:
        """The parameters that train in any stage."""
        yield from self.stages.parameters.values()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._now.zero_grad(set_to_none)

    def step(self):
        return self._now.step()

    def state_dict(self) -> dict:
        return self._now.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self._now.load_state_dict(state)


class StagedSchedule:
    """The schedule of the current stage; its steps decide when the next one begins."""

    def __init__(self, stages: Stages):
        self.stages = stages

    def step(self) -> None:
        self.stages.current.schedule.step()
        self.stages.go_on()

    def state_dict(self) -> dict:
        return self.stages.current.schedule.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.stages.current.schedule.load_state_dict(state)
