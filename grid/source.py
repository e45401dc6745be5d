"""Constants of the shipped classes, read from their source: importing a trainer or data set imports torch."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from launch.registered import PROJECT, shipped_files

FIRST_VERSION = 1
DRAWN = "DrawnDataset"  # base of the data sets that are drawn on first use


@dataclass(frozen=True)
class ClassSource:
    bases: tuple[str, ...]
    constants: dict[str, object]  # attributes that the class body sets to a literal


def trainer_version(trainer: str) -> int:
    """The attribute ``version`` of a trainer of ``trainers/``; 1 for one that sets none."""
    return attribute(PROJECT / "trainers", trainer, "version", FIRST_VERSION)


def dataset_folder(registered: str) -> str | None:
    """Folder under the data root that a data set of ``datasets/`` (DATASET.NAME) reads.

    None if there need not be one: the data set is drawn on first use, or is none of ours.
    """
    if is_drawn(registered):
        return None
    return attribute(PROJECT / "datasets", registered, "dataset_dir", None)


def is_drawn(registered: str) -> bool:
    """Whether a data set of ``datasets/`` (DATASET.NAME) is drawn on first use: its pictures are embedded."""
    return DRAWN in ancestors(PROJECT / "datasets", registered)


def attribute(package: Path, name: str, key: str, default):
    """What the class or the nearest of its bases in the package sets ``key`` to."""
    known = classes(package)
    for ancestor in ancestors(package, name):
        if key in known[ancestor].constants:
            return known[ancestor].constants[key]
    return default


def ancestors(package: Path, name: str) -> list[str]:
    """The class and its bases in the package, depth first; empty for a class that is not there."""
    known = classes(package)
    if name not in known:
        return []
    return [name, *(above for base in known[name].bases for above in ancestors(package, base))]


@cache
def classes(package: Path) -> dict[str, ClassSource]:
    """Every class that the files of a folder define at their top level; of one name, the shipped one."""
    found = {}
    shipped = shipped_files(package)
    for path in sorted(package.glob("*.py"), key=lambda path: (path.stem in shipped, path)):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                found[node.name] = ClassSource(bases, dict(_constants(node)))
    return found


def _constants(node: ast.ClassDef):
    """(name, value) of every assignment of a literal, ``a, b = 1, 2`` included."""
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield from _assigned(statement.target, statement.value)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from _assigned(target, statement.value)


def _assigned(target: ast.expr, value: ast.expr):
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its_value in zip(target.elts, value.elts, strict=True):
            yield from _assigned(one, its_value)
    elif isinstance(target, ast.Name) and isinstance(value, ast.Constant):
        yield target.id, value.value
