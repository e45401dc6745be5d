"""Dassl's warm-up schedulers, which a plugin may put in front of any scheduler of torch by itself.

The engine's own schedules warm up without them: `build_lr_scheduler` computes every rate from the epoch.
"""

import torch
from torch.optim.lr_scheduler import LRScheduler


class WarmupScheduler(LRScheduler):
    """Rates of `warmup_lr` in the first `warmup_epoch` epochs, then those of `successor` from its beginning.

    The state holds the successor's state: plain numbers for all schedulers of torch that go by numbers.

    Args: successor a scheduler of the same optimizer; verbose is accepted for Dassl's signature
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        last_epoch: int = -1,
        verbose: bool = False,
    ):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer, last_epoch)

    def warmup_lr(self, base_lr: float) -> float:
        """The rate of this epoch for a group whose full rate is `base_lr`."""
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        if self.last_epoch < self.warmup_epoch:
            return [self.warmup_lr(base_lr) for base_lr in self.base_lrs]
        return self.successor.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step()
        super().step(epoch)

    def state_dict(self) -> dict:
        return {
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "successor": self.successor.state_dict(),
        }

    def load_state_dict(self, state_dict: dict) -> None:
        """Go to the saved epoch and set the optimizer's rates to that epoch's.

        Raises: ValueError for a state without that of the successor, which Dassl pickles as an object
        """
        if "successor" not in state_dict:
            raise ValueError(
                f"{type(self).__name__}: the saved state says nothing of the schedule behind the warm-up, so "
                "the run cannot go on from there; start it anew in another folder"
            )
        self.last_epoch = state_dict["last_epoch"]
        self.base_lrs = list(state_dict["base_lrs"])
        self.successor.load_state_dict(state_dict["successor"])
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


class ConstantWarmupScheduler(WarmupScheduler):
    """`cons_lr` during the warm-up."""

    def __init__(self, optimizer, successor, warmup_epoch, cons_lr, last_epoch=-1, verbose=False):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warmup_lr(self, base_lr: float) -> float:
        return self.cons_lr


class LinearWarmupScheduler(WarmupScheduler):
    """`min_lr` in the first epoch, then e / warmup_epoch of the full rate in epoch e, counted from 0."""

    def __init__(self, optimizer, successor, warmup_epoch, min_lr, last_epoch=-1, verbose=False):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warmup_lr(self, base_lr: float) -> float:
        return base_lr * self.last_epoch / self.warmup_epoch if self.last_epoch else self.min_lr
