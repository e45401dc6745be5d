"""Which methods and data sets there are, read from the source: importing them imports torch.

A method is a class that a file of ``trainers/`` registers. It is shipped if ``configs/trainers/<Name>.yaml``
states its defaults; one without is a plugin.

Two files may register one name: an original ``coop.py`` dropped into ``trainers/`` as ``coop_original.py``
brings a second CoOp. The shipped class is that of the file which is called like the method
(dassl/utils/plugin_files.py). It keeps the name; the other class is registered as ``CoOp@coop_original``. A
run of CoOp must then say which it means: ``--replace`` or ``CoOp@coop_original`` for the other one,
``CoOp@coop`` for ours. Runs of other trainers do not notice, our methods that subclass ours among them.

python -m launch.registered    prints the methods; the usage lines of the scripts do
"""

import ast
from pathlib import Path

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

PROJECT = Path(__file__).resolve().parent.parent
REGISTRIES = {"trainers": "TRAINER_REGISTRY", "datasets": "DATASET_REGISTRY"}
KINDS = {"trainers": "trainer", "datasets": "data set"}
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
    """Stems of the files that the project ships, of methods and data sets."""
    if folder.name == "trainers":
        return own_files(folder, REGISTRIES["trainers"], shipped_methods())
    path = folder / "__init__.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SHIPPED":
            return tuple(ast.literal_eval(node.value))
    return ()


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


if __name__ == "__main__":
    print(*methods())
