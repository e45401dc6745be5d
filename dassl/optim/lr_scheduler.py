"""build_lr_scheduler: warm-up, then the schedule that cfg.OPTIM names. One step per epoch.

A schedule is a function of the epoch, so the whole state of the scheduler is its epoch: a resumed run has the
learning rates of an uninterrupted one. With a budget of OPTIM.MAX_STEPS it takes one step per step of the
optimizer, each MAX_EPOCH / MAX_STEPS of an epoch: the same curve, stretched over the budget.
"""

import bisect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from dassl.optim.for_plugins import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.utils.registry import unknown_name

__all__ = ["ConstantWarmupScheduler", "EpochScheduler", "LinearWarmupScheduler", "build_lr_scheduler"]

SCHEDULES = ("single_step", "multi_step", "cosine")
WARMUPS = ("linear", "constant")


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: Any) -> "EpochScheduler":
    """Build the schedule `optim_cfg.LR_SCHEDULER`, delayed by WARMUP_EPOCH epochs of warm-up.

    Raises: ValueError for an unknown schedule or warm-up type, or an LR_MIN above LR; TypeError for a
            STEPSIZE that does not fit
    """
    factor = _main_schedule(optim_cfg)
    warmup_epochs = max(optim_cfg.WARMUP_EPOCH, 0)
    if warmup_epochs and optim_cfg.WARMUP_TYPE not in WARMUPS:
        raise ValueError(unknown_name("warm-up (OPTIM.WARMUP_TYPE)", optim_cfg.WARMUP_TYPE, WARMUPS))

    def rate(base_lr: float, epoch: float) -> float:
        if epoch >= warmup_epochs:
            if optim_cfg.WARMUP_RECOUNT:
                return base_lr * factor(epoch - warmup_epochs)
            return (
                base_lr * factor(epoch) / factor(warmup_epochs)
            )  # epoch WARMUP_EPOCH starts at the full rate
        if optim_cfg.WARMUP_TYPE == "constant":
            return optim_cfg.WARMUP_CONS_LR
        return base_lr * epoch / warmup_epochs if epoch else optim_cfg.WARMUP_MIN_LR

    budget = optim_cfg.get("MAX_STEPS", 0)  # plugins bring configs made of Dassl's keys only
    if budget:
        return EpochScheduler(
            optimizer, lambda base_lr, step: rate(base_lr, step * optim_cfg.MAX_EPOCH / budget)
        )
    return EpochScheduler(optimizer, rate)


class EpochScheduler(LRScheduler):
    """Sets each group's rate to `rate(its base rate, epoch)`.

    The state dict holds plain numbers. Other entries in a loaded one, such as Dassl's, are left aside.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rate: Callable[[float, int], float]):
        self.rate = rate
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [self.rate(base_lr, self.last_epoch) for base_lr in self.base_lrs]

    def state_dict(self) -> dict:
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict) -> None:
        """Go to the saved epoch and set the optimizer's rates to that epoch's.

        Raises: ValueError if the state belongs to another number of parameter groups
        """
        base_lrs = state_dict.get("base_lrs", self.base_lrs)
        if len(base_lrs) != len(self.base_lrs):
            raise ValueError(
                f"the saved schedule has {len(base_lrs)} parameter groups, the optimizer "
                f"{len(self.base_lrs)}; resume with the configuration that the run was started with"
            )
        self.last_epoch = state_dict["last_epoch"]
        self.base_lrs = list(base_lrs)
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def _main_schedule(optim_cfg: Any) -> Callable[[float], float]:
    """Epoch, counted from 0 without warm-up -> factor on the base rate."""
    name, gamma = optim_cfg.LR_SCHEDULER, optim_cfg.GAMMA
    if name == "single_step":
        step_size = _step_size(optim_cfg)
        return lambda epoch: gamma ** (epoch // step_size)
    if name == "multi_step":
        milestones = _milestones(optim_cfg)
        return lambda epoch: gamma ** bisect.bisect_right(milestones, epoch)
    if name == "cosine":
        length, lowest = max(optim_cfg.MAX_EPOCH, 1), optim_cfg.get("LR_MIN", 0.0)  # a key of ours
        if not lowest:
            return lambda epoch: (1 + math.cos(math.pi * epoch / length)) / 2
        if lowest > optim_cfg.LR:
            raise ValueError(
                f"OPTIM.LR_MIN is {lowest}, above OPTIM.LR, {optim_cfg.LR}; a cosine falls: choose less"
            )
        share = lowest / optim_cfg.LR
        return lambda epoch: share + (1 - share) * (1 + math.cos(math.pi * epoch / length)) / 2
    raise ValueError(unknown_name("schedule (OPTIM.LR_SCHEDULER)", name, SCHEDULES))


def _step_size(optim_cfg: Any) -> int:
    """The period of single_step [epochs]: STEPSIZE or its last element; MAX_EPOCH if that is below 1."""
    step_size = optim_cfg.STEPSIZE
    if isinstance(step_size, (list, tuple)) and step_size:
        step_size = step_size[-1]
    if type(step_size) is not int:
        raise TypeError(
            f"OPTIM.STEPSIZE is {optim_cfg.STEPSIZE!r}; single_step takes one whole number of epochs"
        )
    return step_size if step_size > 0 else max(optim_cfg.MAX_EPOCH, 1)


def _milestones(optim_cfg: Any) -> Sequence[int]:
    if not isinstance(optim_cfg.STEPSIZE, (list, tuple)):
        raise TypeError(
            f"OPTIM.STEPSIZE is {optim_cfg.STEPSIZE!r}; multi_step takes a list of epochs, such as (4, 7)"
        )
    return sorted(optim_cfg.STEPSIZE)
