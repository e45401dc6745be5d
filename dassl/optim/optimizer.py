"""build_optimizer: the optimizer that cfg.OPTIM names."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dassl.optim.radam import RAdam
from dassl.utils.registry import unknown_name
from dassl.utils.torchtools import unwrapped

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
        param_groups = _staged(model, optim_cfg)
    else:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    kind, arguments = OPTIMIZERS[optim_cfg.NAME]
    return kind(param_groups, lr=optim_cfg.LR, weight_decay=optim_cfg.WEIGHT_DECAY, **arguments(optim_cfg))


def _staged(model: Any, optim_cfg: Any) -> list[dict]:
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
