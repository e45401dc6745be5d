"""Checkpoint files of CLIP: fetch OpenAI's, read any in OpenAI's layout, and trust neither.

Only tensors and plain containers are unpickled (`clipfit/io/checkpoints.py`). A JIT archive is a program, so
one is opened only if its SHA256 is that of a file OpenAI published.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from clipfit.io.checkpoints import load_checkpoint, load_published, load_safetensors
from clipfit.io.digests import file_digest
from clipfit.io.downloads import download
from clipfit.modules import HEAD_WIDTH
from clipfit.published import OPENAI_URLS, instead_of, places_of
from clipfit.tokenizer import VOCABULARY_SIZE

NOT_WEIGHTS = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # numbers that OpenAI's archives also carry
SHOWN_KEYS = 3
HEAD_WIDTHS = {1280: 80}  # width of an image tower -> of its heads, where it is not HEAD_WIDTH: ViT-H
PATIENCE = 60.0  # seconds to wait for an answer of the server
WEIGHTS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
COUNTERS = (torch.int64, torch.int32)  # batches that a BatchNorm has seen


def cache_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Where OpenAI's files are kept: `cache_dir`, else $CLIP_CACHE, else ~/.cache/clip."""
    return Path(cache_dir or os.environ.get("CLIP_CACHE") or "~/.cache/clip").expanduser()


def fetch_openai(name: str, cache_dir: str | os.PathLike | None = None) -> Path:
    """Path of OpenAI's file for `name`, downloaded if it is not in the cache.

    The checksum is verified in either case. A download goes to a folder of its own beside the target and is
    renamed when it is complete, so any number of processes may ask at once and none ever sees half a file.
    Raises: ConnectionError with what each place answered, which file to put where by hand, what else loads
    """
    url = OPENAI_URLS[name]
    digest = _published_digest(url)
    folder = cache_folder(cache_dir)
    target = folder / url.rsplit("/", 1)[1]
    if target.is_file():
        if file_digest(target) == digest:
            return target
        warnings.warn(f"{target} is damaged (its SHA256 is not {digest}); downloading it again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            fresh = Path(scratch, target.name)
            download(places_of(url), fresh)
            os.replace(fresh, target)
    except OSError as error:
        raise ConnectionError(
            f"could not get the weights of {name}:\n{error}\nPut that file at {target} by hand (SHA256 "
            f"{digest}), or give the path of {instead_of(target.name)} as MODEL.BACKBONE.NAME"
        ) from error
    return target


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """State dict of a CLIP in any layout, on the CPU: key -> tensor.

    Reads OpenAI's JIT archives, .safetensors and saved state dicts, also in {"state_dict": ...} or with
    `module.` prefixes.
    Raises: FileNotFoundError; ValueError naming the file if it is damaged, holds code, or is no state dict
    """
    if os.fspath(path).endswith(".safetensors"):
        content = load_safetensors(path)
    else:
        content = load_published(path, published_digests()) or load_checkpoint(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds {_describe(content)}, not a state dict (a dict of name -> tensor)")
    state = {}
    for key, value in content.items():
        name = str(key).removeprefix("module.")
        if name in NOT_WEIGHTS:
            continue
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: entry {name!r} is {_describe(value)}; a state dict holds tensors only")
        state[name] = value.detach()
    return state


def architecture_of(state: dict[str, Tensor], path: str | os.PathLike) -> dict:
    """Arguments of `OpenAIModel` that fit a state dict, read off its shapes.

    Raises: ValueError naming `path` and the key that does not fit
    """

    def shape(key: str, dims: int) -> torch.Size:
        if key not in state:
            raise ValueError(f"{path} is no CLIP checkpoint in OpenAI's layout: it has no {key!r}")
        if state[key].dim() != dims or 0 in state[key].shape:
            raise ValueError(f"{path}: {key!r} has shape {tuple(state[key].shape)}; {dims} axes are expected")
        return state[key].shape

    def count(prefix: str) -> int:
        return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})

    if "visual.proj" in state:
        vision_width, _, _, patch = shape("visual.conv1.weight", 4)
        layers: int | tuple[int, ...] = count("visual.transformer.resblocks.")
        resolution = patch * _grid_side(shape("visual.positional_embedding", 2)[0], path)
    else:
        vision_width, patch = shape("visual.layer1.0.conv1.weight", 4)[0], None
        layers = tuple(count(f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        resolution = 32 * _grid_side(shape("visual.attnpool.positional_embedding", 2)[0], path)

    text_width, embed_dim = shape("text_projection", 2)
    context_length, _ = shape("positional_embedding", 2)
    vocabulary, _ = shape("token_embedding.weight", 2)
    widths = {"text width": text_width, "vision width": vision_width if patch else HEAD_WIDTH}
    for what, width in widths.items():
        if width % HEAD_WIDTH:
            raise ValueError(f"{path}: {what} {width} is not a multiple of {HEAD_WIDTH}, the width of a head")
    if vocabulary != VOCABULARY_SIZE:
        raise ValueError(
            f"{path}: {vocabulary:,} token embeddings; CLIP's tokenizer has {VOCABULARY_SIZE:,} tokens"
        )
    return {
        "embed_dim": embed_dim,
        "image_resolution": resolution,
        "vision_layers": layers,
        "vision_width": vision_width,
        "vision_heads": vision_width // HEAD_WIDTHS.get(vision_width, HEAD_WIDTH) if patch else None,
        "vision_patch_size": patch,
        "context_length": context_length,
        "vocab_size": vocabulary,
        "transformer_width": text_width,
        "transformer_heads": text_width // HEAD_WIDTH,
        "transformer_layers": count("transformer.resblocks."),
    }


def check_state(
    state: dict[str, Tensor],
    expected: dict[str, Tensor],
    path: str | os.PathLike,
    what: str = "a CLIP in OpenAI's layout",
) -> None:
    """Compare names, shapes and dtypes of a state dict with its architecture's; values must be finite.

    Raises: ValueError naming `path`, what differs and the first few keys
    """
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("has wrongly shaped", reshaped)):
        if keys:
            shown = ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
            raise ValueError(f"{path} {problem} {len(keys)} of the tensors of {what}: {shown}")
    for key, tensor in state.items():
        wanted = WEIGHTS if expected[key].is_floating_point() else COUNTERS
        if tensor.dtype not in wanted:
            raise ValueError(
                f"{path}: tensor {key!r} is of dtype {tensor.dtype}; choose {', '.join(map(str, wanted))}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: tensor {key!r} holds values that are not finite")


def published_digests() -> set[str]:
    """SHA-256 (hex) of the files that OpenAI publishes."""
    return {_published_digest(url) for url in OPENAI_URLS.values()}


def _published_digest(url: str) -> str:
    return url.split("/")[-2]


def _grid_side(tokens: int, path: str | os.PathLike) -> int:
    """Side of the square grid of image positions, of which there are side * side + 1 (the class token)."""
    side = round((tokens - 1) ** 0.5)
    if side < 1 or side * side + 1 != tokens:
        raise ValueError(f"{path}: {tokens} image positions are not those of a square grid and a class token")
    return side


def _describe(value: object) -> str:
    return "an empty dict" if value == {} else f"a {type(value).__name__}"
