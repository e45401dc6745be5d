"""--to torch: a classifier that torch loads without any code of a model.

DIR/
  model.pt2                  pixel_values (B, 3, H, W), any B -> logits (B, K)
  labels.txt, config.json    the names of the K classes
  preprocessor_config.json   from a picture to pixel_values
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from clipfit.export import parts
from clipfit.export.merged import MergedFit
from clipfit.io.files import atomic_write

MODEL = "model.pt2"


def write(fit: MergedFit, folder: Path) -> list[str]:
    model = parts.Classifier(fit).eval()
    batch = {"pixel_values": {0: torch.export.Dim("batch_size")}}
    program = torch.export.export(model, (parts.example_pixels(fit),), dynamic_shapes=batch)
    content = io.BytesIO()
    torch.export.save(program, content)
    with atomic_write(folder / MODEL, "wb") as file:
        file.write(content.getbuffer())
    parts.write_classifier(fit, folder)
    return [
        "import torch",
        f"model = torch.export.load({str(folder / MODEL)!r}).module()",
        parts.labels_line(folder),
    ]
