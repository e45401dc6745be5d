"""OpenAI's CLIPs, and files of models of the same form.

Their layout is OpenAI's, which is that of open_clip's `CLIP` too, or that of transformers' `CLIPModel`. The
models run on the modules of clipfit/modules/. Importing this file imports no torch.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from clipfit.families.facts import AUTO, GELU, QUICK_GELU, Input, recall, remembered
from clipfit.io.digests import content_digest, list_digest
from clipfit.io.files import no_regular_file, read_json
from clipfit.io.names import unknown_name
from clipfit.published import OPENAI_INPUT_SIZES, OPENAI_SHA256

if TYPE_CHECKING:
    from torch import Tensor

    from clipfit.clip import CLIP

DEMO = "demo"
DEMO_FILE = Path(__file__).parents[1] / "demo.pt"
DEMO_INPUT_SIZE = 48
RANDOM_PREFIX = "random:"

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
WEIGHTS_IN_A_FOLDER = ("open_clip_model.safetensors", "model.safetensors", "pytorch_model.bin")
SHARDED = "model.safetensors.index.json"
HUGGING_FACE_CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
HUGGING_FACE_PICTURES = "preprocessor_config.json"
PILLOWS_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # numbers of resampling filters
HEADS = {"text_config": 8, "vision_config": 12}  # what transformers takes where a config says nothing


class OpenAI:
    """The family of all that is no other's: names of OpenAI, `random:<name>`, `demo`, files and folders."""

    def has(self, name: str) -> bool:
        return True

    def names(self) -> list[str]:
        return [DEMO, *OPENAI_INPUT_SIZES]

    def is_known(self, name: str) -> bool:
        """Whether `name` is a name, and no path."""
        return name == DEMO or architecture_name(name) in OPENAI_INPUT_SIZES

    def is_file(self, name: str) -> bool:
        return not self.is_known(name)

    def check(self, name: str) -> None:
        """Raises: ValueError if it is no known name and no file, naming the nearest valid one;
        FileNotFoundError if it is clearly meant as a path and nothing of use is there
        """
        if self.is_known(name):
            return
        if os.path.isdir(name):
            weights_file(name)
            return
        if os.path.isfile(name):
            return
        if looks_like_path(name) or os.path.exists(name):
            raise FileNotFoundError(
                f"MODEL.BACKBONE.NAME: {name!r} {no_regular_file(name)} (seen from {os.getcwd()}); "
                f"give an existing file or one of {', '.join(self.names())}"
            )
        names = self.names()
        if name.startswith(RANDOM_PREFIX):
            names = [RANDOM_PREFIX + known for known in OPENAI_INPUT_SIZES]
        raise ValueError(
            f"MODEL.BACKBONE.NAME: {unknown_name('backbone', name, names)}; a path to a file works too, and "
            "open_clip:<model>/<pretrained or file>"
        )

    def input(self, name: str, now: bool = True) -> Input | None:
        """How pictures are read. With `now` False None where that takes torch: an unknown file is read.

        Raises: ValueError if `name` is a file that holds no CLIP
        """
        if name == DEMO:
            return Input(DEMO_INPUT_SIZE)
        if self.is_known(name):
            return Input(OPENAI_INPUT_SIZES[architecture_name(name)])
        path = weights_file(name)
        stated = stated_preprocessing(path)
        key = " ".join([content_digest(path), *([list_digest([repr(stated)])] if stated else [])])
        if not now:
            return recall(key)
        return remembered(key, lambda: self._input_of_file(path, stated))

    @staticmethod
    def _input_of_file(path: str, stated: dict) -> Input:
        from clipfit.weights import architecture_of

        return input_of_open_clip(architecture_of(read(path), path)["image_resolution"], stated)

    def digest(self, name: str) -> str | None:
        """Of the file; None for random weights, which have none.

        OpenAI's files need not be there: whoever loads one verifies this digest.
        Raises: OSError if a file cannot be read
        """
        if name.startswith(RANDOM_PREFIX):
            return None
        return OPENAI_SHA256.get(name) or content_digest(DEMO_FILE if name == DEMO else weights_file(name))

    def fetch(self, name: str) -> bool:
        return False  # the digests of OpenAI's files are known, and loading one fetches it

    def slug(self, name: str) -> str:
        """ "ViT-B/16" -> "vit_b16", "random:RN50" -> "random_rn50"; of a file its stem.

        All files that other libraries write have the same few names: a .safetensors and a folder get 4 hex of
        the digest behind their stem.
        """
        if self.is_known(name):
            return re.sub(r"[-:@]", "_", name.lower().replace("/", "").removesuffix("px"))
        if name.endswith(TORCH_SUFFIXES):
            return Path(name).stem
        return slug_of_file(name, weights_file(name))

    def absolute(self, name: str) -> str:
        return name if self.is_known(name) else os.path.abspath(name)

    def load(self, name: str, half: bool, cache_dir=None, activation: str = AUTO) -> CLIP:
        from clipfit import architectures
        from clipfit.clip import CLIP
        from clipfit.weights import fetch_openai

        if name.startswith(RANDOM_PREFIX):
            chosen = QUICK_GELU if activation == AUTO else activation
            architecture = architecture_name(name)
            model = architectures.build_random(architecture, half=half, activation=chosen)
            return CLIP(model, activation=chosen)
        published = self.is_known(name)
        if name == DEMO:
            path = DEMO_FILE
        elif published:
            path = fetch_openai(name, cache_dir)
        else:
            path = weights_file(name)
        state = read(path)
        chosen = self._activation(path, activation, published)
        arguments = architectures.architecture_of(state, path)
        arguments |= heads_of(path, arguments)
        model = architectures.build(state, path, half, chosen, arguments)
        return CLIP(model, activation=chosen)

    @staticmethod
    def _activation(path: str | os.PathLike, asked: str, published: bool) -> str:
        """The activation of the MLPs: what was asked for, else what the file's config says.

        Files of tensors say nothing of it, and with the wrong one everything runs, a little worse.
        """
        stated = stated_activation(path)
        if asked != AUTO:
            if stated not in ("", asked):
                warnings.warn(f"MODEL.BACKBONE.ACTIVATION is {asked}, but the config of {path} says {stated}")
            return asked
        if stated:
            return stated
        from clipfit.weights import published_digests

        if not published and content_digest(path) not in published_digests():
            warnings.warn(
                f"{path} does not say which activation it was trained with; {QUICK_GELU} is taken, as in "
                "OpenAI's, DFN's and MetaCLIP's weights. Those of LAION and DataComp have gelu, and are a "
                f"little worse with the other one: set MODEL.BACKBONE.ACTIVATION {GELU} or {QUICK_GELU}"
            )
        return QUICK_GELU


OPENAI = OpenAI()


def architecture_name(name: str) -> str:
    """OpenAI's name inside `name`: "random:ViT-B/16" -> "ViT-B/16"; every other name is returned as it is."""
    return name.removeprefix(RANDOM_PREFIX)


def looks_like_path(name: str) -> bool:
    """Whether a name is clearly meant as a file or folder, there or not."""
    return name.startswith(("/", "./", "../", "~")) or name.endswith(SUFFIXES)


def slug_of_file(name: str, weights: str | os.PathLike) -> str:
    """Stem of a file, or name of a folder, and 4 hex of the digest of the weights."""
    stem = Path(name).name if os.path.isdir(name) else Path(name).stem
    return f"{stem}_{content_digest(weights)[:4]}"


# Files and what stands beside them ------------------------------------------------------------------


def weights_file(name: str | os.PathLike) -> str:
    """The file of weights that a path means: itself, or the one in a folder of transformers or open_clip.

    Raises: FileNotFoundError naming the files that a folder could hold
    """
    if not os.path.isdir(name):
        return os.fspath(name)
    for known in WEIGHTS_IN_A_FOLDER:
        if os.path.isfile(path := os.path.join(name, known)):
            return path
    split = (
        "; it holds the weights in several files, which are not read: save them as one"
        if os.path.isfile(os.path.join(name, SHARDED))
        else ""
    )
    raise FileNotFoundError(
        f"MODEL.BACKBONE.NAME: the folder {os.fspath(name)!r} holds none of "
        f"{', '.join(WEIGHTS_IN_A_FOLDER)}{split}"
    )


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """Tensors of a file in any of the layouts, under OpenAI's names.

    Raises: as clipfit.weights.read_checkpoint; ValueError that says what the file is if it is no such CLIP
    """
    from clipfit.families.layouts import to_openai
    from clipfit.weights import read_checkpoint

    return to_openai(read_checkpoint(path), path)


def hugging_face_config(path: str | os.PathLike) -> dict:
    """transformers' config beside a file of weights that has the name such files have; else {}."""
    config = {}
    if os.path.basename(path) in WEIGHTS_IN_A_FOLDER:
        config = _json_beside(path, HUGGING_FACE_CONFIG)
    return config if "text_config" in config or "vision_config" in config else {}


def open_clip_config(path: str | os.PathLike) -> dict:
    """open_clip's config beside a file of weights; else {}."""
    return _json_beside(path, OPEN_CLIP_CONFIG)


def stated_preprocessing(path: str | os.PathLike) -> dict:
    """How pictures are read, by a config beside the file and in open_clip's words; {} where there is none."""
    if stated := open_clip_config(path).get("preprocess_cfg"):
        return stated
    if not hugging_face_config(path):
        return {}
    config = _json_beside(path, HUGGING_FACE_PICTURES)
    stated = {"mean": config.get("image_mean"), "std": config.get("image_std")}
    if config.get("do_normalize") is False:
        stated = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    stated["interpolation"] = PILLOWS_FILTERS.get(config.get("resample"))
    stated["resize_mode"] = "squash" if config.get("do_center_crop") is False else None
    return {key: value for key, value in stated.items() if value is not None}


def _json_beside(path: str | os.PathLike, name: str) -> dict:
    """Raises: ValueError naming the file if it is damaged"""
    beside = Path(path).with_name(name)
    if not beside.is_file():
        return {}
    content = read_json(beside)
    if not isinstance(content, dict):
        raise ValueError(f"{beside} is no JSON object; get it again, or move it away")
    return content


def stated_activation(path: str | os.PathLike) -> str:
    """The activation that a config beside the file names; empty where there is none.

    Raises: ValueError naming the config for an activation that no CLIP of this form has
    """
    model = open_clip_config(path).get("model_cfg", {})
    if model:
        return QUICK_GELU if model.get("quick_gelu") else GELU
    config = hugging_face_config(path)
    if not config:
        return ""
    beside = Path(path).with_name(HUGGING_FACE_CONFIG)
    towers = [config.get(key) or {} for key in HEADS]
    found = {tower.get("hidden_act", QUICK_GELU) for tower in towers}  # quick_gelu is transformers' default
    if len(found) > 1 or not found <= {QUICK_GELU, GELU}:
        raise ValueError(
            f"{beside}: hidden_act is {' and '.join(sorted(map(str, found)))}; a CLIP of OpenAI's form has "
            f"{QUICK_GELU} or {GELU}, the same in both towers"
        )
    return found.pop()


def heads_of(path: str | os.PathLike, arguments: dict) -> dict:
    """Numbers of attention heads that a config beside the file names, as arguments of the model.

    Raises: ValueError naming the config if they do not divide the width
    """
    config = hugging_face_config(path)
    named = {}
    if config and isinstance(arguments["vision_layers"], int):
        for key, argument in (("text_config", "transformer"), ("vision_config", "vision")):
            tower = config.get(key) or {}
            named[f"{argument}_heads"] = int(tower.get("num_attention_heads", HEADS[key]))
    if vision := open_clip_config(path).get("model_cfg", {}).get("vision_cfg"):
        named["vision_heads"] = vision_heads(vision)
    for argument, heads in named.items():
        width = arguments[argument.replace("heads", "width")]
        is_vit = argument != "vision_heads" or isinstance(arguments["vision_layers"], int)
        if is_vit and (heads < 1 or width % heads):
            raise ValueError(f"the config beside {path} says {heads} heads for a width of {width}")
    return named


def vision_heads(vision_cfg: dict) -> int:
    """Heads of the image tower that an open_clip config describes; of a ResNet those of its last pool."""
    width, of_head = int(vision_cfg.get("width", 768)), int(vision_cfg.get("head_width", 64))
    return width * (1 if isinstance(vision_cfg.get("layers", 12), int) else 32) // of_head


def input_of_open_clip(size: int, stated: dict) -> Input:
    """How pictures are read by open_clip's `preprocess_cfg`; what it does not say is as for OpenAI's CLIPs.

    Raises: ValueError for a way of resizing that there is not here
    """
    given = {key: stated[key] for key in ("interpolation",) if stated.get(key) not in (None, "random")}
    if (resize := stated.get("resize_mode") or "shortest") not in ("shortest", "squash"):
        raise ValueError(f"resize_mode {resize!r} of the backbone's config is not provided; choose squash")
    for key in ("mean", "std"):
        if stated.get(key) is not None:
            value = stated[key]
            given[key] = tuple(value) if isinstance(value, (list, tuple)) else (float(value),) * 3
    return Input(size=size, resize=resize, **given)
