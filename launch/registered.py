"""Which methods, data sets and protocols there are, read from the source: importing them imports torch.

A method is a class that a file of ``trainers/`` registers. It is shipped if ``configs/trainers/<Name>.yaml``
states its defaults; one without is a plugin. A data set is a class that a file of ``datasets/`` registers. It
is shipped if a YAML with its facts lies beside that file. A protocol is a YAML of ``launch/protocols/``.

Two files may register one name: an original ``coop.py`` dropped into ``trainers/`` as ``coop_original.py``
brings a second CoOp. The shipped class is that of the file which is called like the method
(dassl/utils/plugin_files.py), or which has facts beside it. It keeps the name; the other class is registered
as ``CoOp@coop_original``. A run of CoOp must then say which it means: ``--replace`` or
``CoOp@coop_original`` for the other one, ``CoOp@coop`` for ours. Runs of other trainers do not notice, our
methods that subclass ours among them.

python -m launch.registered    prints the methods; the usage lines of the scripts do
"""

import ast
import hashlib
import os
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from dassl.config import flatten, load_yaml
from dassl.config.facts import Facts, read_folder
from dassl.utils import unknown_name
from dassl.utils.plugin_files import (
    Classes,
    ClassSource,
    folded,
    lineage,
    own_file,
    own_files,
    read_classes,
    registered,
)

from . import protocols as protocol_files
from .protocols import NO_PROTOCOL, Protocol, read_protocols

PROJECT = Path(__file__).resolve().parent.parent
REGISTRIES = {"trainers": "TRAINER_REGISTRY", "datasets": "DATASET_REGISTRY"}
KINDS = {"trainers": "trainer", "datasets": "data set"}
DRAWN = "DrawnDataset"  # base of the data sets that are drawn on first use
PHOTOS = "Photos"  # the data set that reads own pictures; it is in no list, since --images names them
OWN_PICTURES = "photos"  # the protocol of --images where nobody names another
FIRST_VERSION = 1  # of a trainer whose class names none
ASKED_BY = {"trainers": "--trainer ", "datasets": "DATASET.NAME "}


# Methods --------------------------------------------------------------------------------------------


def methods() -> list[str]:
    """Every registered method, under the name that it has in TRAINER_REGISTRY, sorted."""
    return sorted(_name_of("trainers", source) for source in _classes("trainers") if source.registered)


def shipped_methods() -> list[str]:
    """The methods that have a YAML of defaults, sorted."""
    return sorted(path.stem for path in (PROJECT / "configs/trainers").glob("*.yaml"))


def method_name(word: str) -> str:
    """The registered name that a user's word means; the word itself where it means none.

    Case and underscores do not count (``CLIP_Adapter``); a class is also called what its ``spellings`` say,
    and what its file is called if it is the only one there (``coop_original``).
    """
    asked, at, stem = word.partition("@")
    found = [source for source in _classes("trainers") if source.registered]
    for source in found:
        if folded(asked) in {folded(source.name), *source.spellings}:
            return f"{source.name}{at}{stem}"
    for source in found:
        alone = sum(other.file == source.file for other in found) == 1
        if alone and folded(word) == folded(source.file):
            return _name_of("trainers", source)
    return word


# Data sets ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set of ``datasets/``: what registers it and what is stated about it."""

    stem: str  # what commands and run folders call it
    name: str  # DATASET.NAME
    file: Path | None  # that registers it; None if it is gone and only results are left
    facts: Facts  # with no more than the name where it has no file of facts
    config: Path | None  # configs/datasets/<stem>.yaml; it may have none
    images: str = ""  # absolute path of own pictures


def data_sets() -> tuple[DataSet, ...]:
    """Every registered data set, by files in alphabetical order and then in the order of registration.

    Its stem is that of its facts, else of its YAML in ``configs/datasets/``, else of its file; where a file
    registers several without either, it is the registered name.

    Raises: KeyError, ValueError naming a facts file that is broken, or about a name that no file registers
    """
    folders = PROJECT / "datasets", PROJECT / "configs/datasets"
    files = sorted(path for folder in folders for path in folder.glob("*") if path.suffix in (".py", ".yaml"))
    times = tuple((path, path.stat().st_mtime_ns) for path in files)
    return _data_sets(times, tuple(_remembered.items()), _own_pictures)


@lru_cache(maxsize=8)
def _data_sets(files: tuple[tuple[Path, int], ...], remembered: tuple[tuple[str, str], ...], images: str):
    """As they are while these files are: every run of a plan asks for them."""
    folder = PROJECT / "datasets"
    by_name = {facts.name: (stem, facts) for stem, facts in read_folder(folder).items()}
    configs = _configs()
    shipped = shipped_files(folder)
    found: dict[str, DataSet] = {}
    for path in sorted(folder.glob("*.py"), key=lambda path: (path.stem not in shipped, path.stem)):
        names = [one.name for one in _classes("datasets") if one.registered and one.file == path.stem]
        for name in names:
            if name in found:  # the class of another file in its place: <name>@<file>
                continue
            if class_fact("datasets", name, "own_pictures", False):
                if images:
                    found[name] = DataSet(name_of_images(images), name, path, Facts(name), None, images)
                continue
            own_stem = path.stem if len(names) == 1 else name
            stem, facts = by_name.get(name) or (_config_stem(configs, name, own_stem), Facts(name))
            config = _config(stem) if configs.get(stem) == name else None
            found[name] = DataSet(stem, name, path, facts, config)
    for name, (_, facts) in by_name.items():
        if name not in found:
            problem = unknown_name("data set", name, found)
            raise ValueError(f"{facts.path}, name: no file of datasets/ registers it; {problem}")
    for stem, name in remembered:
        if name not in found:
            found[name] = DataSet(stem, name, None, Facts(name), _config(stem) if stem in configs else None)
    return tuple(found.values())


_remembered: dict[str, str] = {}
_own_pictures = ""


def remember_images(path: str) -> str:
    """Let own pictures be a data set in this process. Args: path, as in ``--images``. Returns: its stem"""
    global _own_pictures
    _own_pictures = os.path.abspath(path)
    return name_of_images(path)


def name_of_images(path: str) -> str:
    """What run folders call own pictures: ``pets-1a2b``, the folder's name and 4 hex of its absolute path."""
    path = os.path.abspath(path)
    return f"{Path(path).stem or OWN_PICTURES}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:4]}"


def remember_data_sets(names: dict[str, str]) -> None:
    """Let data sets whose files are gone be known in this process. Args: stem -> DATASET.NAME"""
    _remembered.update(names)


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


# Protocols ------------------------------------------------------------------------------------------


def protocols() -> dict[str, Protocol]:
    """Every protocol by its name. Raises: as launch.protocols.read_protocols"""
    return read_protocols(protocol_files.FOLDER)


def protocol(name: str) -> Protocol:
    """The protocol of a name; for "" that of runs that name none. Raises: ValueError naming the nearest"""
    if not name:
        return NO_PROTOCOL
    known = protocols()
    if name not in known:
        raise ValueError(unknown_name("protocol", name, known))
    return known[name]


# Classes of both folders ----------------------------------------------------------------------------


def class_source(folder: str, name: str) -> ClassSource | None:
    """The class that a registered name means, ``CoOp`` or ``CoOp@coop_original``; None for an unknown one."""
    plain, _, stem = name.partition("@")
    ours, others = _files(folder, plain)
    file = stem or next(iter((*ours, *others)), "")
    return next((one for one in registered(_classes(folder), plain) if one.file == file), None)


def class_lineage(folder: str, name: str) -> list[ClassSource]:
    """The class of a registered name and its bases in the folder, depth first; empty for an unknown name."""
    source = class_source(folder, name)
    return [] if source is None else list(lineage(_classes(folder), source))


def class_fact(folder: str, name: str, key: str, default):
    """The literal that the class of a registered name, or the nearest of its bases there, sets ``key`` to."""
    stated = (one.constants[key] for one in class_lineage(folder, name) if key in one.constants)
    return next(stated, default)


@cache
def is_drawn(registered: str) -> bool:
    """Whether a data set of ``datasets/`` (DATASET.NAME) is drawn on first use: its pictures are embedded."""
    return any(source.name == DRAWN for source in class_lineage("datasets", registered))


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


def shipped_code() -> set[Path]:
    """The files of the shipped methods, and what these import from their folder."""
    return {path for name in shipped_methods() for path in source_files("trainers", name)}


def _name_of(folder: str, source: ClassSource) -> str:
    ours, _ = _files(folder, source.name)
    return source.name if not ours or source.file in ours else f"{source.name}@{source.file}"


# One name, two files --------------------------------------------------------------------------------


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


def plain_name(name: str) -> str:
    """``CoOp`` of ``CoOp@coop_original``."""
    return name.partition("@")[0]


def shipped_files(folder: Path) -> tuple[str, ...]:
    """Stems of the files that the project ships, of methods or data sets."""
    if folder.name == "trainers":
        return own_files(folder, REGISTRIES["trainers"], shipped_methods())
    paths = sorted(folder.glob("*.yaml"))
    return tuple(path.stem for path in paths if path.with_suffix(".py").is_file())


def _files(folder: str, name: str) -> tuple[list[str], list[str]]:
    """Stems of the files that register a name: the shipped ones (at most one), the others."""
    stems = [source.file for source in registered(_classes(folder), name)]
    if folder == "trainers":
        has_yaml = (PROJECT / f"configs/trainers/{name}.yaml").is_file()
        shipped = own_file(_classes(folder), name) if has_yaml else ""
        return [stem for stem in stems if stem == shipped], [stem for stem in stems if stem != shipped]
    shipped = shipped_files(PROJECT / folder) if stems else ()
    return [stem for stem in stems if stem in shipped], [stem for stem in stems if stem not in shipped]


def _classes(folder: str) -> Classes:
    return read_classes(PROJECT / folder, REGISTRIES[folder])


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


if __name__ == "__main__":
    print(*methods())
