"""Checkpoint files, and counting and switching the parameters of a module."""

import numbers
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipfit.io import safe_unpickle
from clipfit.io.checkpoints import load_checkpoint, save_whole, state_dict_in
from dassl.run_folder import BEST, checkpoint_name, newest_checkpoint, point_at, pointed_at
from dassl.utils import ranks
from dassl.utils.for_plugins import open_all_layers, open_specified_layers  # noqa: F401 - plugins' path


def save_checkpoint(
    state: dict,
    save_dir: str | os.PathLike,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write a checkpoint, then the pointer file; each appears whole or not at all. Only rank 0 writes.

    Args:   state {"state_dict", "epoch" (finished epochs), "optimizer", "scheduler", "val_result"};
            is_best writes model-best.pth.tar too; remove_module_from_keys strips the "module." that
            DataParallel puts before names; model_name file name instead of model.pth.tar-<epoch>
    Raises: OSError naming the file if it cannot be written; files that were there before are then unchanged
    """
    if not ranks.is_first():
        return
    folder = Path(save_dir)
    if remove_module_from_keys:
        state = {**state, "state_dict": _without_module_prefix(state["state_dict"])}
    name = model_name or checkpoint_name(state["epoch"])
    names = [name, BEST] if is_best and name != BEST else [name]
    for path in (folder / name for name in names):
        save_whole(state, path)
    point_at(folder, name)
    print(f"Checkpoint saved to {folder / name}")


def load_model_file(fpath: str | os.PathLike) -> dict:
    """Read a checkpoint that `save_checkpoint`, here or in Dassl, has written.

    Where all names begin with the "module." of DataParallel, they come without it.
    Raises: as `load_checkpoint`; ValueError naming the file if it holds no state dict of tensors or no epoch
    """
    checkpoint = load_checkpoint(fpath)
    state = state_dict_in(checkpoint, fpath)
    if state and all(name.startswith("module.") for name in state):
        checkpoint["state_dict"] = _without_module_prefix(state)
    if not is_epoch(checkpoint.get("epoch")):
        raise ValueError(
            f"{fpath} is no checkpoint of a training run: it does not say how many epochs are finished "
            "(a number from 0); load another file"
        )
    if not isinstance(checkpoint.get("val_result"), (numbers.Real, torch.Tensor, type(None))):
        raise ValueError(f"{fpath}: val_result is no number; load another file")
    return checkpoint


def is_epoch(value: Any) -> bool:
    """Whether a value is a number of finished epochs."""
    return type(value) is int and value >= 0


def resume_from_checkpoint(
    fdir: str | os.PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
) -> int:
    """Load the newest epoch found in `fdir` and return the number of finished epochs.

    Without a numbered checkpoint the file that the pointer names is taken. (Dassl always follows the pointer,
    which may name the best model, and then goes back to that epoch.)

    Raises: FileNotFoundError if there is neither; RuntimeError if the tensors are not those of the model
    """
    path = newest_checkpoint(fdir) or pointed_at(fdir)
    print(f"Loading checkpoint from {path}")
    checkpoint = load_model_file(path)
    model.load_state_dict(checkpoint["state_dict"])
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        scheduler.load_state_dict(_plain_scheduler_state(checkpoint["scheduler"], checkpoint["epoch"]))
    print(f"Resuming after epoch {checkpoint['epoch']}")
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str | os.PathLike) -> None:
    """Load the tensors whose name and shape the model has; print the others, warn if none match.

    Raises: as `load_checkpoint`; ValueError naming the file if it holds no state dict of tensors
    """
    checkpoint = load_checkpoint(weight_path)
    if isinstance(checkpoint, dict) and "state_dict" not in checkpoint:
        checkpoint = {"state_dict": checkpoint}
    loaded = _without_module_prefix(state_dict_in(checkpoint, weight_path))
    own = model.state_dict()
    matched = {name: t for name, t in loaded.items() if name in own and own[name].shape == t.shape}
    model.load_state_dict({**own, **matched})
    if not matched:
        warnings.warn(
            f"nothing in {weight_path} matches the model by name and shape; it keeps its own weights"
        )
        return
    print(f"Loaded {len(matched)} tensors from {weight_path}")
    if ignored := [name for name in loaded if name not in matched]:
        print(f"Ignored, as the model has no such tensor of that shape: {', '.join(ignored)}")


def count_num_param(model: nn.Module | None = None, params: Any = None) -> int:
    """Number of elements of a module's parameters, frozen ones included, or of a list of tensors or
    {"params": tensor}.

    Raises: ValueError if neither is given
    """
    if model is not None:
        return sum(parameter.numel() for parameter in model.parameters())
    if params is None:
        raise ValueError("count_num_param counts a module or a list of parameters; give one of them")
    return sum((entry["params"] if isinstance(entry, dict) else entry).numel() for entry in params)


def _without_module_prefix(state_dict: dict) -> dict:
    return {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}


def _plain_scheduler_state(state: dict, epoch: int) -> dict:
    """The state without pickled objects.

    Dassl keeps its main schedule, position included, in such an object; a schedule steps once per epoch, so
    the number of finished epochs is that position.
    """
    plain = {key: value for key, value in state.items() if not isinstance(value, safe_unpickle.Placeholder)}
    return plain if len(plain) == len(state) else {**plain, "last_epoch": epoch}
