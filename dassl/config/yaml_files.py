"""Reading YAML files that may name a parent with `_BASE_`."""

import copy
import functools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import yaml

from dassl.utils.registry import nearest

BASE_KEY = "_BASE_"
PROJECT = Path(__file__).resolve().parents[2]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one where PyYAML has it


def load_yaml(path: str | os.PathLike) -> dict:
    """Read a YAML file over its parents: nested dict, without `_BASE_`.

    `_BASE_` is a path relative to the file that names it, or a list of such paths of which later ones win;
    the file itself wins over its parents.

    Warns of a key that a file gives twice: the last value is used, as yacs and PyYAML do. In a file that this
    project ships it is an error.

    Raises: FileNotFoundError for a missing file or parent; ValueError for text that is not YAML (with the
            line), for a file that is no mapping, and for files that are each other's parents
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
    content, repeated = _parse(path, now.st_mtime_ns, now.st_size)
    if repeated and is_shipped(path):
        raise ValueError(f"{path}, {repeated[0]}; keep one of them")
    for line in repeated:
        warnings.warn(f"{path}, {line}; the last value is used", stacklevel=2)
    return copy.deepcopy(content)


def is_shipped(path: Path) -> bool:
    """Whether a file is one of the project's own: below `configs/` or `paper/`.

    The folders in `configs/trainers/` are not: there the scripts of the CoOp family look for YAML files.
    """
    try:
        top, *folders = path.resolve().relative_to(PROJECT).parts[:-1]
    except ValueError:  # outside, or the project's folder itself
        return False
    return top in ("configs", "paper") and not (folders[:1] == ["trainers"] and len(folders) > 1)


@functools.lru_cache(maxsize=1024)
def _parse(path: Path, mtime_ns: int, size: int) -> tuple[dict, list[str]]:
    """Content of a file as it was at that time: planning a thousand runs reads each file once.

    Returns: the content; for every key that is given again, "line 5: OPTIM.LR is given twice (...)"
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        repeated = list(_repeated(node)) if node else []  # constructing resolves "<<" in place
        content = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise ValueError(f"{where}: not valid YAML: {problem}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from error
    if content is None:
        return {}, []
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: a configuration file maps keys to values; this one holds a {type(content).__name__}"
        )
    return content, repeated


def _repeated(root: yaml.Node) -> Iterator[str]:
    """A line for every key that a mapping gives again, with both values."""
    waiting, seen = [("", root)], set()
    while waiting:
        prefix, node = waiting.pop()
        if id(node) in seen:  # an anchor leads here again
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(f"{prefix}[{index}].", item) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            continue
        first = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in first:
                line, before = first[key.value]
                yield (
                    f"line {key.start_mark.line + 1}: {prefix}{key.value} is given twice "
                    f"({_shown(before)} in line {line}, {_shown(value)} here)"
                )
            first[key.value] = (key.start_mark.line + 1, value)
            waiting.append((f"{prefix}{key.value}.", value))


def _shown(node: yaml.Node) -> str:
    """A value as it stands in the file; of groups only that they are some."""
    return node.value if isinstance(node, yaml.ScalarNode) else f"a group of {len(node.value)}"


def _overlay(below: dict, above: dict) -> None:
    """Put `above` over `below` in place, node by node."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _overlay(below[key], value)
        else:
            below[key] = value
