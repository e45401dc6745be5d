"""--to open_clip: a folder that open_clip loads by "local-dir:DIR", or from a hub by "hf-hub:NAME".

DIR/
  open_clip_config.json         the architecture, QuickGELU named, and the preprocessing
  open_clip_model.safetensors   OpenAI's names, which are open_clip's
  labels.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipfit.export import parts
from clipfit.export.merged import MergedFit
from clipfit.io.files import write_json
from clipfit.modules import HEAD_WIDTH

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
NO_CHANGE = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}  # of pixels that are not normalized


def write(fit: MergedFit, folder: Path) -> list[str]:
    parts.write_labels(fit, folder)
    parts.write_tensors(fit.state(), folder / WEIGHTS)
    write_json({"model_cfg": model_config(fit), "preprocess_cfg": _preprocessing(fit)}, folder / CONFIG)
    place = f"local-dir:{folder}"
    return [
        "import open_clip",
        f"model, preprocess = open_clip.create_model_from_pretrained({place!r})",
        f"tokenizer = open_clip.get_tokenizer({place!r})",
    ]


def model_config(fit: MergedFit) -> dict[str, Any]:
    """open_clip's words for the architecture."""
    known = fit.architecture()
    layers = known["vision_layers"]
    return {
        "embed_dim": known["embed_dim"],
        "quick_gelu": fit.facts["backbone"]["activation"] == "quick_gelu",
        "vision_cfg": {
            "image_size": known["image_resolution"],
            "layers": layers if isinstance(layers, int) else list(layers),
            "width": known["vision_width"],
            "head_width": HEAD_WIDTH,
            "patch_size": known["vision_patch_size"],
        },
        "text_cfg": {
            "context_length": known["context_length"],
            "vocab_size": known["vocab_size"],
            "width": known["transformer_width"],
            "heads": known["transformer_heads"],
            "layers": known["transformer_layers"],
        },
    }


def _preprocessing(fit: MergedFit) -> dict[str, Any]:
    input = fit.facts["input"]
    values = {"mean": input["mean"], "std": input["std"]} if input.get("mean") is not None else NO_CHANGE
    return {**values, "interpolation": input["interpolation"], "resize_mode": input["resize"]}
