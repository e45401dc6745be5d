"""Registries of named classes and functions."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from clipfit.io.names import nearest, unknown_name

__all__ = ["Registry", "check_availability", "get_most_similar_str_to_a_from_b", "nearest", "unknown_name"]


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

    def register(self, obj: Any = None, force: bool = False) -> Callable | None:
        """Store `obj` under its `__name__`; without `obj`, return a decorator that does.

        Raises: KeyError if the name is taken, unless `force` replaces what is there.
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

    def _store(self, obj: Any, force: bool) -> None:
        name = obj.__name__
        if name in self._objects and not force:
            raise KeyError(
                f"{name!r} is already registered in {self._name}; choose another name, "
                "or pass force=True to replace what is there"
            )
        self._objects[name] = obj


def get_most_similar_str_to_a_from_b(a: str, b: Iterable[str]) -> str | None:
    """The element of `b` with the highest difflib ratio to `a`, a later one on ties; None for no `b`."""
    return max(
        reversed(list(b)), key=lambda choice: difflib.SequenceMatcher(None, a, choice).ratio(), default=None
    )


def check_availability(requested: str, available: Iterable[str], kind: str = "name") -> None:
    """Raises: ValueError with the available names and the closest one if `requested` is not among them."""
    available = list(available)
    if requested not in available:
        raise ValueError(unknown_name(kind, requested, available))
