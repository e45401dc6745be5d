"""Reading YAML files that may name a parent with `_BASE_`."""

import copy
import functools
import os
from collections.abc import Hashable
from pathlib import Path

import yaml

from dassl.utils.registry import nearest

BASE_KEY = "_BASE_"


def load_yaml(path: str | os.PathLike) -> dict:
    """Read a YAML file over its parents: nested dict, without `_BASE_`.

    `_BASE_` is a path relative to the file that names it, or a list of such paths of which later ones win;
    the file itself wins over its parents.

    Raises: FileNotFoundError for a missing file or parent; ValueError for text that is not YAML (with the
            line), for a file that is no mapping, for a key given twice, and for files that are each other's
            parents
    """
    merged: dict = {}
    for _, layer in yaml_layers(path):
        _overlay(merged, layer)
    return merged


def yaml_layers(path: str | os.PathLike) -> list[tuple[Path, dict]]:
    """(path, content without `_BASE_`) of the farthest parent first, the file last. Raises as `load_yaml`."""
    return _layers(Path(path), ())


def _layers(path: Path, children: tuple[Path, ...]) -> list[tuple[Path, dict]]:
    if path.resolve() in [child.resolve() for child in children]:
        chain = " -> ".join(map(str, (*children, path)))
        raise ValueError(f"{BASE_KEY} goes round in a circle: {chain}; remove one of these parents")
    content = _read(path, named_by=children[-1] if children else None)
    bases = content.pop(BASE_KEY, [])
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(
            f"{BASE_KEY} ({path}) is {bases!r}; give one path relative to this file, or a list of them"
        )
    layers = []
    for base in bases:
        layers += _layers(Path(os.path.normpath(path.parent / base)), (*children, path))
    return [*layers, (path, content)]


def _read(path: Path, named_by: Path | None) -> dict:
    if not path.is_file():
        by = f", which {named_by} names in {BASE_KEY}," if named_by else ""
        guess = nearest(path.name, [file.name for file in path.parent.glob("*.y*ml")])
        hint = f"; did you mean {path.parent / guess}?" if guess else ""
        raise FileNotFoundError(f"the configuration file {path}{by} does not exist{hint}")
    now = path.stat()
    return copy.deepcopy(_parse(path, now.st_mtime_ns, now.st_size))


@functools.lru_cache(maxsize=1024)
def _parse(path: Path, mtime_ns: int, size: int) -> dict:
    """Content of a file as it was at that time: planning a thousand runs reads each file once."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise ValueError(f"{where}: not valid YAML: {problem}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: a configuration file maps keys to values; this one holds a {type(content).__name__}"
        )
    return content


def _overlay(below: dict, above: dict) -> None:
    """Put `above` over `below` in place, node by node."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _overlay(below[key], value)
        else:
            below[key] = value


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """The safe loader, the fast one where PyYAML has it; a key given twice in one mapping is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
