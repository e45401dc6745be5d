"""Images as bytes: everything before `ToTensor` gives uint8, the rest makes floats, of a whole batch at once.

Bytes are a quarter of the floats to send from a worker and to a GPU. The floats are those of torchvision's
`ToTensor` and `Normalize`, bit for bit: the same operations in the same order on the same numbers.
"""

import functools
import hashlib
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import (
    AutoAugment,
    CenterCrop,
    ColorJitter,
    Compose,
    InterpolationMode,
    Normalize,
    RandAugment,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)

SEPARABLE = {
    InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
    InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
}
REPEATABLE = (Resize, CenterCrop)  # always the same pixels from the same image
TO_IMAGES = REPEATABLE + (
    *(AutoAugment, ColorJitter, RandAugment, RandomCrop, RandomGrayscale),
    *(RandomHorizontalFlip, RandomResizedCrop),
)  # steps that make an RGB image from an RGB image


class BytesTransform(NamedTuple):
    """A transform in two parts: `steps` on an image; floats from 0 to 1, normalized if there is a mean."""

    steps: tuple
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @property
    def repeatable(self) -> bool:
        """Whether an image always gives the same bytes."""
        return all(type(step) in REPEATABLE for step in self.steps)

    @property
    def steps_as_text(self) -> str:
        return repr(self.steps)

    def bytes_of(self, image: Image.Image) -> Tensor:
        """uint8 (3, H, W) of an RGB image."""
        if [type(step) for step in self.steps] == [Resize, CenterCrop]:
            image = _resized_and_cropped(image, *self.steps)
        else:
            for step in self.steps:
                image = step(image)
        channels = [np.frombuffer(channel.tobytes(), np.uint8) for channel in image.split()]
        return torch.from_numpy(np.stack(channels)).view(3, image.height, image.width)

    def digest(self, images: Tensor) -> str:
        """SHA-256 (hex) of all that decides the floats of uint8 (B, 3, H, W), bit for bit."""
        digest = hashlib.sha256(repr((tuple(images.shape), self.mean, self.std)).encode())
        digest.update(images.contiguous().numpy())
        return digest.hexdigest()

    def floats(self, images: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """float32 (B, 3, H, W) on the device of uint8 (B, 3, H, W)."""
        device = torch.device(device)
        images = images.to(device, non_blocking=True)
        scale, mean, std = _constants(self.mean, self.std, device)
        floats = torch.empty(images.shape, device=device)
        # On a CPU one image after the other: it stays in the processor's cache from step to step.
        piece = 1 if device.type == "cpu" else max(1, len(images))
        for part, result in zip(images.split(piece), floats.split(piece), strict=True):
            result.copy_(part).div_(scale)
            if mean is not None:
                result.sub_(mean).div_(std)
        return floats


def in_two_parts(transform) -> BytesTransform | None:
    """The parts of a transform; None for one that cannot be divided into bytes and floats."""
    if type(transform) is not Compose:
        return None
    steps, mean, std = tuple(transform.transforms), None, None
    if steps and type(steps[-1]) is Normalize:
        *steps, last = steps
        mean, std = tuple(last.mean), tuple(last.std)
    if not steps or type(steps[-1]) is not ToTensor:
        return None
    steps = tuple(steps[:-1])
    return BytesTransform(steps, mean, std) if all(type(step) in TO_IMAGES for step in steps) else None


def _resized_and_cropped(image: Image.Image, resize: Resize, crop: CenterCrop) -> Image.Image:
    """`crop(resize(image))` in the same bits, without the work on columns that the crop takes away.

    Pillow resizes the columns, rounds to bytes, then resizes the rows. The crop goes in between.
    """
    wide = image.width > image.height and isinstance(resize.size, int) and resize.max_size is None
    if wide and resize.interpolation in SEPARABLE:
        columns, cropped = int(resize.size * image.width / image.height), crop.size[1]
        if columns > cropped and resize.size >= crop.size[0]:
            left = round((columns - cropped) / 2)
            image = image.resize((columns, image.height), SEPARABLE[resize.interpolation])
            image = image.crop((left, 0, left + cropped, image.height))
            return crop(image.resize((cropped, resize.size), SEPARABLE[resize.interpolation]))
    return crop(resize(image))


@functools.cache
def _constants(mean, std, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """255, mean and std (3, 1, 1) as tensors of the device.

    255 too: by a plain number a GPU divides as times its inverse, which rounds differently.
    """
    scale = torch.tensor(255.0, device=device)
    if mean is None:
        return scale, None, None
    return scale, *(torch.tensor(values, device=device).view(-1, 1, 1) for values in (mean, std))
