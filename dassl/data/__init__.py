"""From a data set's lists of images to batches: data sets, transforms, samplers, loaders.

Importing this package imports no torch, so that lists can be made without it; loaders do when they are first
asked for.
"""

_NEEDS_TORCH = ["DataManager", "DatasetWrapper", "build_data_loader"]

__all__ = [*_NEEDS_TORCH]


def __getattr__(name: str):
    if name in _NEEDS_TORCH:
        from dassl.data import data_manager

        return getattr(data_manager, name)
    raise AttributeError(f"dassl.data provides no {name!r}; it has: {', '.join(sorted(__all__))}")
