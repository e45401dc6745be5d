"""--to openai: the whole CLIP in one file with OpenAI's names.

DIR/
  model.pt             a state dict in float32 (model.safetensors with --safetensors)
  labels.txt

Who reads it: MODEL.BACKBONE.NAME here; open_clip, by pretrained=FILE and a name with -quickgelu; OpenAI's
clip.load, which rounds matrices to float16.
"""

from __future__ import annotations

from pathlib import Path

from clipfit.export import parts
from clipfit.export.merged import MergedFit
from clipfit.io.checkpoints import save_whole

WEIGHTS, SAFETENSORS = "model.pt", "model.safetensors"


def write(fit: MergedFit, folder: Path) -> list[str]:
    parts.write_labels(fit, folder)
    if fit.options.get("safetensors"):
        parts.write_tensors(fit.state(), folder / SAFETENSORS)
        return [
            "from safetensors.torch import load_file",
            "from clip.model import build_model",
            f"model = build_model(load_file({str(folder / SAFETENSORS)!r})).float()",
        ]
    save_whole(fit.state(), folder / WEIGHTS)
    return [
        "import clip",
        f'model, preprocess = clip.load({str(folder / WEIGHTS)!r}, device="cpu")',
        parts.labels_line(folder),
    ]
