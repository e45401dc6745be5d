"""The registry of data sets and the way from a config to one of them."""

from dassl.config import completed
from dassl.data.datasets.base_dataset import reading_only
from dassl.utils import Registry, unknown_name

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """Construct the data set called `cfg.DATASET.NAME`.

    Where nothing trains (`RUN.TEST_ONLY`), only the images of `TEST.SPLIT` need to be there.

    Raises: ValueError for a name that no imported module has registered.
    """
    cfg = completed(cfg)
    name = cfg.DATASET.NAME
    available = DATASET_REGISTRY.registered_names()
    if name not in available:
        raise ValueError(unknown_name("data set", name, available))
    if cfg.VERBOSE:
        print(f"Loading dataset: {name}")
    with reading_only(cfg.TEST.SPLIT if cfg.RUN.TEST_ONLY else ""):
        return DATASET_REGISTRY.get(name)(cfg)


def stands_upright(name: str) -> bool:
    """Whether pictures of the data set of this name are turned upright: its class says `upright = True`."""
    return name in DATASET_REGISTRY and getattr(DATASET_REGISTRY.get(name), "upright", False)
