"""One method per file. Every file in this folder registers its trainer, so a new method is a new file."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
