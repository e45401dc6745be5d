"""Reading checkpoints of other repositories without running anything that is in them.

A pickle is a program: it may call whatever it can import. The reader here resolves only the names listed
below, all of which build tensors, containers or plain values. Optimizers and schedulers, which some
repositories pickle whole, become inert `Placeholder`s. Every other name ends the reading.

The module stands in for `pickle` in `torch.load(..., pickle_module=...)`: it offers `Unpickler` and `load`.
"""

import collections
import pickle
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch

_BUILTINS = (
    *(bool, int, float, complex, str, bytes, bytearray),
    *(tuple, list, dict, set, frozenset, slice),
)
_TENSOR_BUILDERS = (
    torch._utils._rebuild_parameter,
    torch._utils._rebuild_tensor,
    torch._utils._rebuild_tensor_v2,
)
_PLACEHOLDER_PACKAGES = ("torch.optim", "dassl")


class RefusedGlobal(ValueError):
    """The pickle names something that is not admitted."""

    def __init__(self, name: str):
        super().__init__(f"it would run code ({name})")


class Placeholder:
    """Stands for a pickled object whose class is not loaded; `state` is what was pickled, as plain data."""

    state: Any = None

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state: Any) -> None:
        vars(self)["state"] = state


class _Call:
    """A function that a pickle may call and not change: pickles can set attributes of what they name."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise RefusedGlobal(f"attributes for {self._function.__name__}")


class _NumpyDtype:
    """numpy.dtype of a number, with its byte order as the only state that a pickle may set."""

    def __init__(self, code: str, *flags):
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biufc":
            raise RefusedGlobal(f"numpy.dtype {code!r}")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _numpy_scalar(dtype: _NumpyDtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype.dtype)[0]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Bytes as older pickle protocols write them; `_codecs.encode` itself would take any registered codec."""
    if encoding != "latin1":
        raise RefusedGlobal(f"_codecs.encode with {encoding!r}")
    return text.encode("latin1")


_ADMITTED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): _Call(_latin1_bytes),
    ("numpy", "dtype"): _NumpyDtype,
    ("numpy.core.multiarray", "scalar"): _Call(_numpy_scalar),
    ("numpy._core.multiarray", "scalar"): _Call(_numpy_scalar),
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{("torch", name): kind for name, kind in vars(torch).items() if isinstance(kind, torch.dtype)},
    **{("torch._utils", function.__name__): _Call(function) for function in _TENSOR_BUILDERS},
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in _BUILTINS},
    ("__builtin__", "long"): int,  # protocol 2, torch's default, writes the names of Python 2
    ("__builtin__", "unicode"): str,
}


class Unpickler(pickle.Unpickler):
    """Resolves the admitted names only; torch's storages are resolved by `torch.load` itself."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises: RefusedGlobal"""
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        if any(module == package or module.startswith(package + ".") for package in _PLACEHOLDER_PACKAGES):
            return type(name.rpartition(".")[2], (Placeholder,), {"__module__": module})
        raise RefusedGlobal(f"{module}.{name}")


def load(file: IO[bytes], **options) -> Any:
    """`pickle.load` with this module's Unpickler."""
    return Unpickler(file, **options).load()
