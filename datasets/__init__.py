"""Data sets, one per file. Every module of the folder is imported: a file dropped in here is registered."""

import importlib
import pkgutil

# Programs (`python -m datasets.doctor`): importing them here would load them twice when they are run.
_PROGRAMS = ("doctor", "prepare")

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in _PROGRAMS:
        importlib.import_module(f"{__name__}.{_module.name}")
