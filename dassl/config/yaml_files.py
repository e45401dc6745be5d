"""Reading YAML files that may name a parent with `_BASE_`."""

import functools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import yaml

from clipfit.io.files import LONGEST_NAME, no_regular_file, printable
from dassl.utils.registry import nearest

BASE_KEY = "_BASE_"
MOST_PARENTS = 50
MOST_CHARACTERS, MOST_VALUES, DEEPEST = 1 << 22, 200_000, 50
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
    """(path, content without `_BASE_`) of the farthest parent first, the file last. Raises as `load_yaml`.

    A parent that several files name is there once, where it counts: later layers win.
    """
    return list(_layers(Path(path), (), {}).values())


def _layers(path: Path, children: tuple[Path, ...], known: dict) -> dict[Path, tuple[Path, dict]]:
    """Layers by resolved path, in their order. Args: known, those of the files that were read before."""
    own = path.resolve()
    if own in [child.resolve() for child in children]:
        chain = " -> ".join(map(str, (*children, path)))
        raise ValueError(f"{BASE_KEY} goes round in a circle: {chain}; remove one of these parents")
    if own in known:
        return known[own]
    if len(children) >= MOST_PARENTS:
        raise ValueError(
            f"{BASE_KEY} ({children[-1]}): more than {MOST_PARENTS} files, each the next one's parent"
        )
    content = _read(path, named_by=children[-1] if children else None)
    bases = content.pop(BASE_KEY, [])
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(
            f"{BASE_KEY} ({path}) is {bases!r}; give one path relative to this file, or a list of them"
        )
    layers: dict[Path, tuple[Path, dict]] = {}
    for base in bases:
        if "\0" in base or any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(base).parts):
            raise ValueError(f"{BASE_KEY} ({path}) is {printable(base, 40)}..., which no file is called")
        for key, layer in _layers(
            Path(os.path.normpath(path.parent / os.path.expanduser(base))), (*children, path), known
        ).items():
            layers.pop(key, None)  # it counts where it comes last
            layers[key] = layer
    known[own] = {**layers, own: (path, content)}
    return known[own]


def _read(path: Path, named_by: Path | None) -> dict:
    by = f", which {named_by} names in {BASE_KEY}," if named_by else ""
    if not path.is_file():
        guess = nearest(path.name, [file.name for file in path.parent.glob("*.y*ml")])
        hint = f"; did you mean {path.parent / guess}?" if guess else ""
        raise FileNotFoundError(f"the configuration file {path}{by} {no_regular_file(path)}{hint}")
    now = path.stat()
    content, repeated = _parse(path, now.st_mtime_ns, now.st_size)
    if repeated and is_shipped(path):
        raise ValueError(f"{path}, {repeated[0]}; keep one of them")
    for line in repeated:
        warnings.warn(f"{path}, {line}; the last value is used", stacklevel=2)
    return _copied(content)


def _copied(value):
    """A copy in which nothing is shared: what is put over one place of an alias leaves the others alone."""
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file, whatever it says of parents; as fast as it was read before.

    Raises: FileNotFoundError; ValueError as `load_yaml`
    """
    now = path.stat()
    return _copied(_parse(path, now.st_mtime_ns, now.st_size)[0])


def is_shipped(path: Path) -> bool:
    """Whether a file is one of the project's own: below `configs/`, `paper/` or `papers/`.

    The folders in `configs/trainers/` are not: there the scripts of the CoOp family look for YAML files.
    """
    try:
        top, *folders = path.resolve().relative_to(PROJECT).parts[:-1]
    except ValueError:  # outside, or the project's folder itself
        return False
    return top in ("configs", "paper", "papers") and not (folders[:1] == ["trainers"] and len(folders) > 1)


@functools.lru_cache(maxsize=1024)
def _parse(path: Path, mtime_ns: int, size: int) -> tuple[dict, list[str]]:
    """Content of a file as it was at that time: planning a thousand runs reads each file once.

    Returns: the content; for every key that is given again, "line 5: OPTIM.LR is given twice (...)"
    """
    try:
        text = path.read_text(encoding="utf-8")
        _check_size(path, text)
        loader = _Loader(text)
        node = loader.get_single_node()
        repeated = list(_repeated(node)) if node else []  # constructing resolves "<<" in place
        content = _constructed(loader, node, path) if node else None
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


def _constructed(loader, node: yaml.Node, path: Path):
    try:
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except (
        Exception
    ) as error:  # a date that cannot be, a list as a key, `!!int ''`: PyYAML lets through what comes
        raise ValueError(f"{path}: a value that no configuration file can have ({error})") from error


def _check_size(path: Path, text: str) -> None:
    """Bound what a file stands for, aliases written out, before anything is built of it.

    Raises: ValueError; yaml.YAMLError
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{path}: {len(text):,} characters are more than a configuration file has")
    known: dict[str | None, tuple[int, int]] = {}  # anchor -> values and groups in each other below it
    outer: list[tuple[str | None, int, int]] = []  # of groups that are open: anchor, values before, depth
    count = depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        below = 0
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _, _ in outer):
                raise ValueError(f"{path}, line {event.start_mark.line + 1}: *{event.anchor} holds itself")
            values, below = known.get(event.anchor, (0, 0))
            count += values
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            known[event.anchor] = 1, 0
        elif isinstance(event, yaml.CollectionStartEvent):
            outer.append((event.anchor, count, depth))
            count, depth = count + 1, 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, depth_before = outer.pop()
            below, depth = depth + 1, depth_before
            known[anchor] = count - before, below
        depth = max(depth, below)
        if count > MOST_VALUES or len(outer) + depth > DEEPEST:
            raise ValueError(
                f"{path}, line {event.start_mark.line + 1}: more than {MOST_VALUES:,} values, aliases "
                f"written out, or {DEEPEST} groups in each other; no configuration file has them"
            )


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
