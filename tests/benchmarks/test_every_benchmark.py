"""Every benchmark can be started: what it takes from other modules is there."""

import importlib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in PROJECT.glob("benchmarks/**/*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_finds_what_it_imports(module):
    importlib.import_module(module)
