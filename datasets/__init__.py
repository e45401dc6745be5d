"""Data sets, one per file. Every module of the folder is imported: a file dropped in here is registered."""

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import import_folder

# Files of this project, without .py: of two files that register one name, the one named here is the shipped
# one (launch/registered.py).
SHIPPED = (
    "caltech101",
    "demo",
    "drawing",
    "dtd",
    "eurosat",
    "fgvc_aircraft",
    "food101",
    "imagenet",
    "imagenet_a",
    "imagenet_like",
    "imagenet_r",
    "imagenet_sketch",
    "imagenetv2",
    "listing",
    "oxford_flowers",
    "oxford_pets",
    "splits",
    "stanford_cars",
    "sun397",
    "ucf101",
)

# What works on data folders (`python -m datasets.doctor`): training does not need it.
_TOOLS = ("doctor", "prepare", "tools")

import_folder(DATASET_REGISTRY, __name__, __path__, SHIPPED, _TOOLS)
