"""The ResNet image tower: ResNet-D with a three-layer stem, blurred strides and attention instead of pooling.

Where a ResNet strides, this one averages 2 x 2 pixels first (He et al. 2019, https://arxiv.org/abs/1812.01187;
Zhang 2019, https://arxiv.org/abs/1904.11486). Shapes: B images, C channels, D embedding width.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipfit.modules.casts import Conv2d, Linear, in_precision

EXPANSION = 4  # output channels of a block / its inner ones
STRIDE = 32  # pixels of the image per position of the last feature map


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution around a shortcut; a stride is an average in both branches."""

    def __init__(self, inputs: int, channels: int, stride: int = 1):
        super().__init__()
        outputs = EXPANSION * channels
        self.conv1 = Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            layers = {  # the pool has no weights and no number of its own in the published files
                "-1": nn.AvgPool2d(stride),
                "0": Conv2d(inputs, outputs, 1, bias=False),
                "1": nn.BatchNorm2d(outputs),
            }
            self.downsample = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 * channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(self.avgpool(x)))
        return self.relu(x + shortcut)


class AttentionPool2d(nn.Module):
    """One attention layer in place of the average over positions: the mean of all positions asks."""

    def __init__(self, side: int, channels: int, heads: int, output_dim: int):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, channels) / channels**0.5)
        self.k_proj = Linear(channels, channels)
        self.q_proj = Linear(channels, channels)
        self.v_proj = Linear(channels, channels)
        self.c_proj = Linear(channels, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        x = x.flatten(2).transpose(1, 2)  # (B, positions, C)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + in_precision(self.positional_embedding, x.dtype)
        query, key, value = (
            rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, positions, C / heads)
            for rows in (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        )
        pooled = F.scaled_dot_product_attention(query, key, value)  # (B, heads, 1, C / heads)
        return self.c_proj(pooled.transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    """Image tower: stem, four stages of bottleneck blocks, attention pooling."""

    def __init__(
        self, layers: tuple[int, ...], output_dim: int, heads: int, input_resolution: int, width: int
    ):
        super().__init__()
        self.input_resolution, self.output_dim = input_resolution, output_dim
        self.conv1 = Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(EXPANSION * width, 2 * width, layers[1], stride=2)
        self.layer3 = _stage(EXPANSION * 2 * width, 4 * width, layers[2], stride=2)
        self.layer4 = _stage(EXPANSION * 4 * width, 8 * width, layers[3], stride=2)
        channels = EXPANSION * 8 * width
        self.attnpool = AttentionPool2d(input_resolution // STRIDE, channels, heads, output_dim)

    @property
    def kept_per_image(self) -> int:
        """Numbers that the backward pass needs of one image, at most: what convolutions and norms give."""
        side, width = self.input_resolution // 2, self.bn3.num_features
        kept = 4 * width * side**2  # the stem
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            side //= 2
            channels = stage[0].conv1.out_channels
            kept += (4 + 3 * EXPANSION) * len(stage) * channels * side**2
            kept += 3 * 4 * channels * side**2  # the first block's, before its stride
        return kept

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized pixels -> (B, D) features, not normalized."""
        x = images.type(self.conv1.weight.dtype)
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = self.relu(norm(conv(x)))
        x = self.avgpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.attnpool(x)


def _stage(inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (Bottleneck(EXPANSION * channels, channels) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(inputs, channels, stride), *rest)
