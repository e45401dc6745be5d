"""For plugins: backbones, heads and networks by name. None is registered here."""

from dassl.modeling.build import (
    BACKBONE_REGISTRY,
    HEAD_REGISTRY,
    NETWORK_REGISTRY,
    Backbone,
    build_backbone,
    build_head,
    build_network,
)
from dassl.modeling.simple_net import SimpleNet

__all__ = [
    "BACKBONE_REGISTRY",
    "HEAD_REGISTRY",
    "NETWORK_REGISTRY",
    "Backbone",
    "SimpleNet",
    "build_backbone",
    "build_head",
    "build_network",
]
