"""Small copies of pictures that stand in the page itself."""

import base64
import io
import os

from clipfit.io.pictures import read_image

LARGEST = 160  # pixels of the longer side
QUALITY = 72


def thumbnail(path: str | os.PathLike) -> str:
    """A picture, upright and small, as a data URI of a JPEG.

    Raises: FileNotFoundError; OSError naming the file if it cannot be decoded
    """
    image = read_image(path, upright=True)
    image.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
