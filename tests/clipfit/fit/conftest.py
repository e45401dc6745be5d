"""A fit of zero-shot CLIP on the embedded backbone."""

import pytest
import torch

from clipfit.backbones import weights_digest
from clipfit.clip import normalize
from clipfit.fit.files import Fit, write_fit
from clipfit.loading import load_clip
from clipfit.prompts import fill, tokenize
from tests.clipfit.fit.zero_shot import CLASSES, INPUT, TEMPLATE


@pytest.fixture(scope="module")
def demo():
    return load_clip("demo").requires_grad_(False)


@pytest.fixture(scope="module")
def w(demo):
    """Zero-shot features (3, D) of the classes, every prompt by itself."""
    rows = [
        demo.text_encoder(demo.embed_prompts(tokenize(fill(TEMPLATE, [name]), [name]))) for name in CLASSES
    ]
    return normalize(torch.cat(rows))


@pytest.fixture
def facts():
    return {
        "method": "CLIPFit",
        "backbone": {"name": "demo", "sha256": weights_digest("demo"), "activation": "quick_gelu"},
        "classes": CLASSES,
        "template": TEMPLATE,
        "features": "text",
        "open_vocabulary": True,
        "input": dict(INPUT),
        "logit_scale": 100.0,
    }


@pytest.fixture
def fit(tmp_path, facts, w):
    write_fit(tmp_path / "run/fit", Fit(facts, {"class_features": w}))
    return tmp_path / "run/fit"
