"""build_optimizer: the optimizer that cfg.OPTIM names."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dassl.optim.for_plugins import RAdam, staged_groups
from dassl.utils.registry import unknown_name

# name -> class, and the arguments that come from cfg.OPTIM beside lr and weight_decay
OPTIMIZERS = {
    "adam": (torch.optim.Adam, lambda c: {"betas": (c.ADAM_BETA1, c.ADAM_BETA2)}),
    "amsgrad": (torch.optim.Adam, lambda c: {"betas": (c.ADAM_BETA1, c.ADAM_BETA2), "amsgrad": True}),
    "sgd": (
        torch.optim.SGD,
        lambda c: {"momentum": c.MOMENTUM, "dampening": c.SGD_DAMPNING, "nesterov": c.SGD_NESTEROV},
    ),
    "rmsprop": (torch.optim.RMSprop, lambda c: {"momentum": c.MOMENTUM, "alpha": c.RMSPROP_ALPHA}),
    "radam": (RAdam, lambda c: {"betas": (c.ADAM_BETA1, c.ADAM_BETA2)}),
    "adamw": (torch.optim.AdamW, lambda c: {"betas": (c.ADAM_BETA1, c.ADAM_BETA2)}),
}


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg: Any, param_groups: Iterable | None = None
) -> torch.optim.Optimizer:
    """Build the optimizer `optim_cfg.NAME` over all parameters of `model`, in their order.

    Frozen parameters are passed too: they get no gradient and are skipped, and saved optimizer states count
    them.

    Args:   model a module, or an iterable of parameters; param_groups are used as they are instead
    Raises: ValueError for an unknown name, and for a name in NEW_LAYERS that the module does not have;
            TypeError if STAGED_LR is on and `model` is no module
    """
    if optim_cfg.NAME not in OPTIMIZERS:
        raise ValueError(unknown_name("optimizer (OPTIM.NAME)", optim_cfg.NAME, OPTIMIZERS))
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn("OPTIM.STAGED_LR is ignored: the trainer gives its own parameter groups")
    elif optim_cfg.STAGED_LR:
        param_groups = staged_groups(model, optim_cfg)
    else:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    kind, arguments = OPTIMIZERS[optim_cfg.NAME]
    return kind(param_groups, lr=optim_cfg.LR, weight_decay=optim_cfg.WEIGHT_DECAY, **arguments(optim_cfg))
