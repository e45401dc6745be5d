"""What the files of a plugin folder register, read from their source: importing them would import torch.

Two files of a folder may register one name. It belongs to the file that is called like it: of ``coop.py`` and
``coop_original.py`` the class CoOp of ``coop.py`` is the one that CoOp means. Case and underscores do not
count, and a class may state further names: with ``spellings = ("zsclip",)`` ZeroshotCLIP is that of
``zsclip.py``.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, eq=False)
class ClassSource:
    """A class that a file defines or registers."""

    name: str
    file: str  # stem
    bases: tuple[str, ...] = ()  # without their modules
    constants: dict[str, object] = field(default_factory=dict)  # attributes set to a literal
    computed: frozenset[str] = frozenset()  # attributes set to something else
    registered: bool = False

    @property
    def spellings(self) -> set[str]:
        """What else the class is called, folded."""
        stated = self.constants.get("spellings", ())
        return {folded(word) for word in ((stated,) if isinstance(stated, str) else stated)}

    @property
    def bears_the_files_name(self) -> bool:
        return folded(self.file) in {folded(self.name), *self.spellings}


Classes = tuple[ClassSource, ...]


def read_classes(folder: Path, registry: str) -> Classes:
    """Every class of the files of a folder. Args: registry, its name in the source."""
    paths = sorted(folder.glob("*.py"))
    return _read(tuple((path, path.stat().st_mtime_ns) for path in paths), registry)


def registered(classes: Classes, name: str) -> list[ClassSource]:
    """The classes that are registered under a name, one per file."""
    return [source for source in classes if source.registered and source.name == name]


def own_file(classes: Classes, name: str) -> str:
    """Stem of the one file that registers a name and is called like it; empty if there is none."""
    files = [source.file for source in registered(classes, name) if source.bears_the_files_name]
    return files[0] if len(files) == 1 else ""


def own_files(folder: Path, registry: str, names: Iterable[str]) -> tuple[str, ...]:
    """Stems of the files that names belong to, sorted."""
    classes = read_classes(folder, registry)
    return tuple(sorted({file for name in names if (file := own_file(classes, name))}))


def lineage(classes: Classes, source: ClassSource) -> Iterator[ClassSource]:
    """A class and its bases in the folder, depth first."""
    yield source
    for base in source.bases:
        others = [other for other in classes if other.name == base and other is not source and other.bases]
        if others:
            nearest = max(others, key=lambda other: (other.file == source.file, other.bears_the_files_name))
            yield from lineage(classes, nearest)


def folded(word: str) -> str:
    """A name without what does not count: ``clipadapter`` of ``CLIP_Adapter``."""
    return word.lower().replace("_", "")


# Reading --------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _read(files: tuple[tuple[Path, int], ...], registry: str) -> Classes:
    return tuple(source for path, mtime_ns in files for source in _classes_of(path, registry, mtime_ns))


@lru_cache(maxsize=1024)
def _classes_of(path: Path, registry: str, mtime_ns: int) -> Classes:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = set(_registered_by_a_call(tree, registry))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            decorated = any(f"{registry}.register" in ast.unparse(line) for line in node.decorator_list)
            constants, computed = _attributes(node)
            bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases) or ("object",)
            known = decorated or node.name in called
            found.append(ClassSource(node.name, path.stem, bases, constants, computed, known))
    defined = {source.name for source in found}
    return (*found, *(ClassSource(name, path.stem, registered=True) for name in sorted(called - defined)))


def _registered_by_a_call(tree: ast.Module, registry: str) -> Iterator[str]:
    """The classes of ``REGISTRY.register(Class)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(f"{registry}.register"):
            yield from (argument.id for argument in node.args if isinstance(argument, ast.Name))


def _attributes(node: ast.ClassDef) -> tuple[dict[str, object], frozenset[str]]:
    """Literals that a class body assigns, ``a, b = 1, 2`` and ``dict(a=1)`` included; its other names."""
    constants, computed = {}, set()
    for name, value in _assignments(node):
        try:
            constants[name] = _literal(value)
        except ValueError:
            computed.add(name)
    return constants, frozenset(computed)


def _assignments(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield from _assigned(statement.target, statement.value)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from _assigned(target, statement.value)


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its_value in zip(target.elts, value.elts, strict=True):
            yield from _assigned(one, its_value)
    elif isinstance(target, ast.Name):
        yield target.id, value


def _literal(value: ast.expr):
    """Raises: ValueError for what is no literal"""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "dict" and not value.args:
        return {word.arg: ast.literal_eval(word.value) for word in value.keywords}
    return ast.literal_eval(value)
