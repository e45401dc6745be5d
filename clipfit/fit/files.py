"""The format of fit/. Reading the facts imports no torch.

fit.json            what the model is; REQUIRED lists what must be there, further keys are kept
model.safetensors   clip.<name>      tensors that take the place of the backbone's, under OpenAI's names
                    delta.<name>.down, .up, .scale
                                     low-rank changes: scale * up down is added to that tensor; for a third of
                                     attention's packed projection <name> ends in in_proj_weight.q, .k or .v
                    class_features   (K, D) unit rows, the features of the classes: of the text tower, or
                                     trained (`features`; if mixed, those of the classes that `seen` lists)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipfit.io.files import atomic_write, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from clipfit.low_rank import LowRankChange

FORMAT = 1
FOLDER, FACTS, TENSORS = "fit", "fit.json", "model.safetensors"
CLIP, DELTA, CLASS_FEATURES = "clip.", "delta.", "class_features"
FACTORS = ("down", "up", "scale")  # of a low-rank change
PACKED = re.compile(r"(?P<name>.*in_proj_weight)\.(?P<part>[qkv])")

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

    @property
    def deltas(self) -> list[LowRankChange]:
        """Low-rank changes of CLIP's tensors, under OpenAI's names.

        Raises: ValueError naming a change of which a part is missing or is none
        """
        from clipfit.low_rank import LowRankChange

        found = []
        for key in dict.fromkeys(name.rpartition(".")[0] for name in self.tensors if name.startswith(DELTA)):
            down, up, scale = (self.tensors.get(f"{key}.{factor}") for factor in FACTORS)
            if down is None or up is None or scale is None or scale.numel() != 1:
                raise ValueError(f"{key} needs down, up and one scale")
            name = key.removeprefix(DELTA)
            packed = PACKED.fullmatch(name)
            name, part = (packed["name"], packed["part"]) if packed else (name, "")
            found.append(LowRankChange(name, part, down, up, scale.item()))
        return found

    def changed(self, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """CLIP's tensors that are other than `before`, OpenAI's name -> tensor: replaced, or merged.

        Raises: ValueError naming a low-rank change that does not fit
        """
        tensors = self.replaced
        for change in self.deltas:
            if change.name not in before:
                raise ValueError(f"the backbone has no {change.name} to add a low-rank change to")
            tensors[change.name] = change.added_to(tensors.get(change.name, before[change.name]))
        return tensors

    @property
    def trained_rows(self) -> dict[str, int]:
        """Class -> row of its features, of the classes whose features were trained."""
        if self.facts["features"] not in ("trained", "mixed"):
            return {}
        return {self.classes[row]: row for row in self.facts.get("seen", ())}


def features_of(trained: Sequence[int], classes: Sequence) -> str:
    """What fit.json calls features of `classes` of which some are trained."""
    if not trained:
        return "text"
    return "trained" if len(trained) == len(classes) else "mixed"


def delta_tensors(changes: Iterable[LowRankChange]) -> dict[str, Tensor]:
    """Low-rank changes, under OpenAI's names, as a fit holds them."""
    import torch

    found = {}
    for name, part, down, up, scale in changes:
        key = f"{DELTA}{name}.{part}" if part else f"{DELTA}{name}"
        found |= {f"{key}.down": down, f"{key}.up": up, f"{key}.scale": torch.tensor(float(scale))}
    return found


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


def tensor_names(folder: str | os.PathLike) -> list[str]:
    """Names of the tensors of a fit, from the head of the file alone and without torch."""
    from safetensors import safe_open

    with safe_open(fit_folder(folder) / TENSORS, framework="numpy") as file:
        return list(file.keys())


def read_fit(folder: str | os.PathLike) -> Fit:
    """A fit with its tensors, on the CPU.

    Raises: as `read_facts`; ValueError naming the file for damaged or unknown tensors
    """
    from clipfit.io.checkpoints import load_safetensors

    folder = fit_folder(folder)
    facts = read_facts(folder)
    tensors = load_safetensors(folder / TENSORS)
    for name in tensors:
        is_delta = name.startswith(DELTA) and name.rpartition(".")[2] in FACTORS
        if not name.startswith(CLIP) and not is_delta and name != CLASS_FEATURES:
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
