"""Files of tensors: written whole or not at all, read without running anything that is in them."""

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipfit.io import safe_unpickle
from clipfit.io.files import atomic_write, unwritable


def save_whole(state: Any, path: str | os.PathLike) -> None:
    """`torch.save` that replaces the file in one step.

    Raises: OSError naming the file if it cannot be written; what was there before is then unchanged
    """
    try:
        with atomic_write(path, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        # On a full disk torch ends with a RuntimeError about positions, raised while handling the cause.
        if not isinstance(error.__context__, OSError):
            raise
        raise unwritable(path, error.__context__) from error


def load_checkpoint(fpath: str | os.PathLike) -> Any:
    """Read a checkpoint onto the CPU, running nothing that is in it.

    Objects of torch's and Dassl's optimizers and schedulers, which checkpoints of other repositories may
    hold, come back as `safe_unpickle.Placeholder`.

    Raises: FileNotFoundError; ValueError for None, for a file that is damaged or no checkpoint, and for one
            that would run code
    """
    if fpath is None:
        raise ValueError("no checkpoint to load: the path is None")
    path = Path(fpath)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {str(path)!r}")
    if _is_torchscript(path):
        raise ValueError(f"{path} is a TorchScript archive, a program; a checkpoint holds tensors only")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # torch's own safe reader knows no placeholders and fails on them in many ways
        return _load_foreign(path)


def state_dict_in(checkpoint: Any, path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The state dict in what a checkpoint file holds. Raises: ValueError naming the file if there is none"""
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ValueError(f"{path} is no checkpoint of a training run: it holds no state_dict of tensors")
    return state


def tensors_digest(files: Mapping[str, str | os.PathLike]) -> str:
    """SHA-256 (hex) of all tensors in the state dicts of a model's checkpoint files.

    Per tensor, in sorted order: a line with its name, dtype and shape, then its bytes. So two files have one
    digest if they hold the same tensors, whatever else is in them and however they were written.

    Args:   files, registered name -> checkpoint; a tensor's name is `<registered name>/<name in the file>`
    Raises: as `load_checkpoint`; ValueError for a file without a state dict of tensors
    """
    digest = hashlib.sha256()
    for model, path in sorted(files.items()):
        for name, tensor in sorted(state_dict_in(load_checkpoint(path), path).items()):
            digest.update(f"{model}/{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _load_foreign(path: Path) -> Any:
    """Read a checkpoint of another repository. Raises ValueError as `load_checkpoint`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=safe_unpickle)
    except safe_unpickle.RefusedGlobal as error:
        raise ValueError(f"{path} is refused: {error}") from error
    except Exception as error:
        raise ValueError(
            f"{path} is not a readable checkpoint ({type(error).__name__}: {error}); it may be truncated, or "
            "another kind of file: remove it, or load another epoch"
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
