"""Data sets, one per file. Every module of the folder is imported: a file dropped in here is registered."""

import importlib
import pkgutil

# What works on data folders (`python -m datasets.doctor`): training does not need it.
_TOOLS = ("doctor", "prepare", "tools")

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in _TOOLS:
        importlib.import_module(f"{__name__}.{_module.name}")
