"""Which file registers which name, read from the source: importing a trainer or data set imports torch.

Two files of a folder may register one name: an original ``coop.py`` dropped into ``trainers/`` as
``coop_original.py`` brings a second CoOp. The shipped class is that of a file beside which a YAML of its name
lies (the facts of a data set), or which ``SHIPPED`` in the folder's ``__init__.py`` names (trainers). It
keeps the name; the other class is registered as ``CoOp@coop_original``. A run of CoOp must then say which it
means: ``--replace`` or ``CoOp@coop_original`` for the other one, ``CoOp@coop`` for ours. Runs of other
trainers do not notice, our methods that subclass ours among them.
"""

import ast
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from dassl.config import flatten, load_yaml
from dassl.config.facts import Facts, read_folder
from dassl.utils.registry import unknown_name

PROJECT = Path(__file__).resolve().parent.parent
REGISTRIES = {"trainers": "TRAINER_REGISTRY", "datasets": "DATASET_REGISTRY"}
KINDS = {"trainers": "trainer", "datasets": "data set"}
ASKED_BY = {"trainers": "--trainer ", "datasets": "DATASET.NAME "}


def settled_name(folder: str, name: str, replace: bool = False) -> str:
    """The registered name that a user means: ``CoOp`` for ours, ``CoOp@<file stem>`` for one in its place.

    Args: folder, trainers or datasets; name, ``CoOp`` or ``CoOp@<file stem>``; replace, take the class of a
          file that is not shipped, where one has this name
    Raises: ValueError naming the files if it is not clear which one is meant, or if there is no such file
    """
    plain, _, stem = name.partition("@")
    ours, others = _files(folder, plain)
    if len(ours) > 1:
        paths = " and ".join(f"{folder}/{one}.py" for one in ours)
        raise ValueError(
            f"{paths} bring a {KINDS[folder]} {plain}, and each has a YAML beside it, as shipped ones have; "
            "move the YAML of yours away, or give your class another name"
        )
    if stem and stem not in (*ours, *others):
        known = ", ".join(f"{plain}@{one}" for one in (*ours, *others)) or "none"
        raise ValueError(f"{folder}/{stem}.py registers no {KINDS[folder]} {plain} (there is: {known})")
    if not ours or stem in ours or not others:
        return plain
    if stem:
        return name
    choices = [f"{plain}@{other}" for other in others]
    if replace and len(choices) == 1:
        return choices[0]
    paths = [f"{folder}/{one}.py" for one in (*ours, *others)]
    flag = "--replace or " if len(choices) == 1 else ""
    raise ValueError(
        f"{' and '.join(paths)} bring a {KINDS[folder]} {plain}, {paths[0]} is the shipped one; give "
        f"{flag}{ASKED_BY[folder]}{' or '.join(choices)} to run yours, "
        f"{ASKED_BY[folder]}{plain}@{ours[0]} to run the shipped one, or move your file away"
    )


def explicit_name(folder: str, shipped: str) -> str:
    """The name that means the shipped class, whatever else lies in the folder: ``CoOp``, or ``CoOp@coop``."""
    ours, others = _files(folder, shipped)
    return f"{shipped}@{ours[0]}" if ours and others else shipped


def source_files(folder: str, name: str) -> list[Path]:
    """The file that registers a name, and the files of the same folder that it imports, and so on; sorted.

    A class's bases in the folder are among them, and helpers that it uses. Empty if no file registers it.

    Args: folder, trainers or datasets; name, as registered: ``CoOp`` or ``CoOp@<file stem>``
    """
    plain, _, stem = name.partition("@")
    ours, others = _files(folder, plain)
    stems = [stem] if stem else (ours or others)[:1]
    found, waiting = set(), [PROJECT / folder / f"{one}.py" for one in stems]
    while waiting:
        path = waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            waiting += _imported(path, path.stat().st_mtime_ns)
    return sorted(found)


def class_fact(folder: str, name: str, key: str, default):
    """The literal that the class of a registered name, or the nearest of its bases there, sets ``key`` to."""
    plain, _, stem = name.partition("@")
    ours, others = _files(folder, plain)
    shipped = shipped_files(PROJECT / folder)
    paths = sorted((PROJECT / folder).glob("*.py"), key=lambda path: (path.stem in shipped, path.stem))
    classes = {}
    for path in paths:  # of two classes of one name, the shipped one is what others build on
        classes.update(_classes(path, path.stat().st_mtime_ns))
    own = PROJECT / folder / f"{stem or next(iter((*ours, *others)), '')}.py"
    waiting = [_classes(own, own.stat().st_mtime_ns).get(plain)] if own.is_file() else []
    while waiting:
        node = waiting.pop(0)
        if node is None:
            continue
        for statement in node.body:
            if key in _assigned(statement) and statement.value is not None:
                return ast.literal_eval(statement.value)
        bases = (ast.unparse(base).rpartition(".")[2] for base in node.bases)
        waiting = [classes.get(base) for base in bases if classes.get(base) is not node] + waiting
    return default


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that a statement assigns to."""
    if isinstance(statement, ast.AnnAssign):
        return [ast.unparse(statement.target)]
    return [ast.unparse(target) for target in statement.targets] if isinstance(statement, ast.Assign) else []


def plain_name(name: str) -> str:
    """``CoOp`` of ``CoOp@coop_original``."""
    return name.partition("@")[0]


def shipped_files(folder: Path) -> tuple[str, ...]:
    """Stems of the files whose classes keep their names: in ``SHIPPED``, or with a YAML beside."""
    path, listed = folder / "__init__.py", ()
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SHIPPED":
            listed = tuple(ast.literal_eval(node.value))
    beside = [path.stem for path in sorted(folder.glob("*.yaml")) if path.with_suffix(".py").is_file()]
    return (*listed, *beside)


# Data sets ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set of ``datasets/``: what registers it and what is stated about it."""

    stem: str  # what commands and run folders call it
    name: str  # DATASET.NAME
    file: Path  # that registers it
    facts: Facts  # with no more than the name where it has no file of facts
    config: Path | None  # configs/datasets/<stem>.yaml; it may have none


def data_sets() -> tuple[DataSet, ...]:
    """Every registered data set, by files in alphabetical order and then in the order of registration.

    Its stem is that of its facts, else of its YAML in ``configs/datasets/``, else of its file; where a file
    registers several without either, it is the registered name.

    Raises: KeyError, ValueError naming a facts file that is broken, or about a name that no file registers
    """
    folder = PROJECT / "datasets"
    by_name = {facts.name: (stem, facts) for stem, facts in read_folder(folder).items()}
    configs = _configs()
    shipped = shipped_files(folder)
    found: dict[str, DataSet] = {}
    for path in sorted(folder.glob("*.py"), key=lambda path: (path.stem not in shipped, path.stem)):
        registered = _registered(path, REGISTRIES["datasets"], path.stat().st_mtime_ns)
        for name in registered:
            if name in found:  # the class of another file in its place: <name>@<file>
                continue
            own_stem = path.stem if len(registered) == 1 else name
            stem, facts = by_name.get(name) or (_config_stem(configs, name, own_stem), Facts(name))
            config = _config(stem) if configs.get(stem) == name else None
            found[name] = DataSet(stem, name, path, facts, config)
    for name, (_, facts) in by_name.items():
        if name not in found:
            problem = unknown_name("data set", name, found)
            raise ValueError(f"{facts.path}, name: no file of datasets/ registers it; {problem}")
    return tuple(found.values())


def data_set(word: str) -> DataSet:
    """The data set that is meant by a stem or a registered name, in any case, or by another YAML of its.

    Raises: ValueError naming the nearest
    """
    every = data_sets()
    for one in every:
        if word.casefold() in (one.stem.casefold(), one.name.casefold()):
            return one
    if name := _configs().get(word):
        for one in every:
            if one.name == name:
                return replace(one, stem=word, config=_config(word))
    raise ValueError(unknown_name("data set", word, [one.stem for one in every]))


def _config(stem: str) -> Path:
    return PROJECT / f"configs/datasets/{stem}.yaml"


def _configs() -> dict[str, str]:
    """Stem -> DATASET.NAME of the YAML files in ``configs/datasets/``."""
    paths = sorted((PROJECT / "configs/datasets").glob("*.yaml"))
    return {path.stem: flatten(load_yaml(path)).get("DATASET.NAME", "") for path in paths}


def _config_stem(configs: dict[str, str], name: str, default: str) -> str:
    """Stem of the YAML of a data set, if possible the default; the default where it has none."""
    stems = [stem for stem, of in configs.items() if of == name]
    return stems[0] if stems and default not in stems else default


def _files(folder: str, name: str) -> tuple[list[str], list[str]]:
    """Stems of the files that register a name: the shipped ones (at most one), the others."""
    stems = [
        path.stem
        for path in sorted((PROJECT / folder).glob("*.py"))
        if name in _registered(path, REGISTRIES[folder], path.stat().st_mtime_ns)
    ]
    shipped = shipped_files(PROJECT / folder) if stems else ()
    return [stem for stem in stems if stem in shipped], [stem for stem in stems if stem not in shipped]


@lru_cache(maxsize=1024)
def _registered(path: Path, registry: str, mtime_ns: int) -> tuple[str, ...]:
    """Names that a file registers: ``@REGISTRY.register()`` above a class, ``REGISTRY.register(Class)``."""
    text = path.read_text(encoding="utf-8")
    if registry not in text:
        return ()
    names: dict[str, None] = {}  # in order
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            if any(f"{registry}.register" in ast.unparse(decorator) for decorator in node.decorator_list):
                names[node.name] = None
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(f"{registry}.register"):
            names |= {argument.id: None for argument in node.args if isinstance(argument, ast.Name)}
    return tuple(names)


@lru_cache(maxsize=1024)
def _classes(path: Path, mtime_ns: int) -> dict[str, ast.ClassDef]:
    """Name -> class that a file defines at its top level."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


@lru_cache(maxsize=1024)
def _imported(path: Path, mtime_ns: int) -> tuple[Path, ...]:
    """Files that may be what a file imports from its own folder: ``from .coop import CoOp``, say."""
    package, modules = path.parent.name, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= 1:
            origin = ".".join(filter(None, (package if node.level else "", node.module)))
            modules.update((origin, *(f"{origin}.{alias.name}" for alias in node.names)))
    parts = (module.split(".") for module in sorted(modules))
    stems = dict.fromkeys(part[1] for part in parts if part[0] == package and len(part) > 1)
    return tuple(path.with_name(f"{stem}.py") for stem in stems)
