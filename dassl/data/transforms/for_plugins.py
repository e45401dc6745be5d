"""For plugins: steps of Dassl's that torchvision does not have. No recipe here names them.

Everything random draws from torch's global generator, as torchvision does.
"""

import torch
from torch import nn
from torchvision.transforms import RandomCrop, Resize


class RandomTranslation(nn.Module):
    """Resize to `size` = (H, W), or with probability 1/2 to 9/8 of it and crop `size` anywhere. Bilinear."""

    def __init__(self, size):
        super().__init__()
        self.resize = Resize(tuple(size))
        self.enlarge = Resize(tuple(round(side * 1.125) for side in size))
        self.crop = RandomCrop(tuple(size))

    def forward(self, image):
        if torch.rand(()) < 0.5:
            return self.resize(image)
        return self.crop(self.enlarge(image))


class Cutout(nn.Module):
    """Zero `n_holes` squares of side `length` in a (3, H, W) tensor: centers uniform, cut at the border."""

    def __init__(self, n_holes: int = 1, length: int = 16):
        super().__init__()
        self.n_holes = n_holes
        self.length = length

    def forward(self, image):
        height, width = image.shape[-2:]
        image = image.clone()
        for _ in range(self.n_holes):
            top = int(torch.randint(height, ())) - self.length // 2
            left = int(torch.randint(width, ())) - self.length // 2
            image[..., max(top, 0) : max(top + self.length, 0), max(left, 0) : max(left + self.length, 0)] = 0
        return image


class GaussianNoise(nn.Module):
    """With probability `p` add normal noise to every value."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5):
        super().__init__()
        self.mean = mean
        self.std = std
        self.p = p

    def forward(self, image):
        if torch.rand(()) >= self.p:
            return image
        return image + self.mean + self.std * torch.randn(image.shape)


class InstanceNormalization(nn.Module):
    """Per channel of one image: (x - mean) / (std + 1e-8)."""

    def forward(self, image):
        std, mean = torch.std_mean(image, dim=(-2, -1), keepdim=True)
        return (image - mean) / (std + 1e-8)
