"""One method per file. Every file in this folder registers its trainer, so a new method is a new file."""

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import import_folder

# Files of this project, without .py: of two files that register one name, the one named here is the shipped
# one (launch/registered.py).
SHIPPED = (
    "base",
    "clip_adapter",
    "clipfit",
    "cocoop",
    "coop",
    "kgcoop",
    "maple",
    "prograd",
    "tip_adapter",
    "tip_adapter_search",
    "zsclip",
)

import_folder(TRAINER_REGISTRY, __name__, __path__, SHIPPED)
