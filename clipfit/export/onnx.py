"""--to onnx: a classifier for ONNX Runtime and whatever else reads ONNX.

DIR/
  model.onnx                 pixel_values (B, 3, H, W), any B -> logits (B, K)
  labels.txt, config.json    the names of the K classes
  preprocessor_config.json   from a picture to pixel_values

torch's newer exporter (dynamo) is used; where it fails, the older one, which traces.
"""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import torch

from clipfit.export import parts
from clipfit.export.merged import MergedFit
from clipfit.io.files import atomic_write

MODEL, INPUT, OUTPUT, BATCH = "model.onnx", "pixel_values", "logits", "batch_size"
OLDER = "older"  # --onnx-exporter
OPSET_OF_OLDER = 17


def write(fit: MergedFit, folder: Path) -> list[str]:
    model, pixels = parts.Classifier(fit).eval(), parts.example_pixels(fit)
    with atomic_write(folder / MODEL, "wb") as file:
        file.write(_content(model, pixels, fit.options.get("onnx_exporter") == OLDER))
    parts.write_classifier(fit, folder)
    return [
        "import onnxruntime",
        f"session = onnxruntime.InferenceSession({str(folder / MODEL)!r})",
        parts.labels_line(folder),
    ]


def _content(model: parts.Classifier, pixels: torch.Tensor, older: bool) -> bytes:
    if older:
        return _by_older(model, pixels)
    try:
        return _by_dynamo(model, pixels)
    except torch.onnx.errors.OnnxExporterError as error:
        print(
            f"torch's newer exporter failed ({str(error).splitlines()[0]}); using the older", file=sys.stderr
        )
        return _by_older(model, pixels)


def _by_dynamo(model: parts.Classifier, pixels: torch.Tensor) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on torch's own way to export
        program = torch.onnx.export(
            model,
            (pixels,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim(BATCH)}},
            dynamo=True,
            verbose=False,
        )
    return program.model_proto.SerializeToString()


def _by_older(model: parts.Classifier, pixels: torch.Tensor) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is older
        torch.onnx.export(
            model,
            (pixels,),
            content,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
            opset_version=OPSET_OF_OLDER,
            dynamo=False,
        )
    return content.getvalue()
