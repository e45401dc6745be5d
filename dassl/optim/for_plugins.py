"""For plugins: RAdam, learning rates per layer, and Dassl's warm-up schedulers. No recipe here uses them.

A plugin may put a warm-up scheduler in front of any scheduler of torch by itself. The engine's own schedules
warm up without them: `build_lr_scheduler` computes every rate from the epoch.
"""

import warnings
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from dassl.utils.for_plugins import unwrapped
from dassl.utils.registry import unknown_name


class RAdam(torch.optim.RAdam):
    """torch's RAdam whose weight decay shrinks the weights directly and does not enter the gradients.

    Source: Liu et al., ICLR 2020, https://arxiv.org/abs/1908.03265
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **options):
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=True,
            **options,
        )


def staged_groups(model: Any, optim_cfg: Any) -> list[dict]:
    """Two groups: everything else at LR * BASE_LR_MULT, then the children named in NEW_LAYERS at LR.

    Children are modules and bare parameters alike. (Dassl puts bare parameters in neither group.)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"OPTIM.STAGED_LR needs a module to find NEW_LAYERS in, not a {type(model).__name__}; "
            "pass the module, or param_groups"
        )
    model = unwrapped(model)
    new_layers = optim_cfg.NEW_LAYERS
    new_layers = [new_layers] if isinstance(new_layers, str) else list(new_layers)
    if not new_layers:
        warnings.warn("OPTIM.NEW_LAYERS is empty: with STAGED_LR everything trains at LR * BASE_LR_MULT")
    bare = {name: [parameter] for name, parameter in model.named_parameters(recurse=False)}
    children = bare | {name: list(child.parameters()) for name, child in model.named_children()}
    for name in new_layers:
        if name not in children:
            raise ValueError(unknown_name("layer (OPTIM.NEW_LAYERS)", name, children))
    base, new = [], []
    for name, parameters in children.items():
        (new if name in new_layers else base).extend(parameters)
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]


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
