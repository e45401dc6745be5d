"""Learned tokens inside a transformer: vectors that stand in its sequence before some of its blocks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """M neighbouring tokens of a tower, and the vectors that they are before some of its blocks.

    vectors (J, M, W)   before the blocks first, first + 1, ..., first + J - 1, counted from 0
    joins               before block `first` they join the sequence; else they take the place of rows in it
    start               row of the first one; None: they stand behind all other rows
    No positional embedding is added to them. Behind the last of these blocks they are rows like all others.
    Gradients flow into the vectors.
    """

    vectors: Tensor
    first: int
    joins: bool = True
    start: int | None = 1

    @property
    def count(self) -> int:
        """M."""
        return self.vectors.shape[1]

    def joining(self, block: int) -> int:
        """By how many rows the sequence grows before a block."""
        return self.count if self.joins and block == self.first and len(self.vectors) else 0

    def enter(self, rows: Tensor, block: int) -> Tensor:
        """Rows (..., L, W) that the block before this one gave -> those that it reads."""
        if not 0 <= block - self.first < len(self.vectors):
            return rows
        vectors = self.vectors[block - self.first].type(rows.dtype)
        replaced = self.count - self.joining(block)
        start = rows.shape[-2] - replaced if self.start is None else self.start
        return replace_rows(rows, vectors, start, replaced)

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on `device`."""
        return dataclasses.replace(self, vectors=self.vectors.to(device))


def replace_rows(rows: Tensor, vectors: Tensor, start: int, count: int | None = None) -> Tensor:
    """(..., L, W), `count` rows from row `start` on replaced by `vectors` (..., M, W); default: M rows."""
    end = start + (vectors.shape[-2] if count is None else count)
    groups = torch.broadcast_shapes(rows.shape[:-2], vectors.shape[:-2])
    parts = (rows[..., :start, :], vectors, rows[..., end:, :])
    return torch.cat([part.expand(*groups, -1, -1) for part in parts], dim=-2)
