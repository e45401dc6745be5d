"""Names of CLIP backbones: which exist, their input size, their form in a folder name.

A backbone is one of OpenAI's names (`ViT-B/16`), `random:` and such a name (that architecture with seeded
random weights), `demo` (the small CLIP that ships with this code) or the path of a file in OpenAI's layout.
Resolving a config needs these facts before anything else, so this module imports no torch.
"""

import os
import re
from pathlib import Path

from clipfit.io.digests import content_digest
from clipfit.io.files import no_regular_file
from clipfit.io.names import unknown_name

DEMO = "demo"
DEMO_FILE = Path(__file__).with_name("demo.pt")
DEMO_INPUT_SIZE = 48

RANDOM_PREFIX = "random:"
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

# SHA-256 of the files that OpenAI publishes. Source: the addresses of these files, which contain it.
OPENAI_SHA256 = {
    "RN50": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L/14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L/14@336px": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
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
    from clipfit.weights import architecture_of, read_checkpoint  # only a file needs torch to tell its size

    return architecture_of(read_checkpoint(name), name)["image_resolution"]


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
