"""Files that several exports share.

Shapes: B images, K classes, D embedding width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipfit.clip import normalize
from clipfit.export.merged import MergedFit
from clipfit.io.files import atomic_write, write_json

LABELS, CONFIG, PREPROCESSOR = "labels.txt", "config.json", "preprocessor_config.json"
RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # Pillow's numbers
OPENAI_MODELS = {  # on Hugging Face
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}


class Classifier(nn.Module):
    """Normalized pixels (B, 3, H, W) -> logits (B, K): (scale * W) . x / |x|, so probabilities are exact."""

    def __init__(self, fit: MergedFit):
        super().__init__()
        self.image_encoder = fit.clip.image_encoder
        self.register_buffer("weight", fit.facts["logit_scale"] * fit.class_features)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return normalize(self.image_encoder(pixel_values)) @ self.weight.T


def example_pixels(fit: MergedFit, count: int = 2) -> Tensor:
    """Pixels (count, 3, H, W) to trace a model with."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *fit.facts["input"]["size"], generator=generator)


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """A .safetensors file."""
    from safetensors.torch import save

    with atomic_write(path, "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))


def write_labels(fit: MergedFit, folder: Path) -> None:
    """labels.txt: the name of a class per line, in the order of the logits."""
    with atomic_write(folder / LABELS) as file:
        file.writelines(f"{label}\n" for label in fit.labels)


def labels_line(folder: Path) -> str:
    """Python that reads labels.txt."""
    return f'labels = open({str(folder / LABELS)!r}, encoding="utf-8").read().splitlines()'


def write_classifier(fit: MergedFit, folder: Path) -> None:
    """What lies beside a classifier: labels.txt, config.json (id -> class, and back), the preprocessing."""
    write_labels(fit, folder)
    write_preprocessor(fit, folder)
    names = fit.labels
    config = {
        "id2label": {str(id): name for id, name in enumerate(names)},
        "label2id": {name: id for id, name in enumerate(names)},
    }
    write_json(config, folder / CONFIG)


def write_preprocessor(fit: MergedFit, folder: Path) -> None:
    """preprocessor_config.json: from a picture to pixels, as transformers and its kin read it."""
    write_json(preprocessor(fit.facts["input"]), folder / PREPROCESSOR)


def preprocessor(input: dict[str, Any]) -> dict[str, Any]:
    """The options of a CLIPImageProcessor for the `input` of fit.json."""
    height, width = input["size"]
    normalized = input.get("mean") is not None
    values = {"image_mean": list(input["mean"]), "image_std": list(input["std"])} if normalized else {}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": max(height, width)},
        "resample": RESAMPLE[input["interpolation"]],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": normalized,
        **values,
    }
