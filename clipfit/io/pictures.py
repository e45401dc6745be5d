"""Pictures: from a file to what the image tower sees in a test. Importing this module imports no torch."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from clipfit.io.names import unknown_name

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.transforms import InterpolationMode

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
RESIZES = ("shortest", "squash")  # the smaller edge, then a crop; or both edges, whatever their ratio
# Pillow knows more formats, some of which start other programs (PostScript) or are hardly ever tested.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    (".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx")
    + (".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height


def is_picture(name: str) -> bool:
    """Whether a file of this name is a picture, by its suffix in any case; hidden files are none."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def read_image(path: str | os.PathLike, upright: bool = False) -> "Image":
    """Read an image file as an RGB PIL image.

    Greys of 16 bits keep their upper 8, as Pillow reads colours of 16 bits.

    Args:   upright, whether it is turned as its EXIF tag says, and laid on white where it is transparent
    Raises: FileNotFoundError; OSError naming the file if it cannot be decoded
    """
    with _opened(path) as image:
        return _rgb(image, upright)


def fault_of(path: str | os.PathLike) -> str:
    """Why a picture cannot be read, "" if it can. A JPEG is read to its end, but not in its full size."""
    try:
        with _opened(path) as image:
            image.draft(None, (1, 1))  # an eighth of its width: what takes long is not the reading
            _rgb(image, upright=True)
    except OSError as error:
        return str(error)
    return ""


def image_size(path: str | os.PathLike, upright: bool = False) -> tuple[int, int]:
    """Width and height of what `read_image` would give, from the file's header; a TIFF is decoded.

    Raises: as `read_image`
    """
    with _opened(path) as image:
        if image.format == "TIFF":
            image.load()  # Pillow turns these by itself; before, its versions differ in the size they say
        sideways = upright and image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
        return image.size[::-1] if sideways else image.size


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator["Image"]:
    """The picture in a file; whatever goes wrong with it in the block becomes one line with the path."""
    from PIL import Image

    if not os.path.isfile(path):
        raise FileNotFoundError(f"no image file at {str(path)!r}; check where the data lie (DATASET.ROOT)")
    try:
        # As an open file: of a path, Pillow maps uncompressed TIFFs into memory and garbles sideways ones.
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            yield image
    except Image.UnidentifiedImageError as error:
        reason = f"it is not of the formats {', '.join(_formats())}, or damaged at its start"
        raise _unreadable(path, reason) from error
    except Exception as error:  # decoders raise almost anything
        raise _unreadable(path, str(error) or type(error).__name__) from error


def _rgb(image: "Image", upright: bool) -> "Image":
    """Raises: ValueError for pixels of an unknown range"""
    if upright:
        image = _laid_on_white(_turned(image))
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range is not known: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    return image.convert("RGB")


def _unreadable(path: str | os.PathLike, reason: str) -> OSError:
    return OSError(
        f"{path} cannot be read as an image ({' '.join(reason.split())}); replace or remove the file"
    )


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that the installed Pillow can decode."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _eight_bits(image: "Image") -> "Image":
    """Greys of 16 bits as greys of 8. Raises: ValueError for other integers"""
    import numpy as np
    from PIL import Image

    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # these two hold 16 bits in this mode
        raise ValueError("its pixels are integers of an unknown range: save it with 8 or 16 bits")
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))


def _turned(image: "Image") -> "Image":
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(image)
    turned.format = image.format
    return turned


def _laid_on_white(image: "Image") -> "Image":
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def interpolation(name: str) -> "InterpolationMode":
    """torchvision's mode of that name. Raises: ValueError for an unknown name."""
    from torchvision.transforms import InterpolationMode

    if name not in INTERPOLATIONS:
        raise ValueError(unknown_name("INPUT.INTERPOLATION", name, INTERPOLATIONS))
    return InterpolationMode(name)


def evaluation_transform(
    size: Sequence[int],
    mode: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: str = "shortest",
):
    """CLIP's: smaller edge to the larger side of `size` = (H, W), center crop, (3, H, W) floats from 0 to 1.

    With `mean` and `std` of the channels (red, green, blue) the floats are normalized.
    Args:   resize "shortest", as said, or "squash": both edges to `size`, and nothing is cropped
    Raises: ValueError for an unknown `mode` or `resize`
    """
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    if resize not in RESIZES:
        raise ValueError(unknown_name("INPUT.RESIZE", resize, RESIZES))
    if resize == "squash":
        steps = [Resize(tuple(size), interpolation=interpolation(mode))]
    else:
        steps = [Resize(max(size), interpolation=interpolation(mode)), CenterCrop(tuple(size))]
    steps.append(ToTensor())
    return Compose(steps if mean is None else [*steps, Normalize(mean=mean, std=std)])
