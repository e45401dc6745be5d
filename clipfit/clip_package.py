"""What files of other repositories need to `import clip`, the package, which nothing of ours imports.

The package's clip/clip.py says `from pkg_resources import packaging`, and setuptools from 82 on brings no
pkg_resources. Where it is missing, a stand-in with this one name is there while that file is imported, and no
longer: other libraries see what is installed.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

THE_FILE = "clip.clip"
MISSING = "pkg_resources"


def prepare_import_of_clip() -> None:
    """From now on `import clip` works with any setuptools, the first time and whoever asks."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the one file where it is found anyway, and has it run beside the stand-in."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != THE_FILE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Another loader, with the stand-in in place while the module runs."""

    def __init__(self, loader: Loader):
        self._loader = loader

    def __getattr__(self, name: str):
        return getattr(self._loader, name)  # its source, its data files

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with _stand_in():
            self._loader.exec_module(module)


@contextmanager
def _stand_in() -> Iterator[None]:
    with warnings.catch_warnings():
        # Where pkg_resources is there, its notice is of no use: the package only compares versions with it.
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
        if _is_there(MISSING):
            yield
            return
        import packaging.version  # the package takes `packaging.version.parse`

        sys.modules[MISSING] = stand_in = ModuleType(MISSING)
        stand_in.packaging = packaging
        try:
            yield
        finally:
            del sys.modules[MISSING]


def _is_there(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
