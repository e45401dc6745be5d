"""SimpleNet and the registries of model parts."""

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default
from dassl.modeling import BACKBONE_REGISTRY, HEAD_REGISTRY, Backbone, SimpleNet, build_backbone


class Pixels(Backbone):
    def __init__(self, pretrained):
        super().__init__()
        self._out_features = 12

    def forward(self, x):
        return x.flatten(1)


class Mlp(nn.Module):
    def __init__(self, in_features, hidden_layers, activation, bn, dropout):
        super().__init__()
        self.out_features = hidden_layers[-1]
        self.layer = nn.Linear(in_features, self.out_features)

    def forward(self, x):
        return self.layer(x)


@pytest.fixture
def cfg(monkeypatch):
    monkeypatch.setattr(BACKBONE_REGISTRY, "_objects", {"Pixels": Pixels})
    monkeypatch.setattr(HEAD_REGISTRY, "_objects", {"Mlp": Mlp})
    cfg = get_cfg_default()
    cfg.MODEL.BACKBONE.NAME = "Pixels"
    return cfg


def test_a_network_is_backbone_head_and_classifier(cfg):
    cfg.MODEL.HEAD.NAME = "Mlp"
    cfg.MODEL.HEAD.HIDDEN_LAYERS = (5,)
    net = SimpleNet(cfg, cfg.MODEL, num_classes=3)
    logits, features = net(torch.zeros(2, 3, 2, 2), return_feature=True)
    assert (logits.shape, features.shape, net.fdim) == ((2, 3), (2, 5), 5)


def test_without_classes_it_returns_features(cfg):
    net = SimpleNet(cfg, cfg.MODEL, num_classes=0)
    assert net(torch.zeros(2, 3, 2, 2)).shape == (2, 12)


def test_a_backbone_that_is_not_registered_is_reported(cfg):
    with pytest.raises(ValueError, match="unknown backbone 'pixel'; did you mean 'Pixels'"):
        build_backbone("pixel")
    assert Backbone().out_features is None
