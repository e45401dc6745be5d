"""What every export is made of, read from a fit and checked.

Shapes: K classes, D embedding width.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipfit.clip import CLIP
from clipfit.export.ecosystems import ECOSYSTEMS
from clipfit.fit.files import CLASS_FEATURES, fit_folder, read_facts, read_fit
from clipfit.fit.model import FittedModel, load
from clipfit.fit.names import openai_name, parameters_by_name
from clipfit.loading import load_clip
from clipfit.low_rank import LowRankChange
from clipfit.weights import architecture_of

OTHER_FAMILY = "open_clip:"  # of a backbone's name: its tensors have no place in OpenAI's layout
NO_PLACE_FOR_ACTIVATION = ("openai", "clip_benchmark")
SAME = 1e-2  # largest difference of a class feature; half precision in training explains less than that


@dataclass(frozen=True)
class MergedFit:
    """A fit, merged into its backbone."""

    path: Path  # of the fit
    facts: dict[str, Any]
    clip: CLIP  # with the tensors of the fit
    replaced: dict[str, Tensor]  # of the fit, under OpenAI's names, low-rank changes added
    deltas: list[LowRankChange]  # what was added
    class_features: Tensor  # (K, D) unit rows
    options: dict[str, Any]  # of the command line, for single ecosystems

    @property
    def labels(self) -> list[str]:
        """The names of the classes as prompts have them: without underscores."""
        return [" ".join(name.replace("_", " ").splitlines()) for name in self.facts["classes"]]

    @property
    def templates(self) -> list[str]:
        """Of the prompts; several for an ensemble, whose unit features are averaged."""
        template = self.facts["template"]
        return [template] if isinstance(template, str) else list(template or [])

    @property
    def backbone(self) -> str:
        return self.facts["backbone"]["name"]

    def state(self) -> dict[str, Tensor]:
        """The merged CLIP: OpenAI's name -> float32 tensor."""
        return _state_of(self.clip, self.facts["logit_scale"])

    def untouched(self) -> dict[str, Tensor]:
        """The backbone as it was before training: OpenAI's name -> float32 tensor."""
        return _state_of(load_clip(self.options["backbone"] or self.backbone))

    def architecture(self) -> dict[str, Any]:
        """The arguments of clipfit.modules.OpenAIModel."""
        return architecture_of(self.state(), self.path)


def read_merged(
    folder: str | os.PathLike, to: str, backbone: str = "", options: dict[str, Any] | None = None
) -> MergedFit:
    """The fit in a folder, as the ecosystem `to` can hold it.

    Raises: as clipfit.fit.model.load; ValueError with the reason and the cure if the ecosystem has no place
            for what the fit is
    """
    place = fit_folder(folder)
    facts = read_facts(place)
    _check(facts, to, place)
    model = load(place, backbone=backbone)
    if ECOSYSTEMS[to].names_classes:
        _check_words(model, place, to)
    fit, merged = read_fit(place), parameters_by_name(model.clip)
    changed = {*fit.replaced, *(change.name for change in fit.deltas)}
    return MergedFit(
        path=place,
        facts=facts,
        clip=model.clip,
        replaced={name: merged[name].detach() for name in sorted(changed)},
        deltas=fit.deltas,
        class_features=model.class_features,
        options={"backbone": backbone, **(options or {})},
    )


def _check(facts: dict[str, Any], to: str, place: Path) -> None:
    method, name = facts["method"], facts["backbone"]["name"]
    if facts.get("needs_trainer"):
        raise ValueError(
            f"{place} is of {method}, whose result is more than CLIP's tensors and class features, so no "
            f"other library can hold it; predict with: clipfit predict {place.parent} PICTURES"
        )
    if not ECOSYSTEMS[to].names_classes:
        return
    if name.startswith(OTHER_FAMILY):
        raise ValueError(
            f"{place} has the backbone {name}, whose tensors have no place in OpenAI's layout, which "
            f"--to {to} writes; --to onnx and --to torch hold any image tower and the class features"
        )
    activation = facts["backbone"].get("activation")
    if to in NO_PLACE_FOR_ACTIVATION and activation != "quick_gelu":
        raise ValueError(
            f"{place} has a backbone with {activation}, and a file with OpenAI's names means quick_gelu; "
            "--to open_clip and --to transformers name the activation"
        )
    if not facts["open_vocabulary"] or facts["features"] != "text":
        raise ValueError(
            f"{place} is of {method}, whose class features are not those of words in a template, and "
            f"--to {to} names classes by its text tower only; --to onnx and --to torch hold the class "
            "features themselves"
        )


def _check_words(model: FittedModel, place: Path, to: str) -> None:
    again = model.with_classes(model.classes).class_features
    difference = (again - model.class_features).abs().max().item()
    if not difference < SAME:
        raise ValueError(
            f"{place}: the text tower gives class features that differ by {difference:.2g} from those of the "
            f"fit, so --to {to}, which has the text tower only, would predict something else; --to onnx and "
            f"--to torch hold {CLASS_FEATURES} themselves"
        )


def _state_of(clip: CLIP, logit_scale: float | None = None) -> dict[str, Tensor]:
    state = {openai_name(name): tensor.detach() for name, tensor in clip.state_dict().items()}
    state = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
    }
    if logit_scale is not None and not math.isclose(
        state["logit_scale"].exp().item(), logit_scale, rel_tol=1e-6
    ):
        state["logit_scale"] = torch.tensor(math.log(logit_scale))
    return state
