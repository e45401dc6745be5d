"""The registries of model parts and the functions that build from them."""

from typing import Any

from torch import nn

from dassl.utils.registry import Registry, check_availability

BACKBONE_REGISTRY = Registry("BACKBONE")
HEAD_REGISTRY = Registry("HEAD")
NETWORK_REGISTRY = Registry("NETWORK")


class Backbone(nn.Module):
    """A feature extractor; `out_features` is the width of its features, if it sets `_out_features`."""

    @property
    def out_features(self) -> int | None:
        return getattr(self, "_out_features", None)


def build_backbone(name: str, verbose: bool = True, **kwargs) -> Any:
    return _build(BACKBONE_REGISTRY, "backbone", name, verbose, kwargs)


def build_head(name: str, verbose: bool = True, **kwargs) -> Any:
    return _build(HEAD_REGISTRY, "head", name, verbose, kwargs)


def build_network(name: str, verbose: bool = True, **kwargs) -> Any:
    return _build(NETWORK_REGISTRY, "network", name, verbose, kwargs)


def _build(registry: Registry, kind: str, name: str, verbose: bool, kwargs: dict) -> Any:
    """Raises: ValueError with the registered names for an unknown one"""
    check_availability(name, registry.registered_names(), kind)
    if verbose:
        print(f"{kind.capitalize()}: {name}")
    return registry.get(name)(**kwargs)
