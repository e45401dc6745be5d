"""CLIPs for the tests: small ones that compute, full-size ones without memory where only shapes matter."""

import pytest
import torch

from clipfit.architectures import architecture_arguments, empty_model
from clipfit.clip import CLIP
from clipfit.modules import OpenAIModel


def small_model(width: int, layers: int) -> OpenAIModel:
    """OpenAI's whole model with heads of width 64 and no weight at a special value (such as 0)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OpenAIModel(
            embed_dim=32,
            image_resolution=32,
            vision_layers=layers,
            vision_width=width,
            vision_patch_size=16,
            context_length=77,
            vocab_size=49_408,
            transformer_width=width,
            transformer_heads=width // 64,
            transformer_layers=layers,
        ).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="session")
def tiny_model() -> OpenAIModel:
    """Two heads and three blocks in each tower."""
    return small_model(width=128, layers=3)


@pytest.fixture(scope="session")
def narrow_model() -> OpenAIModel:
    """One head and two blocks, for many classes."""
    return small_model(width=64, layers=2)


@pytest.fixture(scope="session")
def vit_b16() -> CLIP:
    """Full-size ViT-B/16 on the meta device: names and shapes, no values."""
    return CLIP(empty_model(half=False, **architecture_arguments("ViT-B/16")))


@pytest.fixture(scope="session")
def rn50() -> CLIP:
    """Full-size RN50 on the meta device."""
    return CLIP(empty_model(half=False, **architecture_arguments("RN50")))
