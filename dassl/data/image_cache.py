"""Decoded images kept in memory that all loader workers share.

A few-shot run reads the same images in every epoch; decoding them costs more than the step that trains on
them.
"""

import mmap

from PIL import Image

from clipfit.io.pictures import image_size


class ImageCache:
    """RGB pixels of as many of the given images as fit into `limit` bytes.

    The block is anonymous shared memory: processes forked after the cache was made see one and the same
    block, so an image is decoded once by whichever of them comes first. (/dev/shm is not used: containers
    keep it small.)

    Args:
        paths: image files, in the order in which they get room; the first that does not fit ends the list.
        limit: bytes.
        upright: whether images are turned as their EXIF tag says.
    """

    def __init__(self, paths, limit: float, upright: bool = False):
        self._slots = {}  # path -> (position, size (width, height)); each image is filled in at most once
        position = 0
        for path in dict.fromkeys(paths):
            width, height = _size(path, upright)
            if position + _bytes(width, height) > limit:
                break
            self._slots[path] = position, (width, height)
            position += _bytes(width, height)
        self.nbytes = position
        self._block = mmap.mmap(-1, max(position, 1))

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, path: str) -> Image.Image | None:
        """The image, or None if it has not been put."""
        if path not in self._slots:
            return None
        position, (width, height) = self._slots[path]
        if not self._block[position]:
            return None
        start = position + 1
        return Image.frombytes("RGB", (width, height), self._block[start : start + 3 * width * height])

    def put(self, path: str, image: Image.Image) -> None:
        """Keep an RGB image, if it has a place."""
        if path not in self._slots:
            return
        position, size = self._slots[path]
        if image.size != size:  # the file was replaced since its size was read
            return
        pixels = image.tobytes()
        self._block[position + 1 : position + 1 + len(pixels)] = pixels
        # The mark comes last. Two workers may write one image at once, but they write the same bytes.
        self._block[position] = 1

    def __deepcopy__(self, memo) -> "ImageCache":
        """A copied loader reads the same files: it shares the block."""
        return self

    def __reduce__(self):
        """A pickled loader (a worker that is not forked) arrives without cache and decodes as usual."""
        return type(None), ()


def _size(path: str, upright: bool) -> tuple[int, int]:
    """Width and height from the file's header; (0, 0) if it is damaged, which decoding will report."""
    try:
        return image_size(path, upright)
    except OSError:
        return 0, 0


def _bytes(width: int, height: int) -> int:
    """Room of one image: a mark and its pixels."""
    return 1 + 3 * width * height
