"""Names of CLIP backbones: which exist, their input size, their form in a folder name.

A backbone is one of OpenAI's names (`ViT-B/16`), `random:` and such a name (that architecture with seeded
random weights), `demo` (the small CLIP that ships with this code) or the path of a file in OpenAI's layout.
Resolving a config needs these facts before anything else, so this module imports no torch.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from clipfit.io.digests import content_digest
from clipfit.io.files import no_regular_file, read_json, user_cache, write_json
from clipfit.io.names import unknown_name
from clipfit.published import OPENAI_SHA256

DEMO = "demo"
DEMO_FILE = Path(__file__).with_name("demo.pt")
DEMO_INPUT_SIZE = 48

RANDOM_PREFIX = "random:"
SIZES = "input_sizes-1.json"  # in the user's cache folder: digest of a checkpoint -> input size
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin")

OPENAI_INPUT_SIZES = {
    "RN50": 224,
    "RN101": 224,
    "RN50x4": 288,
    "RN50x16": 384,
    "RN50x64": 448,
    "ViT-B/32": 224,
    "ViT-B/16": 224,
    "ViT-L/14": 224,
    "ViT-L/14@336px": 336,
}


def architecture_name(name: str) -> str:
    """OpenAI's name inside `name`: "random:ViT-B/16" -> "ViT-B/16"; every other name is returned as it is."""
    return name.removeprefix(RANDOM_PREFIX)


def is_name(name: str) -> bool:
    """Whether `name` is one of the known names, and no path."""
    return name == DEMO or architecture_name(name) in OPENAI_INPUT_SIZES


def check_name(name: str) -> None:
    """Accept a backbone name or refuse it before anything is loaded.

    Raises: ValueError if it is no known name and no file, naming the nearest valid one;
            FileNotFoundError if it is clearly meant as a path and nothing is there
    """
    if is_name(name) or os.path.isfile(name):
        return
    if looks_like_path(name) or os.path.exists(name):
        raise FileNotFoundError(
            f"MODEL.BACKBONE.NAME: {name!r} {no_regular_file(name)} (seen from {os.getcwd()}); "
            f"give an existing file or one of {', '.join([DEMO, *OPENAI_INPUT_SIZES])}"
        )
    names = [DEMO, *OPENAI_INPUT_SIZES]
    if name.startswith(RANDOM_PREFIX):
        names = [RANDOM_PREFIX + known for known in OPENAI_INPUT_SIZES]
    raise ValueError(
        f"MODEL.BACKBONE.NAME: {unknown_name('backbone', name, names)}; a path to a file works too"
    )


def looks_like_path(name: str) -> bool:
    """Whether a name is clearly meant as a file, there or not."""
    return name.startswith(("/", "./", "../", "~")) or name.endswith(CHECKPOINT_SUFFIXES)


def input_size(name: str) -> int:
    """Side of the square image in pixels that the backbone reads.

    Raises: as `check_name`; ValueError if `name` is a file that holds no CLIP
    """
    check_name(name)
    if name == DEMO:
        return DEMO_INPUT_SIZE
    if architecture_name(name) in OPENAI_INPUT_SIZES:
        return OPENAI_INPUT_SIZES[architecture_name(name)]
    return _input_size_of_file(name)


def _input_size_of_file(path: str) -> int:
    """The size is remembered by the file's content: only an unknown file is read, which needs torch."""
    digest, memory = content_digest(path), user_cache() / SIZES
    try:
        known = {key: int(size) for key, size in read_json(memory).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # not there, or damaged
        known = {}
    if digest not in known:
        from clipfit.weights import architecture_of, read_checkpoint

        known[digest] = architecture_of(read_checkpoint(path), path)["image_resolution"]
        with suppress(OSError):
            write_json(known, memory)
    return known[digest]


def weights_digest(name: str) -> str | None:
    """SHA-256 (hex) of the file that a backbone is read from; None for random weights, which have none.

    OpenAI's files need not be there: whoever loads one verifies this digest.
    Raises: OSError if a file cannot be read
    """
    if name.startswith(RANDOM_PREFIX):
        return None
    return OPENAI_SHA256.get(name) or content_digest(DEMO_FILE if name == DEMO else name)


def slug(name: str) -> str:
    """Form for folder names: "ViT-B/16" -> "vit_b16", "random:RN50" -> "random_rn50", a path -> its stem."""
    if not is_name(name):
        return Path(name).stem
    return re.sub(r"[-:@]", "_", name.lower().replace("/", "").removesuffix("px"))
