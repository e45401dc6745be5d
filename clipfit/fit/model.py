"""A fit in memory: which of its classes a picture shows.

model = clipfit.load("output/.../fit")
model.predict(["a.jpg", "b.jpg"])[0].label
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from clipfit import backbones
from clipfit.clip import CLIP, normalize
from clipfit.families.facts import AUTO
from clipfit.fit.files import CLASS_FEATURES, Fit, features_of, fit_folder, read_fit
from clipfit.fit.names import parameters_by_name
from clipfit.io.pictures import evaluation_transform, read_image
from clipfit.loading import load_clip
from clipfit.prompts import fill, tokenize_for

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | os.PathLike | Image

BATCH = 32  # pictures encoded at a time
DECODERS = 4  # threads that read files; most of the work leaves Python's lock


class Classified(NamedTuple):
    """What a model says of one picture: classes by their probability, the most probable first."""

    picture: str  # its path; empty for an image in memory
    classes: list[str]
    p: list[float]

    @property
    def label(self) -> str:
        return self.classes[0]

    @property
    def score(self) -> float:
        return self.p[0]


class Unreadable(NamedTuple):
    """A file that is no picture which can be read."""

    picture: str
    reason: str


class Predictor:
    """Pictures in, probabilities of classes out, any number of them in constant memory.

    A subclass says what the probabilities of pixels (B, 3, H, W) are. `classes` are the names by id.

    Args: input, as fit.json has it: size, mean, std, interpolation, upright
    """

    def __init__(self, classes: Sequence[str], input: dict):
        self.classes = list(classes)
        self._upright = bool(input.get("upright"))
        self._transform = evaluation_transform(
            *(input["size"], input["interpolation"], input.get("mean"), input.get("std")),
            resize=input.get("resize", "shortest"),
        )

    def probabilities(self, pictures: Sequence[Picture] | Tensor) -> Tensor:
        """Probabilities (B, K) of the classes for paths, PIL images, or pixels made ready."""
        raise NotImplementedError

    def pixels(self, pictures: Sequence[Picture] | Tensor) -> Tensor:
        """(B, 3, H, W) as the image tower reads them.

        Raises: FileNotFoundError, OSError naming a file that cannot be read
        """
        if torch.is_tensor(pictures):
            return pictures
        return torch.stack([self._pixels(picture) for picture in _listed(pictures)])

    def predict(self, pictures: Sequence[Picture], top: int = 5) -> list[Classified]:
        """The `top` most probable classes of each picture, in their order. Raises: as `pixels`"""
        found = []
        for answer in self.predict_each(_listed(pictures), top):
            if isinstance(answer, Unreadable):
                raise OSError(answer.reason)
            found.append(answer)
        return found

    def predict_each(
        self, pictures: Iterable[Picture], top: int = 5, batch_size: int = BATCH
    ) -> Iterator[Classified | Unreadable]:
        """As `predict`, one by one and in constant memory; what cannot be read is said in its place."""
        pictures = iter(pictures)
        with ThreadPoolExecutor(DECODERS) as decoders:
            coming = list(islice(pictures, batch_size))
            waiting = [decoders.submit(self._read, picture) for picture in coming]
            while waiting:
                ahead = [decoders.submit(self._read, picture) for picture in islice(pictures, batch_size)]
                yield from self._answers([future.result() for future in waiting], top)
                waiting = ahead

    def _pixels(self, picture: Picture) -> Tensor:
        is_file = isinstance(picture, (str, os.PathLike))
        return self._transform(read_image(picture, self._upright) if is_file else picture.convert("RGB"))

    def _read(self, picture: Picture) -> tuple[str, Tensor] | Unreadable:
        name = os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else ""
        try:
            return name, self._pixels(picture)
        except OSError as error:
            return Unreadable(name, str(error))

    def _answers(self, read: list[tuple[str, Tensor] | Unreadable], top: int):
        good = [one for one in read if not isinstance(one, Unreadable)]
        rows = iter(())
        if good:
            p = self.probabilities(torch.stack([pixels for _, pixels in good]))
            found = p.sort(dim=1, descending=True, stable=True)
            rows = zip(found.indices[:, :top].tolist(), found.values[:, :top].tolist(), strict=True)
        for one in read:
            if isinstance(one, Unreadable):
                yield one
            else:
                ids, values = next(rows)
                yield Classified(one[0], [self.classes[id] for id in ids], values)


class FittedModel(Predictor):
    """A CLIP with the tensors of a fit, and the features of its classes.

    `classes` are their names, `facts` what fit.json says.
    """

    def __init__(self, clip: CLIP, fit: Fit, source: str):
        super().__init__(fit.classes, fit.facts["input"])
        self._clip = clip
        self._fit = fit
        self._source = source
        self._w = fit.tensors[CLASS_FEATURES].to(clip.device, torch.float32)  # (K, D)

    @property
    def facts(self) -> dict:
        return dict(self._fit.facts)

    @property
    def clip(self) -> CLIP:
        """The backbone with the tensors of the fit."""
        return self._clip

    @property
    def class_features(self) -> Tensor:
        """Unit features (K, D) of the classes."""
        return self._w

    def encode_image(self, pictures: Sequence[Picture] | Tensor) -> Tensor:
        """Unit image features (B, D) in float32, of paths, PIL images, or pixels (B, 3, H, W) made ready.

        Raises: FileNotFoundError, OSError naming a file that cannot be read
        """
        pixels = self.pixels(pictures).to(self._clip.device)
        with torch.inference_mode():
            return normalize(self._clip.encode_image(pixels).float())

    def probabilities(self, pictures: Sequence[Picture] | Tensor) -> Tensor:
        x = self.encode_image(pictures)
        return (self._fit.facts["logit_scale"] * x @ self._w.T).softmax(dim=-1)

    def with_classes(self, classes: Sequence[str], template: str | None = None) -> FittedModel:
        """The same towers with other classes, by their names: what base-to-new measures.

        A class whose features were trained keeps them, whatever the template.
        Args:   template, such as "a photo of a {}."; default: that of the fit
        Raises: ValueError for a fit whose prompts were learned, for no class, for a prompt over 77 tokens
        """
        facts = self._fit.facts
        if not facts["open_vocabulary"]:
            raise ValueError(
                f"{self._source} is of {facts['method']}, whose classes are more than words in a prompt: it "
                "knows its own only; train CLIPFit, or another method whose fit is open"
            )
        if isinstance(classes, str):
            raise ValueError(f"classes is the text {classes!r}; give a list of names")
        chosen = [template] if template else facts["template"]
        templates = [chosen] if isinstance(chosen, str) else chosen
        features = normalize(
            sum(self._encode_text(text, list(classes)) for text in templates) / len(templates)
        )
        own = self._fit.trained_rows
        known = [number for number, name in enumerate(classes) if name in own]
        features[known] = self._w[[own[classes[number]] for number in known]]
        which = {"seen": known, "features": features_of(known, classes)}
        fit = replace(
            self._fit,
            facts={**facts, "classes": list(classes), "template": chosen, **which},
            tensors={**self._fit.tensors, CLASS_FEATURES: features},
        )
        return FittedModel(self._clip, fit, self._source)

    def _encode_text(self, template: str, classes: list[str]) -> Tensor:
        tokens = tokenize_for(self._clip, fill(template, classes), classes)
        with torch.inference_mode():
            return normalize(self._clip.text_encoder(self._clip.embed_prompts(tokens)).float())


def load(
    folder: str | os.PathLike, device: torch.device | str = "cpu", backbone: str | os.PathLike = ""
) -> FittedModel:
    """A fit, or the fit in the folder of a run, ready to predict.

    Args:   backbone, where a backbone that is a file lies now; default: where it lay in training
    Raises: FileNotFoundError, also for a backbone that is not there; ValueError naming the file for damage,
            a higher format, another backbone, and for a model that needs its trainer
    """
    place = fit_folder(folder)
    return model_of(read_fit(place), place, device, backbone)


def model_of(
    fit: Fit, place: Path, device: torch.device | str = "cpu", backbone: str | os.PathLike = ""
) -> FittedModel:
    """As `load`, of a fit that was read, or is about to be written, at a place."""
    if fit.needs_trainer:
        raise ValueError(
            f"{place} is of {fit.facts['method']}, whose result is more than CLIP's tensors and class "
            f"features: predict from the clone that trained it, by: clipfit predict {place.parent} PICTURES"
        )
    clip = backbone_of(fit, place, device, backbone)
    _replace_tensors(clip, fit, place)
    return FittedModel(clip, fit, str(place))


def backbone_of(
    fit: Fit, place: Path, device: torch.device | str = "cpu", backbone: str | os.PathLike = ""
) -> CLIP:
    """The CLIP that a fit was trained on, as it was before. Raises: as `load` for a backbone"""
    name, expected = str(backbone) or fit.facts["backbone"]["name"], fit.facts["backbone"].get("sha256")
    try:
        backbones.fetch(name)
        digest = backbones.weights_digest(name)
    except OSError as error:
        raise FileNotFoundError(
            f"{place} needs the backbone {name}, which is not there; say where it lies now (--backbone, "
            "backbone=), or put it back"
        ) from error
    if digest != expected:
        raise ValueError(
            f"{place} was trained on a backbone with SHA256 {expected}; that of {name} is {digest}: it is "
            "another file"
        )
    return load_clip(name, device=device, activation=activation_of(fit.facts)).requires_grad_(False)


def activation_of(facts: dict) -> str:
    """The activation of the backbone that a fit was trained on."""
    return facts["backbone"].get("activation") or AUTO


def _replace_tensors(clip: CLIP, fit: Fit, place: Path) -> None:
    parameters = parameters_by_name(clip)
    try:
        changed = fit.changed(parameters)
    except ValueError as error:
        raise ValueError(f"{place}: {error}; another backbone?") from error
    for name, tensor in changed.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            wanted = tuple(parameters[name].shape) if name in parameters else "none of that name"
            raise ValueError(
                f"{place}: {name} {tuple(tensor.shape)} does not fit the backbone, which has {wanted}; "
                "another backbone?"
            )
        with torch.no_grad():
            parameters[name].copy_(tensor)


def _listed(pictures) -> Sequence:
    if isinstance(pictures, (str, os.PathLike)):
        raise TypeError(f"pictures is one path, {str(pictures)!r}; give a list of them")
    return pictures
