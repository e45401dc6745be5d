"""Frozen weights under autocast, cast once.

Autocast casts a weight every time that a layer reads it, and keeps the result, for one pass, only where the
weight trains. The layers here cast a weight that does not train once and keep the copy beside it, which costs
its memory again in half precision. It is the same cast, so all bits are those of autocast. The weight itself
stays in single precision: whatever reads, saves or trains it sees nothing of this.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary


class _Copy(NamedTuple):
    """A copy of a weight, and what the weight was then."""

    tensor: Tensor
    version: int  # raised by every change in place
    place: int  # in memory, another one if the weight was moved


_copies = WeakTensorKeyDictionary()  # weight -> _Copy, as long as the weight lives


def in_precision(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """`weight.to(dtype)`, kept while the weight neither trains nor changes."""
    if weight.dtype == dtype or weight.requires_grad or weight.is_inference():
        return weight.to(dtype)
    copy = _copies.get(weight)
    now = weight._version, weight.data_ptr()
    if copy is None or (copy.version, copy.place) != now or copy.tensor.dtype != dtype:
        with torch.inference_mode(False):  # else no training could use the copy
            copy = _copies[weight] = _Copy(weight.to(dtype), *now)
    return copy.tensor


def for_matmul(weight: Tensor | None) -> Tensor | None:
    """What autocast makes of a weight for a matrix product; outside of it the weight."""
    if weight is None or weight.dtype != torch.float32 or not torch.is_autocast_enabled(weight.device.type):
        return weight
    if weight.requires_grad:
        return weight  # autocast's own cast has a gradient
    return in_precision(weight, torch.get_autocast_dtype(weight.device.type))


class Linear(nn.Linear):
    """A linear layer."""

    @classmethod
    def of(cls, linear: nn.Linear) -> Linear:
        """One with the weights of another."""
        layer = cls(linear.in_features, linear.out_features, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        return layer

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, for_matmul(self.weight), for_matmul(self.bias))


class Conv2d(nn.Conv2d):
    """A convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, for_matmul(self.weight), for_matmul(self.bias))
