"""Registries of named classes and functions."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from clipfit.io.names import nearest, unknown_name

__all__ = ["Registry", "check_availability", "import_folder", "nearest", "unknown_name"]


class Registry:
    """Objects by name, in the order in which they were registered.

    >>> REG = Registry("TRAINER")
    >>> @REG.register()
    ... class MyTrainer: ...
    >>> REG.get("MyTrainer")
    """

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, Any] = {}
        self._kept: frozenset[str] = frozenset()  # names that nothing may take now

    def register(self, obj: Any = None, force: bool = False) -> Callable | None:
        """Store `obj` under its `__name__`; without `obj`, return a decorator that does.

        Raises: KeyError with both files if the name is taken, unless `force` replaces what is there.
        """
        if obj is not None:
            self._store(obj, force)
            return None

        def decorator(decorated):
            self._store(decorated, force)
            return decorated

        return decorator

    def get(self, name: str) -> Any:
        """Raises: KeyError naming the nearest registered name."""
        if name not in self._objects:
            raise KeyError(unknown_name(self._name, name, self._objects))
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    @contextmanager
    def keeping_names(self) -> Iterator[None]:
        """Meanwhile, who registers a name that is taken now gets `<name>@<file stem>`, with `force` too."""
        self._kept = frozenset(self._objects)
        try:
            yield
        finally:
            self._kept = frozenset()

    def _store(self, obj: Any, force: bool) -> None:
        name = obj.__name__
        if name in self._kept:
            name = f"{name}@{obj.__module__.rpartition('.')[2]}"
        if name in self._objects and not force:
            raise KeyError(
                f"{name!r} of {_file(obj)} is already registered in {self._name} by "
                f"{_file(self._objects[name])}; choose another name, or pass force=True to replace that one"
            )
        self._objects[name] = obj


def _file(obj: Any) -> str:
    return getattr(sys.modules.get(obj.__module__), "__file__", None) or obj.__module__


def import_folder(
    registry: Registry,
    package: str,
    path: Iterable[str],
    shipped: Iterable[str],
    programs: Iterable[str] = (),
) -> None:
    """Import every module of a package but its programs, so that each registers what it defines.

    The shipped ones come first and keep their names: a class of another file that has the name of a shipped
    one is registered as `<name>@<file stem>`.
    """
    names = [module.name for module in iter_modules(path) if module.name not in programs]
    for name in names:
        if name in shipped:
            import_module(f"{package}.{name}")
    with registry.keeping_names():
        for name in names:
            import_module(f"{package}.{name}")


def check_availability(requested: str, available: Iterable[str], kind: str = "name") -> None:
    """Raises: ValueError with the available names and the closest one if `requested` is not among them."""
    available = list(available)
    if requested not in available:
        raise ValueError(unknown_name(kind, requested, available))
