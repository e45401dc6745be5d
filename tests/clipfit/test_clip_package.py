"""Nothing of ours depends on what `import clip` gives; foreign trainer files get it with any setuptools."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # each starts processes that import torch

NOT_THERE = "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)\n"
FORKS_MODEL = """
class CLIP:
    def __init__(self, embed_dim, image_resolution, design_details): ...
def build_model(state_dict, design_details): ...
"""


@pytest.fixture
def run(tmp_path):
    """Run Python where modules of `modules` (name -> source) come before those that are installed."""

    def _run(modules, *words):
        for name, source in modules.items():
            path = tmp_path / "first" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        path = os.pathsep.join([str(tmp_path / "first"), str(PROJECT)])
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=tmp_path / "first",
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return _run


WITHOUT = {"clip.py": NOT_THERE, "pkg_resources.py": NOT_THERE}
FORK = {
    "clip/__init__.py": "from .clip import *\n",
    "clip/clip.py": "from pkg_resources import packaging\nfrom .model import build_model\n",
    "clip/model.py": FORKS_MODEL,
    "pkg_resources.py": NOT_THERE,
}


@pytest.mark.parametrize(
    "modules, methods",
    [pytest.param(WITHOUT, "", id="without the package"), pytest.param(FORK, "CLIPFit", id="beside a fork")],
)
def test_our_trainers_train_as_ever(modules, methods, run):
    words = ["-m", "pytest", "-p", "no:cacheprovider", "--rootdir", PROJECT, "-c", PROJECT / "pyproject.toml"]
    done = run(modules, *words, PROJECT / "tests/trainers/test_versions.py", "-k", methods)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout and "failed" not in done.stdout


IMPORT = """
import sys, warnings
import trainers
warnings.simplefilter("error")
from clip import clip
print(clip.packaging.__name__, "pkg_resources" in sys.modules, clip.__file__)
"""


@pytest.mark.skipif(find_spec("clip") is None, reason="the package clip-anytorch is not installed")
def test_a_trainer_file_imports_the_package_where_setuptools_has_no_pkg_resources(run):
    code = (
        IMPORT + "from clip.simple_tokenizer import SimpleTokenizer\nprint(SimpleTokenizer().encode('a cat'))"
    )
    done = run({"pkg_resources.py": NOT_THERE}, "-c", code)
    assert done.returncode == 0, done.stderr
    first, ids = done.stdout.splitlines()
    assert first.startswith("packaging False ") and "site-packages" in first
    assert ids == "[320, 2368]"


def test_a_trainer_file_gets_the_clip_of_its_fork(run, tmp_path):
    done = run(FORK, "-c", IMPORT)
    assert done.stdout.split() == ["packaging", "False", str(tmp_path / "first/clip/clip.py")], done.stderr


def test_an_installed_pkg_resources_is_what_the_package_gets(run):
    modules = {**FORK, "pkg_resources.py": "import types\npackaging = types.ModuleType('theirs')\n"}
    assert run(modules, "-c", IMPORT).stdout.split()[:2] == ["theirs", "True"]
