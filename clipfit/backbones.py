"""Backbones by their names: which exist, how they read pictures, their form in a folder name.

A backbone is one of OpenAI's names (`ViT-B/16`), `random:` and such a name (that architecture with seeded
random weights), `demo` (the small CLIP that ships with this code), the path of a file or folder in OpenAI's,
open_clip's or transformers' layout, or `open_clip:<model>/<pretrained or file>`. Each belongs to one family
(clipfit/families/). Resolving a config needs these facts before anything else, so this module imports no
torch.
"""

from clipfit.families import openai
from clipfit.families.facts import Input
from clipfit.families.open_clip import OPEN_CLIP
from clipfit.families.openai import OPENAI

FAMILIES = (OPEN_CLIP, OPENAI)  # a name is of the first that has it


def family_of(name: str):
    """The family that a backbone belongs to."""
    return next(family for family in FAMILIES if family.has(name))


def is_name(name: str) -> bool:
    """Whether `name` is one of the known names, and no path."""
    return not family_of(name).is_file(name)


def check_name(name: str) -> None:
    """Accept a backbone name or refuse it before anything is loaded.

    Raises: ValueError if it is no known name and no file, naming the nearest valid one, or if a package is
            missing; FileNotFoundError if it is clearly meant as a path and nothing is there
    """
    family_of(name).check(name)


def looks_like_path(name: str) -> bool:
    """Whether a name is clearly meant as a file, there or not."""
    family = family_of(name)
    return family.is_file(name) if family is not OPENAI else openai.looks_like_path(name)


def input_of(name: str, now: bool = True) -> Input | None:
    """How the backbone reads pictures; with `now` False None where finding out takes torch.

    Raises: as `check_name`; ValueError if `name` is a file that holds no CLIP
    """
    check_name(name)
    return family_of(name).input(name, now)


def weights_digest(name: str) -> str | None:
    """SHA-256 (hex) of the file that a backbone is read from; None for random weights, which have none.

    OpenAI's files need not be there: whoever loads one verifies this digest.
    Raises: OSError if a file cannot be read, or was not downloaded yet
    """
    return family_of(name).digest(name)


def fetch(name: str) -> bool:
    """Download the weights of a name whose file nobody knows before. Returns: whether it is of that kind

    Raises: ConnectionError if they cannot be had
    """
    return family_of(name).fetch(name)


def slug(name: str) -> str:
    """Form for folder names: "ViT-B/16" -> "vit_b16", "random:RN50" -> "random_rn50", a path -> its stem."""
    return family_of(name).slug(name)


def absolute(name: str) -> str:
    """The name with the path in it, if there is one, as it is true in any folder."""
    return family_of(name).absolute(name)
