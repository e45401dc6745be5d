"""The format of fit/. Reading the facts imports no torch.

fit.json            what the model is; REQUIRED lists what must be there, further keys are kept
model.safetensors   clip.<name>      tensors that take the place of the backbone's, under OpenAI's names
                    class_features   (K, D) unit rows, the text features of the classes
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipfit.io.files import atomic_write, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
FOLDER, FACTS, TENSORS = "fit", "fit.json", "model.safetensors"
CLIP, CLASS_FEATURES = "clip.", "class_features"

REQUIRED: dict[str, type | tuple[type, ...]] = {
    "method": str,
    "backbone": dict,  # name, sha256 (None: random weights), activation
    "classes": list,  # their names, in the order of class_features
    "template": (str, list, type(None)),  # several for an ensemble; None where words are learned
    "features": str,  # of the classes: text, trained (a head), mixed, or none (needs_trainer)
    "open_vocabulary": bool,  # whether other classes can be named
    "input": dict,  # size, mean, std, interpolation, resize, upright
    "logit_scale": (int, float),  # the factor on cosines: 100, not its logarithm
}


@dataclass(frozen=True)
class Fit:
    """A fit as it lies in its folder."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        return self.facts["classes"]

    @property
    def needs_trainer(self) -> bool:
        """Whether the model is more than CLIP's own tensors and class features."""
        return bool(self.facts.get("needs_trainer"))

    @property
    def replaced(self) -> dict[str, Tensor]:
        """Tensors that take the place of CLIP's, under OpenAI's names."""
        return {
            name.removeprefix(CLIP): tensor for name, tensor in self.tensors.items() if name.startswith(CLIP)
        }


def write_fit(folder: str | os.PathLike, fit: Fit) -> None:
    """Write a fit; a folder that is there is replaced file by file, the facts last.

    Raises: OSError naming the file if it cannot be written
    """
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in fit.tensors.items()}
    with atomic_write(folder / TENSORS, "wb") as file:
        file.write(save(content, metadata={"format": "pt"}))
    write_json({"format": FORMAT, **fit.facts}, folder / FACTS)


def fit_folder(path: str | os.PathLike) -> Path:
    """The folder of a fit: `path` itself, or `fit` in the folder of a run.

    Raises: FileNotFoundError that says what is there instead
    """
    path = Path(path).expanduser()
    for folder in (path, path / FOLDER):
        if (folder / FACTS).is_file():
            return folder
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder; give the folder fit of a finished run")
    raise FileNotFoundError(
        f"{path} holds no {FACTS}; give the folder {FOLDER} of a finished run. A run of an earlier version "
        "has none: its command with --redo makes one"
    )


def read_facts(folder: str | os.PathLike) -> dict[str, Any]:
    """What fit.json says.

    Raises: FileNotFoundError; ValueError naming the file for damage, and for a format that is not known yet
    """
    path = fit_folder(folder) / FACTS
    facts = read_json(path)
    if not isinstance(facts, dict) or type(facts.get("format")) is not int:
        raise ValueError(f"{path} says no format; it is damaged, or no file of a fit")
    if facts["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {facts['format']}, the code here reads up to {FORMAT}: update clipfit"
        )
    for key, kind in REQUIRED.items():
        if key not in facts or not isinstance(facts[key], kind):
            raise ValueError(f"{path}: {key} is {facts.get(key)!r}, which it cannot be; the file is damaged")
    if not facts["classes"] or not all(isinstance(name, str) for name in facts["classes"]):
        raise ValueError(f"{path}: classes are {facts['classes']!r}; a fit has at least one class, by name")
    return facts


def read_fit(folder: str | os.PathLike) -> Fit:
    """A fit with its tensors, on the CPU.

    Raises: as `read_facts`; ValueError naming the file for damaged or unknown tensors
    """
    from clipfit.io.checkpoints import load_safetensors

    folder = fit_folder(folder)
    facts = read_facts(folder)
    tensors = load_safetensors(folder / TENSORS)
    for name in tensors:
        if not name.startswith(CLIP) and name != CLASS_FEATURES:
            raise ValueError(f"{folder / TENSORS}: {name!r} is no tensor of a fit")
    features = tensors.get(CLASS_FEATURES)
    if features is None and not facts.get("needs_trainer"):
        raise ValueError(f"{folder / TENSORS} lacks {CLASS_FEATURES}; the file is damaged")
    if features is not None and (features.dim() != 2 or len(features) != len(facts["classes"])):
        raise ValueError(
            f"{folder / TENSORS}: {CLASS_FEATURES} has shape {tuple(features.shape)} for "
            f"{len(facts['classes'])} classes; the file is damaged"
        )
    return Fit(facts, tensors)
