"""The table of ecosystems. Imports no torch.

A further ecosystem is a row here, and a module of this package with

    write(source: Source, folder: Path) -> list[str]

that writes its files and returns the lines of Python that load them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

REQUIREMENTS = "requirements-export.txt"


@dataclass(frozen=True)
class Ecosystem:
    """Where a fit can go, and what it must be for that."""

    module: str  # of this package
    says: str
    reader: dict[str, str]  # module that loads the export -> package to install
    writer: dict[str, str]  # module that is needed to write it -> package to install
    names_classes: bool  # by its own text tower: the fit must be one whose classes are words in a template
    library_name: str  # of the model card


OPEN_CLIP = {"open_clip": "open_clip_torch"}
ONNX = {"onnx": "onnx", "onnxscript": "onnxscript"}

ECOSYSTEMS = {
    "openai": Ecosystem(
        "openai", "one file with OpenAI's names", {"clip": "clip-anytorch"}, {}, True, "clip"
    ),
    "open_clip": Ecosystem("open_clip", "a folder for local-dir:", OPEN_CLIP, {}, True, "open_clip"),
    "transformers": Ecosystem(
        "transformers", "a CLIPModel", {"transformers": "transformers"}, {}, True, "transformers"
    ),
    "peft": Ecosystem(
        "peft", "an adapter", {"peft": "peft", "transformers": "transformers"}, {}, True, "peft"
    ),
    "onnx": Ecosystem("onnx", "a classifier", {"onnxruntime": "onnxruntime"}, ONNX, False, "onnx"),
    "torch": Ecosystem("torch_export", "a classifier, by torch.export", {}, {}, False, "pytorch"),
    "clip_benchmark": Ecosystem(
        "clip_benchmark", "weights, class names and templates", OPEN_CLIP, {}, True, "open_clip"
    ),
}


def missing(modules: dict[str, str]) -> list[str]:
    """The packages to install for modules that are not there."""
    return [package for module, package in modules.items() if find_spec(module) is None]
