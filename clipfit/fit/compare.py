"""Fits as plain values: how far training moved each tensor, and the average of several fits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch

from clipfit.fit.files import CLASS_FEATURES, CLIP, Fit, fit_folder, read_fit, write_fit
from clipfit.fit.model import backbone_of, model_of
from clipfit.fit.names import parameters_by_name

SAME = ("method", "backbone", "classes", "template", "input")  # in fits that are averaged


class Change(NamedTuple):
    """How far one tensor is from the backbone's."""

    name: str  # OpenAI's
    mean_square: float  # mean of (value - value before)^2, as Figure 3 of the CLIPFit paper has it per layer
    largest: float  # largest |value - value before|


def changes(folder: str | os.PathLike, backbone: str = "") -> list[Change]:
    """Every replaced or changed tensor, what changed most first.

    Raises: as clipfit.fit.model.load; ValueError for a fit that replaces nothing
    """
    place = fit_folder(folder)
    fit = read_fit(place)
    if not fit.replaced and not fit.deltas:
        raise ValueError(f"{place} of {fit.facts['method']} changes no tensor of CLIP")
    before = parameters_by_name(backbone_of(fit, place, backbone=backbone))
    found = []
    for name, tensor in fit.changed(before).items():
        difference = (tensor.float() - before[name].detach().float()).abs()
        found.append(Change(name, difference.square().mean().item(), difference.max().item()))
    return sorted(found, key=lambda change: -change.mean_square)


def average(folders: list[str], target: str | os.PathLike, backbone: str = "") -> None:
    """Write the fit whose tensors are the mean of those of several fits; class features are made from them.

    Low-rank changes are merged before: the mean of products is no product of means.
    Raises: ValueError for fits that are not of one method, backbone and set of classes, and for those whose
            weights are not all there is (learned prompts, trained heads)
    """
    places = [fit_folder(folder) for folder in folders]
    fits = [read_fit(place) for place in places]
    first = fits[0]
    for place, fit in zip(places, fits, strict=True):
        whole = (fit.replaced or fit.deltas) and not fit.trained_rows
        if not fit.facts["open_vocabulary"] or not whole:
            raise ValueError(
                f"{place} is of {fit.facts['method']}, which is more than changed tensors of CLIP, so an "
                "average of such fits is no model; average fits of CLIPFit and its like"
            )
        for key in SAME:
            if fit.facts[key] != first.facts[key]:
                raise ValueError(
                    f"{places[0]} and {place} differ in {key}: {first.facts[key]!r} and {fit.facts[key]!r}"
                )
        if _changed_names(fit) != _changed_names(first):
            raise ValueError(
                f"{places[0]} and {place} train other tensors; only the same ones have an average"
            )
    before = parameters_by_name(backbone_of(first, places[0], backbone=backbone)) if first.deltas else {}
    merged = [fit.changed(before) for fit in fits]
    mean = {CLIP + name: torch.stack([one[name].float() for one in merged]).mean(dim=0) for name in merged[0]}
    facts = {
        key: value for key, value in first.facts.items() if key not in ("accuracy", "identity", "format")
    }
    facts["averaged"] = [str(place) for place in places]
    averaged = Fit(facts, {**mean, CLASS_FEATURES: first.tensors[CLASS_FEATURES]})
    model = model_of(averaged, Path(target), backbone=backbone).with_classes(first.classes)
    write_fit(target, Fit(facts, {**mean, CLASS_FEATURES: model.class_features}))


def _changed_names(fit: Fit) -> set[str]:
    """The tensors of CLIP that a fit replaces or changes."""
    return {*fit.replaced, *(change.name for change in fit.deltas)}
