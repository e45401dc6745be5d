"""The order of the layers: every import points downwards. And the names of classes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parent.parent

# From the top to the ground. A room (a folder or a file) may import the rooms of the lines below its own.
LAYERS = """
    reproduce
    report
    grid
    train
    report.pages
    launch
    trainers  datasets
    clipfit
    dassl
    clipfit.io
"""
ONLY = {"clipfit": {"clipfit.io"}}  # it is installed alone: of what is below, it knows the ground floor only

# These stand beside the layers: they may import every layer, no layer imports them.
# The doctor and prepare are programs over data folders, of which training knows nothing.
PROGRAMS = ["datasets.tools", "datasets.doctor", "datasets.prepare"]
BESIDE = ["benchmarks", "parse_test_res", "scripts", "tests", *PROGRAMS]
AFTER_THE_START = ("launch.runtime", "launch.predict")  # of launch/, what works with torch

LEVEL = {room: number for number, line in enumerate(LAYERS.split("\n")) for room in line.split()}


class Import(NamedTuple):
    place: str  # "dassl/engine/build.py:3"
    module: str  # that imports: "dassl.engine.build"
    target: str  # that is imported: "dassl.utils", or its module "dassl.utils.registry"

    def __str__(self) -> str:
        return f"{self.place} imports {self.target}"


def room_of(module: str) -> str | None:
    """The room of a module of ours, the innermost one; None for a module of others."""
    around = [room for room in [*LEVEL, *BESIDE] if f"{module}.".startswith(f"{room}.")]
    return max(around, key=len, default=None)


def allowed(room: str, target: str) -> bool:
    if room == target or room in BESIDE:
        return True
    if room in ONLY:
        return target in ONLY[room]
    return target not in BESIDE and LEVEL[room] < LEVEL[target]


def modules(root: Path) -> dict[str, Path]:
    """Module -> file, of all code of ours but the tests."""
    rooms = {*LEVEL, *BESIDE} - {"tests"}
    paths = [path for room in rooms for path in [root / f"{room}.py", *root.glob(f"{room}/**/*.py")]]
    found = {}
    for path in sorted(filter(Path.is_file, paths)):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> list[Import]:
    """Every import of ours by ours; relative ones and those inside functions too."""
    files = modules(root)
    return [found for module, path in files.items() for found in _imports_of(module, path, files, root)]


def _imports_of(module: str, path: Path, files: dict[str, Path], root: Path) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name in files else base for name in names]
        else:
            continue
        place = f"{path.relative_to(root).as_posix()}:{node.lineno}"
        yield from (Import(place, module, target) for target in dict.fromkeys(targets) if room_of(target))


def wrong_imports(root: Path) -> list[str]:
    """Imports that the order of the layers does not allow."""
    return [
        str(found) for found in imports(root) if not allowed(room_of(found.module), room_of(found.target))
    ]


def circles(root: Path) -> list[str]:
    """Modules that import each other, directly or by way of others."""
    graph: dict[str, set[str]] = {module: set() for module in modules(root)}
    for found in imports(root):
        graph[found.module].add(found.target)
    return [module for module in graph if module in _reached(graph, module)]


def _reached(graph: dict[str, set[str]], module: str) -> set[str]:
    reached: set[str] = set()
    waiting = {module}
    while waiting:
        waiting = {target for each in waiting for target in graph.get(each, ())} - reached
        reached |= waiting
    return reached


def names_twice(root: Path) -> dict[str, list[str]]:
    """Class names that are defined more than once, with the modules."""
    defined = defaultdict(list)
    for module, path in modules(root).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                defined[node.name].append(module)
    return {name: places for name, places in defined.items() if len(places) > 1}


def test_imports_only_point_downwards():
    assert wrong_imports(PROJECT) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles(PROJECT) == []


def test_every_import_of_ours_exists():
    files = modules(PROJECT)
    targets = [found for found in imports(PROJECT) if room_of(found.target) != "tests"]
    assert [str(found) for found in targets if found.target not in files] == []


def test_only_the_engine_imports_what_is_there_for_plugins():
    outside = [found for found in imports(PROJECT) if not found.module.startswith("dassl.")]
    for_plugins = ("dassl.modeling", "dassl.config.unused", "dassl.optim.radam")
    assert [
        str(found)
        for found in outside
        if found.target.endswith(".for_plugins") or found.target.startswith(for_plugins)
    ] == []


def test_every_folder_with_code_has_its_place():
    folders = {path.parent.name for path in PROJECT.glob("[!.]*/*.py")}
    files = {path.stem for path in PROJECT.glob("*.py")}
    assert folders | files | {"scripts", "tests"} == {room for room in (*LEVEL, *BESIDE) if "." not in room}


def test_whatever_comes_before_a_run_begins_imports_no_torch():
    rooms = ("reproduce", "report", "grid", "train", "report.pages", "launch")
    quick = [name for name in modules(PROJECT) if room_of(name) in rooms and name not in AFTER_THE_START]
    code = f"import sys, {', '.join(quick)}; sys.exit('torch' in sys.modules)"
    assert len(quick) > 40
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


def test_a_class_name_stands_for_one_thing():
    assert names_twice(PROJECT) == {}


# What these tests find, in a project that breaks the rules ------------------------------------------


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("dassl/engine/build.py", "from trainers.base import CLIPTrainer"),
        ("dassl/engine/build.py", "def build():\n    import launch.folder"),
        ("dassl/build.py", "from clipfit.clip import CLIP"),
        ("dassl/build.py", "from clipfit import clip"),
        ("clipfit/clip.py", "from dassl.utils import read_json"),
        ("clipfit/clip.py", "if TYPE_CHECKING:\n    from trainers import base"),
        ("clipfit/io/files.py", "from .. import clip"),
        ("clipfit/io/files.py", "from ..clip import CLIP"),
        ("clipfit/io/files.py", "import dassl"),
        ("trainers/base.py", "import datasets"),
        ("datasets/demo.py", "from trainers import base"),
        ("launch/folder.py", "import train"),
        ("train.py", "from grid.plan import plan"),
        ("train.py", "def page():\n    from report import results"),
        ("report/pages/of_run.py", "from report import results"),
        ("grid/plan.py", "from report import results"),
        ("report/results.py", "import reproduce"),
        ("launch/folder.py", "from tests.conftest import run"),
        ("report/results.py", "import scripts.base2new_table, json"),
    ],
)
def test_an_import_that_points_elsewhere_is_found(file, line, tmp_path):
    project(tmp_path, {"clipfit/clip.py": "", "trainers/base.py": "", "report/results.py": "", file: line})
    (found,) = wrong_imports(tmp_path)
    assert found.startswith(f"{file}:{len(line.splitlines())} imports ")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("reproduce.py", "from report import results; import grid.plan, train"),
        ("report/results.py", "from . import tables; from clipfit.loading import load_clip"),
        ("dassl/utils/__init__.py", "from clipfit.io.files import read_json; from .registry import Registry"),
        ("clipfit/clip.py", "from clipfit.io import files; from .text import Prompts"),
        ("datasets/demo.py", "import datasets.splits; from dassl.data import DataManager"),
        ("scripts/table.py", "import reproduce"),
        ("train.py", "def page():\n    from report.pages.of_run import write_page"),
        ("trainers/base.py", "import torch, tests_of_others"),
    ],
)
def test_an_import_that_points_downwards_is_none(file, line, tmp_path):
    project(tmp_path, {file: line})
    assert wrong_imports(tmp_path) == []


def test_a_circle_is_found(tmp_path):
    project(tmp_path, {"dassl/a.py": "from dassl import b", "dassl/b.py": "def f():\n    from .c import x"})
    assert circles(tmp_path) == []
    (tmp_path / "dassl" / "c.py").write_text("import dassl.a")
    assert circles(tmp_path) == ["dassl.a", "dassl.b", "dassl.c"]


def test_a_second_class_of_one_name_is_found(tmp_path):
    inside = "def f():\n    class Row: pass"
    project(tmp_path, {"grid/gpus.py": "class Row: pass\nclass Column: pass", "report/model.py": inside})
    assert names_twice(tmp_path) == {"Row": ["grid.gpus", "report.model"]}


def project(root: Path, files: dict[str, str]) -> None:
    for name, code in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
