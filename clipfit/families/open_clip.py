"""Models of open_clip: `open_clip:<model>/<source>`; the package is imported only where one is named.

<source>   a tag of open_clip's, whose weights are downloaded as safetensors; a file or a folder, as open_clip
           writes them; or `random`, seeded random weights

A file is read by our reader and its tensors are given to the model: open_clip never sees a path. Where the
config describes a CLIP of OpenAI's form, the model is ours (clipfit/modules/), with all that is fast and all
methods; else both towers are open_clip's own. Importing this file imports neither open_clip nor torch.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from clipfit.families.facts import AUTO, GELU, QUICK_GELU, Input, recall, remembered
from clipfit.families.openai import (
    OPEN_CLIP_CONFIG,
    SUFFIXES,
    input_of_open_clip,
    open_clip_config,
    slug_of_file,
    vision_heads,
    weights_file,
)
from clipfit.io.digests import content_digest
from clipfit.io.files import read_json
from clipfit.io.names import unknown_name
from clipfit.tokenizer import VOCABULARY_SIZE

if TYPE_CHECKING:
    from clipfit.clip import CLIP

PREFIX = "open_clip:"
RANDOM = "random"
RANDOM_SEED = 0
INSTALL = "pip install -r requirements-openclip.txt, or: pip install open_clip_torch timm transformers"
DEFAULT_WEIGHTS = "open_clip_model.safetensors"

# A model of OpenAI's form is described by these keys alone, with these values where they are given.
OF_OPENAI = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"image_size", "layers", "width", "head_width", "patch_size"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}


class OpenClip:
    """The family of `open_clip:<model>/<tag, file, folder or random>`."""

    def has(self, name: str) -> bool:
        return name.startswith(PREFIX)

    def is_file(self, name: str) -> bool:
        _, source = split(name)
        expanded = os.path.expanduser(source)
        return source.endswith(SUFFIXES) or "/" in source or (source != RANDOM and os.path.exists(expanded))

    def check(self, name: str) -> None:
        """Raises: ValueError for a missing package, a name without both parts, an unknown model;
        FileNotFoundError for a file that is not there
        """
        model, source = split(name)
        if not model or not source:
            raise ValueError(
                f"MODEL.BACKBONE.NAME: {name!r} needs a model and its weights, as in "
                f"{PREFIX}ViT-B-16-SigLIP/webli, or {PREFIX}ViT-B-16-SigLIP/weights.safetensors"
            )
        if find_spec("open_clip") is None:
            raise ValueError(f"MODEL.BACKBONE.NAME: {name!r} needs the package open_clip ({INSTALL})")
        if self.is_file(name) and not os.path.isfile(path := self._weights(name)):
            raise FileNotFoundError(
                f"MODEL.BACKBONE.NAME: {name!r}: there is no file {path!r} (seen from {os.getcwd()})"
            )
        self._config(name)

    def input(self, name: str, now: bool = True) -> Input | None:
        """How pictures are read. With `now` False None where that takes torch, which open_clip imports.

        Raises: ValueError for a model that reads pictures which are not square, and for an unknown tag
        """
        model, source = split(name)
        folder = self._folder_config(name)
        if "preprocess_cfg" in folder:
            return input_of_open_clip(self._size(name), folder["preprocess_cfg"])
        tag = "" if self.is_file(name) or source == RANDOM else source
        key = f"open_clip {metadata.version('open_clip_torch')} {model}/{tag}"
        if not now:
            return recall(key)
        return remembered(key, lambda: self._input_of_tags(name, tag))

    def digest(self, name: str) -> str | None:
        """Of the file; None for random weights.

        Raises: FileNotFoundError if a tag's weights were not downloaded yet, or nobody knows here which they
                are; OSError if a file cannot be read
        """
        model, source = split(name)
        if source == RANDOM:
            return None
        if self.is_file(name):
            return content_digest(self._weights(name))
        found = None
        if "open_clip" in sys.modules:  # else the list of tags is not worth the seconds that importing takes
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(*self._place(model, source))
        if not isinstance(found, str):
            raise FileNotFoundError(f"the weights {name} were not looked up yet: loading the model does that")
        return content_digest(found)

    def fetch(self, name: str) -> bool:
        model, source = split(name)
        if source == RANDOM or self.is_file(name):
            return False
        self._downloaded(model, source)
        return True

    def slug(self, name: str) -> str:
        """ "open_clip:ViT-B-32/openai" -> "open_clip_vit_b_32_openai"; of a file its stem and 4 hex."""
        model, source = split(name)
        if self.is_file(name):
            return slug_of_file(os.path.expanduser(source), self._weights(name))
        return re.sub(r"[^a-z0-9]+", "_", f"open_clip_{model}_{source}".lower()).strip("_")

    def absolute(self, name: str) -> str:
        model, source = split(name)
        if not self.is_file(name):
            return name
        return f"{PREFIX}{model}/{os.path.abspath(os.path.expanduser(source))}"

    def load(self, name: str, half: bool, cache_dir=None, activation: str = AUTO) -> CLIP:
        """Raises: ValueError for half precision of a model that is not of OpenAI's form, for tensors that do
        not fit; ConnectionError if a tag's weights cannot be fetched
        """
        from clipfit import architectures
        from clipfit.clip import CLIP
        from clipfit.families.layouts import to_openai
        from clipfit.weights import read_checkpoint

        model, source = split(name)
        config = self._config(name)
        chosen = self._activation(name, config, activation)
        path, state = "", None
        if source != RANDOM:
            path = self._weights(name) if self.is_file(name) else self._downloaded(model, source)
            state = read_checkpoint(path)
        if arguments := own_arguments(config):
            if state is None:
                built = architectures.random_model(half, activation=chosen, **arguments)
            else:
                # As CustomTextCLIP, open_clip puts "text." before the names of the text tower.
                state = {key.removeprefix("text."): tensor for key, tensor in state.items()}
                built = architectures.build(to_openai(state, path), path, half, chosen, arguments)
            return CLIP(built, context_length=arguments["context_length"], activation=chosen)
        if half:
            raise ValueError(
                f"PREC fp16 is OpenAI's layout of half precision, and {name} is not of that form: choose "
                "amp or fp32"
            )
        return self._foreign(name, config, chosen, state, path)

    # Configs ----------------------------------------------------------------------------------------

    def _weights(self, name: str) -> str:
        return weights_file(os.path.expanduser(split(name)[1]))

    def _folder_config(self, name: str) -> dict:
        """What open_clip_config.json beside a file says; else {}."""
        return open_clip_config(self._weights(name)) if self.is_file(name) else {}

    def _config(self, name: str) -> dict:
        """The model's config: that beside its file, else open_clip's own of this name.

        Raises: ValueError for an unknown model, naming the nearest
        """
        model, _ = split(name)
        return self._folder_config(name).get("model_cfg") or model_config(model)

    def _size(self, name: str) -> int:
        size = self._config(name)["vision_cfg"].get("image_size", 224)
        sides = set(size) if isinstance(size, (list, tuple)) else {size}
        if len(sides) > 1:
            raise ValueError(f"{name} reads pictures of {size}, and only square ones are read here")
        return int(sides.pop())

    def _input_of_tags(self, name: str, tag: str) -> Input:
        """By the tag; for a file or random weights what all tags of the model agree on."""
        model, _ = split(name)
        size = self._size(name)
        if tag:
            return input_of_open_clip(size, tag_config(model, tag))
        stated = {input_of_open_clip(size, tag_config(model, known)) for known in tags_of(model)}
        if len(stated) == 1:
            return stated.pop()
        if stated:
            warnings.warn(
                f"the weights of {model} that open_clip lists read pictures in different ways, and a file "
                "does not say which one it takes: OpenAI's is taken. Set INPUT.PIXEL_MEAN, INPUT.PIXEL_STD, "
                f"INPUT.INTERPOLATION and INPUT.RESIZE, or put {OPEN_CLIP_CONFIG} beside the file"
            )
        return Input(size)

    def _activation(self, name: str, config: dict, asked: str) -> str:
        """What was asked for, else what the tag was trained with, else what the model's config says."""
        if asked != AUTO:
            return asked
        model, source = split(name)
        quick = config.get("quick_gelu", False)
        if source != RANDOM and not self.is_file(name):
            quick = tag_config(model, source).get("quick_gelu", quick)
        return QUICK_GELU if quick else GELU

    # Weights ----------------------------------------------------------------------------------------

    @staticmethod
    def _place(model: str, tag: str) -> tuple[str, str]:
        """Repository and file name of a tag's safetensors on Hugging Face's hub.

        Raises: ConnectionError for a tag whose weights are not there
        """
        place = tag_config(model, tag).get("hf_hub", "")
        repository, _, file = place.rpartition("/")
        if not repository:
            raise ConnectionError(
                f"open_clip names no safetensors for {PREFIX}{model}/{tag}, and other files are not fetched. "
                f"Get {tag_config(model, tag).get('url') or 'its file'} by hand, and give "
                f"{PREFIX}{model}/<that file>"
            )
        return repository, f"{Path(file).stem}.safetensors" if file else DEFAULT_WEIGHTS

    def _downloaded(self, model: str, tag: str) -> str:
        """Path of a tag's weights, fetched if they are not in Hugging Face's cache."""
        repository, file = self._place(model, tag)
        try:
            from huggingface_hub import hf_hub_download

            return hf_hub_download(repo_id=repository, filename=file)
        except Exception as error:  # of the network, the hub, the disk
            raise ConnectionError(
                f"could not get {file} of {repository} ({' '.join(str(error).split())[:200]}). Fetch that "
                f"file from Hugging Face by hand, and give {PREFIX}{model}/<path>/{file}; files of other "
                "formats are not downloaded, but one that you have is read"
            ) from error

    # Models whose towers are open_clip's ------------------------------------------------------------

    def _foreign(self, name: str, config: dict, activation: str, state: dict | None, path: str) -> CLIP:
        from clipfit.clip import CLIP
        from clipfit.text import TextEncoder
        from clipfit.whole_text import WholeTextEncoder

        folder = os.path.dirname(self._weights(name)) if self.is_file(name) else ""
        text_config = config["text_cfg"]
        if (hub := text_config.get("hf_model_name")) and os.path.isfile(os.path.join(folder, "config.json")):
            text_config = {**text_config, "hf_model_name": folder, "hf_tokenizer_name": folder}
        try:
            model = build_foreign({**config, "text_cfg": text_config}, activation)
        except OSError as error:
            raise ConnectionError(
                f"the config of the text tower of {name} cannot be loaded "
                f"({' '.join(str(error).split())[:200]}). Put config.json and the tokenizer's files of {hub} "
                f"on Hugging Face into the folder of the weights, and give {PREFIX}{split(name)[0]}/<folder>"
            ) from error
        if state is not None:
            fill(model, state, path, split(name)[0])
        context_length = text_config.get("context_length", 77)
        tokenizer = None
        if not reads_clip_tokens(split(name)[0], text_config):
            tokenizer = Tokenizer(split(name)[0], text_config, context_length, folder)
        text, encoder, embedding = model.text, None, None
        if tokenizer is None and is_plain(text):
            encoder = TextEncoder(
                text.transformer, text.positional_embedding, text.ln_final, text.text_projection
            )
            embedding = text.token_embedding
        return CLIP(
            model,
            encoder or WholeTextEncoder(text),
            embedding,
            tokenizer,
            context_length,
            activation,
        )


OPEN_CLIP = OpenClip()


def split(name: str) -> tuple[str, str]:
    """ "open_clip:ViT-B-16/openai" -> ("ViT-B-16", "openai"); of a path the source keeps its slashes."""
    model, _, source = name.removeprefix(PREFIX).partition("/")
    return model, source


# open_clip's lists ----------------------------------------------------------------------------------


@cache
def _config_folder() -> Path:
    return Path(find_spec("open_clip").submodule_search_locations[0]) / "model_configs"


def model_config(model: str) -> dict:
    """open_clip's config of a model by its name; a plugin may have added it.

    Raises: ValueError for an unknown model, naming the nearest
    """
    path = _config_folder() / f"{model}.json"
    if path.is_file():
        return read_json(path)
    if "open_clip" in sys.modules and (config := sys.modules["open_clip"].get_model_config(model)):
        return config
    known = sorted(path.stem for path in _config_folder().glob("*.json"))
    raise ValueError(f"MODEL.BACKBONE.NAME: {unknown_name('model of open_clip', model, known)}")


def tags_of(model: str) -> list[str]:
    import open_clip

    return open_clip.list_pretrained_tags_by_model(model)


def tag_config(model: str, tag: str) -> dict:
    """What open_clip says of a tag. Raises: ValueError for an unknown one, naming those of the model"""
    import open_clip

    found = open_clip.get_pretrained_cfg(model, tag)
    if not found:
        raise ValueError(
            f"MODEL.BACKBONE.NAME: {unknown_name(f'tag of {model}', tag, tags_of(model))}; a file works too"
        )
    return found


# Which models are of OpenAI's form ------------------------------------------------------------------


def own_arguments(config: dict) -> dict | None:
    """Arguments of `OpenAIModel` for a model of OpenAI's form; None for every other."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    parts = {"": config, "vision_cfg": vision, "text_cfg": text}
    if any(set(part) - OF_OPENAI[key] for key, part in parts.items()):
        return None
    size, layers = vision.get("image_size", 224), vision.get("layers", 12)
    if not isinstance(size, int) or text.get("vocab_size", VOCABULARY_SIZE) != VOCABULARY_SIZE:
        return None
    is_vit = isinstance(layers, int)
    return {
        "embed_dim": config["embed_dim"],
        "image_resolution": size,
        "vision_layers": layers if is_vit else tuple(layers),
        "vision_width": vision.get("width", 768),
        "vision_patch_size": vision.get("patch_size", 16) if is_vit else None,
        "vision_heads": vision_heads(vision),
        "context_length": text.get("context_length", 77),
        "vocab_size": VOCABULARY_SIZE,
        "transformer_width": text.get("width", 512),
        "transformer_heads": text.get("heads", 8),
        "transformer_layers": text.get("layers", 12),
    }


def reads_clip_tokens(model: str, text_config: dict) -> bool:
    """Whether the tokenizer is CLIP's own, whatever the context length."""
    other = {"hf_tokenizer_name", "hf_model_name", "tokenizer_kwargs", "tokenizer_mode"}
    known_by_name = "siglip" in model.lower()  # as open_clip chooses it
    return not known_by_name and not any(text_config.get(key) for key in other)


def is_plain(text) -> bool:
    """Whether a text tower is causal, read at the end-of-text token, and of the blocks that ours are."""
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer
    from torch import nn

    return (
        type(text) is TextTransformer
        and text.attn_mask is not None
        and text.pool_type == "argmax"
        and text.cls_emb is None
        and isinstance(text.text_projection, nn.Parameter)
        and all(
            type(block) is ResidualAttentionBlock
            and type(block.attn) is nn.MultiheadAttention
            and isinstance(block.ls_1, nn.Identity)
            and isinstance(block.ls_2, nn.Identity)
            and not hasattr(block, "ln_1_kv")
            for block in text.transformer.resblocks
        )
    )


# Building and filling -------------------------------------------------------------------------------


def build_foreign(config: dict, activation: str, device: str = "cpu"):
    """open_clip's model of a config with seeded random weights, its text tower as a module of its own.

    The global random state is left alone.
    """
    import open_clip
    import torch

    config = {key: value for key, value in config.items() if key != "custom_text"}
    config["quick_gelu"] = activation == QUICK_GELU
    config["vision_cfg"] = {**config["vision_cfg"], "timm_model_pretrained": False}
    config["text_cfg"] = {**config["text_cfg"], "hf_model_pretrained": False}
    if not config["vision_cfg"].get("timm_model_name"):
        del config["vision_cfg"]["timm_model_pretrained"]
    if not config["text_cfg"].get("hf_model_name"):
        del config["text_cfg"]["hf_model_pretrained"]
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(RANDOM_SEED)
        model = kind(**config)
    for tower in (model.visual, model.text):
        if hasattr(tower, "output_tokens"):
            tower.output_tokens = False  # features alone
    if model.logit_bias is not None:
        model.logit_bias.requires_grad_(False)  # the same for all classes: it changes no softmax
    return model.eval()


def fill(model, state: dict, path: str, name: str) -> None:
    """Put the tensors of a file into open_clip's model, all of them and no others.

    Raises: ValueError naming the file if names, shapes or values do not fit
    """
    import torch
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    from clipfit.weights import check_state

    state = convert_state_dict(model, state)
    if "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    state.pop("text.transformer.embeddings.position_ids", None)  # of earlier versions of transformers
    expected = model.state_dict()
    for scalar in ("logit_scale", "logit_bias"):
        if scalar in state and scalar in expected and state[scalar].numel() == 1:
            state[scalar] = state[scalar].reshape(expected[scalar].shape)
    if "logit_bias" in expected:
        state.setdefault("logit_bias", torch.zeros_like(expected["logit_bias"]))
    check_state(state, expected, path, f"open_clip's {name}")
    model.load_state_dict(state)


class Tokenizer:
    """The tokenizer of a model that does not read CLIP's tokens, made when it is first used.

    Args: folder, of the weights, where the tokenizer's files may lie too
    """

    def __init__(self, model: str, text_config: dict, context_length: int, folder: str):
        self._model, self._config, self._folder = model, text_config, folder
        self._context_length = context_length
        self._made = None

    def __call__(self, prompts, classnames):
        """Token ids (K, L) of one prompt per class.

        Raises: ValueError naming the class whose prompt does not fit; ConnectionError if the tokenizer's
                files are neither here nor to be had
        """
        from clipfit.prompts import too_long

        if not classnames or len(prompts) != len(classnames):
            raise ValueError(
                f"{len(prompts)} prompts for {len(classnames)} classes; one prompt per class is needed"
            )
        made = self._tokenizer()
        for prompt, name in zip(prompts, classnames, strict=True):
            count = len(made.tokenizer(made.clean_fn(prompt)).input_ids)
            if count > self._context_length:
                raise too_long(name, prompt, count, self._context_length)
        return made(list(prompts), context_length=self._context_length)

    def _tokenizer(self):
        if self._made is None:
            from open_clip.tokenizer import HFTokenizer

            name = self._config.get("hf_tokenizer_name") or self._config.get("hf_model_name")
            local = self._folder and any(
                os.path.isfile(os.path.join(self._folder, file))
                for file in ("tokenizer.json", "tokenizer_config.json")
            )
            try:
                if not name and not local:
                    raise OSError(f"open_clip names none for {self._model}")
                self._made = HFTokenizer(
                    self._folder if local else name,
                    context_length=self._context_length,
                    tokenizer_mode=self._config.get("tokenizer_mode"),
                    **self._config.get("tokenizer_kwargs", {}),
                )
            except (OSError, ValueError, ImportError) as error:
                raise ConnectionError(
                    f"the tokenizer of {self._model} cannot be loaded "
                    f"({' '.join(str(error).split())[:200]}). Put its files (tokenizer.json and "
                    f"tokenizer_config.json{f' of {name} on Hugging Face' if name else ''}) into the folder "
                    f"of the weights, and give {PREFIX}{self._model}/<that folder>"
                ) from error
        return self._made
