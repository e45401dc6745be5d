"""Files of tensors: written whole or not at all, read without running anything that is in them."""

import errno
import hashlib
import io
import os
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch

from clipfit.io import safe_unpickle, tensor_files
from clipfit.io.files import atomic_write, open_regular, printable, unwritable

LARGEST_PROGRAM = 1 << 31  # bytes; OpenAI's largest archive has 1.3 GB


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
    """Read a checkpoint onto the CPU, running nothing that is in it. All that read checkpoints call this.

    Objects of torch's and Dassl's optimizers and schedulers, which checkpoints of other repositories may
    hold, come back as `safe_unpickle.Placeholder`. The CRCs of zip files are checked.

    Raises: FileNotFoundError; ValueError for None, for what is no file, for a file that is damaged or no
            checkpoint, and for one that would run code; MemoryError naming the file; OSError of the disk
    """
    if fpath is None:
        raise ValueError("no checkpoint to load: the path is None")
    with open_regular(fpath) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return tensor_files.read(file, size)
        except tensor_files.TorchScript as error:
            raise ValueError(
                f"{fpath} is a TorchScript archive, a program; a checkpoint holds tensors only"
            ) from error
        except safe_unpickle.RefusedGlobal as error:
            raise ValueError(
                f"{fpath} is refused: {error}; if you trust it, save its state dict alone and use that file"
            ) from error
        except Exception as error:  # damaged bytes can make zip files and pickles fail in any way
            # EINVAL is no fault of the disk: a damaged zip file sends its reader before the beginning.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise OSError(error.errno, f"{fpath} cannot be read ({error.strerror}); try again") from error
            if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
                raise _too_large(fpath, size) from error
            raise ValueError(
                f"{fpath} is not a readable checkpoint ({type(error).__name__}: {printable(str(error))}); it "
                "is cut short, damaged, or another kind of file: remove it, get it again, load another epoch"
            ) from error


def _too_large(path: str | os.PathLike, size: int) -> MemoryError:
    return MemoryError(
        f"{path} ({size >> 20:,} MiB) does not fit into memory; end other programs, or use a larger machine"
    )


def load_published(fpath: str | os.PathLike, digests: Collection[str]) -> dict[str, torch.Tensor] | None:
    """State dict of a TorchScript archive, a program, if the SHA-256 of its bytes is among these digests.

    The bytes that are hashed are those that are loaded: the file is read once.

    Returns: None if the file is no TorchScript archive
    Raises:  ValueError if it is one, and none of these; FileNotFoundError
    """
    with open_regular(fpath) as file:
        if not tensor_files.is_program(file):
            return None
        file.seek(0)
        try:
            content = file.read(LARGEST_PROGRAM)
        except MemoryError as error:
            raise _too_large(fpath, os.fstat(file.fileno()).st_size) from error
    if hashlib.sha256(content).hexdigest() not in digests:
        raise ValueError(
            f"{fpath} is a JIT archive, which can hold any program, and its SHA256 is none of those OpenAI "
            "published, so it is not opened. If you trust it, convert it once and use the new file: "
            "torch.save(dict(torch.jit.load(path, map_location='cpu').state_dict()), 'weights.pt')"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.load. is deprecated")
        return dict(torch.jit.load(io.BytesIO(content), map_location="cpu").state_dict())


def load_safetensors(fpath: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Name -> tensor of a .safetensors file, on the CPU. The format holds nothing that could run.

    Raises: FileNotFoundError; ValueError naming the file for what is no file, and for damage
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    open_regular(fpath).close()
    try:
        return load_file(fpath)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(
            f"{fpath} is not a readable .safetensors file ({printable(str(error))}); it is cut short, "
            "damaged, or another kind of file: get it again"
        ) from error


def state_dict_in(checkpoint: Any, path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The state dict in what a checkpoint file holds. Raises: ValueError naming the file if there is none"""
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
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
