"""Every data set that the doctor and `prepare` know: those of the catalog and the embedded ones."""

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import unknown_name
from datasets import demo
from datasets.tools import catalog
from datasets.tools.catalog import Entry


def names() -> list[str]:
    """What may be examined: module names of the catalog and of the embedded data."""
    return [entry.name for entry in catalog.ENTRIES] + list(embedded())


def embedded() -> dict[str, Entry]:
    """The embedded data sets, described as those of the catalog are."""
    found = {}
    for registry in DATASET_REGISTRY.registered_names():
        loader = DATASET_REGISTRY.get(registry)
        if issubclass(loader, demo.DrawnDataset):
            name, classes = loader.dataset_dir, len(loader.classes)
            counts = {part: classes * count for part, count in demo.PER_CLASS.items()}
            found[name] = Entry(
                name, registry, name, ("images",), classes, **counts, sources=(), split=loader.split_file
            )
    return found


def find(name: str) -> Entry:
    """Raises: ValueError naming the nearest known name"""
    for entry in (*catalog.ENTRIES, *embedded().values()):
        if name.casefold() in (entry.name.casefold(), entry.registry.casefold()):
            return entry
    raise ValueError(unknown_name("data set", name, ["all", *names()]))
