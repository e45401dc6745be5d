"""Pictures: from a file to what the image tower sees in a test. Importing this module imports no torch."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipfit.io.names import unknown_name

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.transforms import InterpolationMode

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


def read_image(path: str | os.PathLike) -> "Image":
    """Read an image file as an RGB PIL image.

    Raises: FileNotFoundError; OSError naming the file if it cannot be decoded
    """
    from PIL import Image

    if not os.path.isfile(path):
        raise FileNotFoundError(f"no image file at {str(path)!r}; check where the data lie (DATASET.ROOT)")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path} cannot be read as an image ({error}); replace or remove the file") from error


def interpolation(name: str) -> "InterpolationMode":
    """torchvision's mode of that name. Raises: ValueError for an unknown name."""
    from torchvision.transforms import InterpolationMode

    if name not in INTERPOLATIONS:
        raise ValueError(unknown_name("INPUT.INTERPOLATION", name, INTERPOLATIONS))
    return InterpolationMode(name)


def evaluation_transform(
    size: Sequence[int], mode: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
):
    """CLIP's: smaller edge to the larger side of `size` = (H, W), center crop, (3, H, W) floats from 0 to 1.

    With `mean` and `std` of the channels (red, green, blue) the floats are normalized.
    """
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    steps = [Resize(max(size), interpolation=interpolation(mode)), CenterCrop(tuple(size)), ToTensor()]
    return Compose(steps if mean is None else [*steps, Normalize(mean=mean, std=std)])
