"""Labelled features as a classifier: an image is of the class whose stored features it resembles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class KeyValueCache(nn.Module):
    """exp(-beta (1 - x keys^T)) values for unit features x, over N stored features of K classes.

    keys (N, D)     unit features: a parameter if they are to train, else a buffer
    values (N, K)   their labels, one-hot
    classes         the classes' names, so that a file knows which column is whose
    """

    def __init__(self, keys: Tensor, labels: Tensor, classnames: Sequence[str], trainable: bool):
        super().__init__()
        values = nn.functional.one_hot(labels, len(classnames))
        self.register_buffer("values", values.to(keys))
        self.register_buffer("classes", as_bytes(classnames).to(keys.device))
        if trainable:
            self.keys = nn.Parameter(keys)
        else:
            self.register_buffer("keys", keys)

    def forward(self, x: Tensor, beta: Tensor | float) -> Tensor:
        """(B, K): how much the features of each class resemble x (B, D), each at most by 1."""
        affinity = x @ self.keys.t()  # (B, N)
        return (beta * (affinity - 1)).exp() @ self.values

    def resize(self, count: int) -> None:
        """Make room for the features of `count` images, which are undefined until they are loaded."""
        for tensor in (self.keys, self.values):
            tensor.data = tensor.new_empty(count, tensor.shape[1])


def as_bytes(names: Sequence[str]) -> Tensor:
    """Names as a tensor, which a checkpoint can hold: UTF-8, one a line."""
    return torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)


def as_names(tensor: Tensor) -> list[str]:
    """Inverse of :func:`as_bytes`."""
    return bytes(tensor.tolist()).decode().split("\n")
