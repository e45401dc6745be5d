"""Data sets, one per file. Every module of the folder is imported: a file dropped in here is registered.

What is known of a data set beside its class stands in `<stem>.yaml` (dassl/config/facts.py). A file beside
which facts of its own name lie is shipped: of two files that register one name, it keeps the name.
"""

from pathlib import Path

from clipfit.clip_package import prepare_import_of_clip
from dassl.config.facts import read_folder
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import import_folder

_FACTS = read_folder(Path(__file__).parent)

# What works on data folders (`python -m datasets.doctor`): training does not need it.
_TOOLS = ("doctor", "prepare", "tools")

prepare_import_of_clip()
import_folder(DATASET_REGISTRY, __name__, __path__, _FACTS, _TOOLS)

# Trainers read no files: a class hands them its templates, which it has from its facts, if not from itself.
_templates = {facts.name: facts.templates for facts in _FACTS.values()}
for _name in DATASET_REGISTRY.registered_names():
    _class = DATASET_REGISTRY.get(_name)
    if "templates" not in vars(_class):  # what it inherits is another data set's
        _class.templates = _templates.get(_name.partition("@")[0], {})
