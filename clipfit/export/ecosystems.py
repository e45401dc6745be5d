"""The table of ecosystems. Imports no torch.

A further ecosystem is a row here, and a module of this package with

    write(fit: MergedFit, folder: Path) -> list[str]

that writes its files and returns the lines of Python that load them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec


@dataclass(frozen=True)
class Ecosystem:
    """Where a fit can go, and what it must be for that."""

    says: str
    library: str  # as model cards name it
    module: str  # of this package
    names_classes: bool  # by its text tower alone: a fit can go there if its classes are words in a template
    read_by: dict[str, str] = field(default_factory=dict)  # module -> package to install
    written_by: dict[str, str] = field(default_factory=dict)  # the same


CLIP = {"clip": "clip-anytorch"}
OPEN_CLIP = {"open_clip": "open_clip_torch"}
TRANSFORMERS = {"transformers": "transformers"}
PEFT = {"peft": "peft", **TRANSFORMERS}
RUNTIME = {"onnxruntime": "onnxruntime"}
ONNX = {"onnx": "onnx", "onnxscript": "onnxscript"}

ECOSYSTEMS = {
    "openai": Ecosystem("one file with OpenAI's names", "clip", "openai", True, CLIP),
    "open_clip": Ecosystem("a folder for local-dir:", "open_clip", "open_clip", True, OPEN_CLIP),
    "transformers": Ecosystem("a CLIPModel", "transformers", "transformers", True, TRANSFORMERS),
    "peft": Ecosystem("an adapter", "peft", "peft", True, PEFT),
    "onnx": Ecosystem("a classifier", "onnx", "onnx", False, RUNTIME, ONNX),
    "torch": Ecosystem("a classifier, by torch.export", "pytorch", "torch_export", False),
    "clip_benchmark": Ecosystem(
        "weights, class names, templates", "open_clip", "clip_benchmark", True, OPEN_CLIP
    ),
}


def missing(modules: dict[str, str]) -> list[str]:
    """The packages to install for modules that are not there."""
    return [package for module, package in modules.items() if find_spec(module) is None]
