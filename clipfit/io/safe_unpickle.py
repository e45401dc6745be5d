"""Reading pickles of other repositories without running anything that is in them.

A pickle is a program: it may call whatever it can import. The reader here resolves only the names listed
below, all of which build tensors, containers or plain values. Optimizers and schedulers, which some
repositories pickle whole, become inert `Placeholder`s. Every other name ends the reading.

It is Python's own reader in Python: the one in C cannot be told which keys a dictionary may have (to hash
nested tuples can take for ever), and takes memory that no byte of the file stands for.
"""

import collections
import math
import pickle
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch

from clipfit.io.files import printable

_PLACEHOLDER_PACKAGES = ("torch.optim", "dassl")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_KEYS = (*_PLAIN, np.generic, torch.Tensor)  # optimizers of old versions: state by parameter
_NUMBERS = {
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
}
_STORAGES = {
    **{"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8},
    **{"Byte": torch.uint8, "Bool": torch.bool},
    **{"ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64},
}
_MOST_AXES, _MOST = 64, 1 << 62
_EXPANDED = 1 << 26  # bytes: a tensor that repeats its numbers takes so much when it is copied


class RefusedGlobal(ValueError):
    """The pickle names something that is not admitted."""

    def __init__(self, name: str):
        super().__init__(f"it would run code ({printable(name)})")


class Placeholder:
    """Stands for a pickled object whose class is not loaded; `state` is what was pickled, as plain data."""

    state: Any = None

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state: Any) -> None:
        vars(self)["state"] = state


class Storage:
    """The numbers of tensors: bytes, and the dtype that the pickle gives them (None: the tensor says)."""

    def __init__(self, content: torch.Tensor, dtype: torch.dtype | None):
        self.content, self.dtype = content, dtype


class StorageType:
    """What a pickle names to say of which dtype a storage is."""

    def __init__(self, dtype: torch.dtype | None):
        self.dtype = dtype

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize if self.dtype else 1


class _Call:
    """A function that a pickle may call and not change: pickles can set attributes of what they name."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise RefusedGlobal(f"attributes for {self._function.__name__}")


# Plain values ---------------------------------------------------------------------------------------


class _NumpyDtype:
    """numpy.dtype of a number, with its byte order as the only state that a pickle may set."""

    def __init__(self, code: str, *flags):
        self.dtype = np.dtype(_text(str)(code))
        if self.dtype.kind not in "biufc":
            raise RefusedGlobal(f"numpy.dtype {code!r}")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _numpy_scalar(dtype: _NumpyDtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype.dtype)[0]


def _device(name: str, index: int | None = None) -> torch.device:
    return torch.device(_text(str)(name), *([] if index is None else [_number(int)(index)]))


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Bytes as older pickle protocols write them; `_codecs.encode` itself would take any registered codec."""
    if encoding != "latin1":
        raise RefusedGlobal("_codecs.encode with another codec than latin1")
    return text.encode("latin1")


def _number(kind: type) -> Callable:
    def number(*args):
        if not all(isinstance(arg, (bool, int, float, str)) for arg in args):
            raise ValueError(f"{kind.__name__} of something that is no number")
        return kind(*args)

    return number


def _text(kind: type) -> Callable:
    def text(*args):  # bytes(10**12) would take that much memory
        if not all(isinstance(arg, (str, bytes)) for arg in args):
            raise ValueError(f"{kind.__name__} of something that is no text")
        return kind(*args)

    return text


def _sequence(kind: type) -> Callable:
    def sequence(items=()):
        if not isinstance(items, (list, tuple)):
            raise ValueError(f"{kind.__name__} of something that is no list")
        return kind(items)

    return sequence


def _set(kind: type) -> Callable:
    def new_set(items=()):
        return kind(map(_key, _sequence(list)(items)))

    return new_set


def _mapping(kind: type) -> Callable:
    def mapping(items=()):
        pairs = items.items() if isinstance(items, dict) else _sequence(list)(items)
        return kind((_key(key), value) for key, value in pairs)

    return mapping


def _defaultdict(factory=None, items=()) -> collections.defaultdict:
    return collections.defaultdict(factory, _mapping(dict)(items))


def _key(key: Any) -> Any:
    """A key of a dictionary, or what is in a set. Raises: ValueError unless it is quick to hash"""
    if isinstance(key, _KEYS) or (isinstance(key, tuple) and all(isinstance(one, _KEYS) for one in key)):
        return key
    raise ValueError(f"a key of a dictionary is a nested {type(key).__name__}")


# Tensors --------------------------------------------------------------------------------------------


def _tensor(storage: Storage, offset: int, size, stride, requires_grad=False, hooks=None, metadata=None):
    if metadata:
        raise ValueError("a tensor is the conjugate or negative of another one")
    return _tensor_of(storage, storage.dtype, offset, size, stride)


def _tensor_that_says_its_dtype(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
    if metadata:
        raise ValueError("a tensor is the conjugate or negative of another one")
    return _tensor_of(storage, dtype, offset, size, stride)


def _tensor_of(storage: Storage, dtype: torch.dtype, offset: int, size, stride) -> torch.Tensor:
    """Raises: ValueError for a dtype that no number has, and for numbers that the storage lacks"""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    if not isinstance(dtype, torch.dtype) or dtype not in _NUMBERS:
        shown = dtype if isinstance(dtype, torch.dtype) else type(dtype).__name__
        raise ValueError(f"a tensor is of dtype {shown}, which holds no plain numbers")
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or len(size) > _MOST_AXES:
        raise ValueError(f"a tensor has {len(size)} axes and {len(stride)} strides")
    if not all(type(number) is int and 0 <= number < _MOST for number in (offset, *size, *stride)):
        raise ValueError("a tensor has a shape, stride or offset that cannot be")
    held, count = storage.content.numel() // dtype.itemsize, math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and (last >= held or count * dtype.itemsize > max(held * dtype.itemsize, _EXPANDED)):
        raise ValueError(f"a tensor of shape {size} has only {held:,} numbers in the file")
    return torch.empty(0, dtype=dtype).set_(storage.content.untyped_storage(), offset, size, stride)


def _parameter(data: torch.Tensor, requires_grad: bool, *more) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad=bool(requires_grad))


# ----------------------------------------------------------------------------------------------------

_BUILTINS = {
    **{kind.__name__: _Call(_number(kind)) for kind in (bool, int, float, complex)},
    **{kind.__name__: _Call(_text(kind)) for kind in (str, bytes, bytearray)},
    **{kind.__name__: _Call(_sequence(kind)) for kind in (tuple, list)},
    **{kind.__name__: _Call(_set(kind)) for kind in (set, frozenset)},
    "dict": _Call(_mapping(dict)),
    "slice": _Call(slice),
    "long": _Call(_number(int)),  # protocol 2, torch's default, writes the names of Python 2
    "unicode": _Call(_text(str)),
}
_ADMITTED = {
    ("collections", "OrderedDict"): _Call(_mapping(collections.OrderedDict)),
    ("collections", "defaultdict"): _Call(_defaultdict),
    ("collections", "Counter"): _Call(_mapping(lambda pairs: collections.Counter(dict(pairs)))),
    ("_codecs", "encode"): _Call(_latin1_bytes),
    ("numpy", "dtype"): _Call(_NumpyDtype),
    ("numpy.core.multiarray", "scalar"): _Call(_numpy_scalar),
    ("numpy._core.multiarray", "scalar"): _Call(_numpy_scalar),
    ("torch", "Size"): _Call(_sequence(torch.Size)),
    ("torch", "device"): _Call(_device),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Call(_tensor_that_says_its_dtype),
    ("torch._utils", "_rebuild_parameter"): _Call(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Call(_parameter),
    **{("torch", name): kind for name, kind in vars(torch).items() if isinstance(kind, torch.dtype)},
    **{("torch", f"{name}Storage"): StorageType(dtype) for name, dtype in _STORAGES.items()},
    **{(module, "UntypedStorage"): StorageType(None) for module in ("torch", "torch.storage")},
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in _BUILTINS.items()},
}
# Opcodes that torch.save does not write, and that reach further than the others.
_REFUSED_OPCODES = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.PERSID),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


class Unpickler(pickle._Unpickler):
    """Resolves the admitted names only, and puts things only where they belong.

    Args: persistent_load, from what stands for a storage in the pickle to a `Storage`
    """

    dispatch = {
        code: method
        for code, method in pickle._Unpickler.dispatch.items()
        if bytes([code]) not in _REFUSED_OPCODES
    }

    def __init__(self, file: IO[bytes], persistent_load: Callable[[Any], Storage] | None = None):
        super().__init__(file, encoding="utf-8")
        if persistent_load is not None:
            self.persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        """Raises: RefusedGlobal"""
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        if any(module == package or module.startswith(package + ".") for package in _PLACEHOLDER_PACKAGES):
            return type(name.rpartition(".")[2], (Placeholder,), {"__module__": module})
        raise RefusedGlobal(f"{module}.{name}")

    def _call(self) -> None:
        args, function = self.stack.pop(), self.stack[-1]
        if not isinstance(function, _Call) and not _is_placeholder(function):
            raise ValueError(f"it calls a {type(function).__name__}")
        self.stack[-1] = function(*args)

    def _build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, collections.OrderedDict):  # a state dict, with the versions of its modules
            if isinstance(state, dict) and "_metadata" in state:
                built._metadata = state["_metadata"]
        elif isinstance(built, (Placeholder, _NumpyDtype, _Call)):
            built.__setstate__(state)
        else:
            raise RefusedGlobal(f"attributes for a {type(built).__name__}")

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError(f"it adds to a {type(self.stack[-1]).__name__} as to a list")
        self.stack[-1].extend(items)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError(f"it sets an item of a {type(self.stack[-1]).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][_key(key)] = value

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def _add_items(self) -> None:
        items = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise ValueError(f"it adds to a {type(self.stack[-1]).__name__} as to a set")
        self.stack[-1].update(map(_key, items))

    def _frozenset(self) -> None:
        self.append(frozenset(map(_key, self.pop_mark())))

    dispatch |= {
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _build,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozenset,
    }


def _is_placeholder(function: Any) -> bool:
    return isinstance(function, type) and issubclass(function, Placeholder)


def load(file: IO[bytes], persistent_load: Callable[[Any], Storage] | None = None) -> Any:
    """`pickle.load` with this module's Unpickler."""
    return Unpickler(file, persistent_load).load()
