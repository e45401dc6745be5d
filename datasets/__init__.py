"""Data sets, one per file. Every module of the folder is imported: a file dropped in here is registered."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
