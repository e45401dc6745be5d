"""Any number of prompts through the text encoder in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clipfit.modules.low_rank import draws
from clipfit.text import Prompts, TextEncoder

ROWS = 8192  # per chunk; in float32 and 12 blocks of width 512 their activations take about 4 GB


def encode(text_encoder: TextEncoder, prompts: Prompts, rows: int = ROWS) -> Tensor:
    """`text_encoder(prompts)`, at most `rows` packed rows at a time (but never less than one prompt).

    With gradients only the inputs of a chunk are kept, and its activations are computed again when they are
    needed. Prompts that fit in one chunk are encoded as they are.

    Returns: (K, D) features, not normalized, or (G, K, D) for a prefix of shape (G, P, W)
    """
    groups = prompts.prefix.shape[0] if prompts.prefix.dim() == 3 else 1
    per_group = len(prompts.layout.positions)
    if groups * per_group <= rows:
        return text_encoder(prompts)
    parts = [prompts] if per_group <= rows else _split_classes(prompts, rows)
    return torch.cat([_some_groups_at_a_time(text_encoder, part, rows) for part in parts], dim=-2)


def _some_groups_at_a_time(text_encoder: TextEncoder, prompts: Prompts, rows: int) -> Tensor:
    if prompts.prefix.dim() == 2:
        return _recomputed(text_encoder, prompts)
    at_a_time = max(1, rows // len(prompts.layout.positions))
    chunks = (dataclasses.replace(prompts, prefix=prefix) for prefix in prompts.prefix.split(at_a_time))
    return torch.cat([_recomputed(text_encoder, chunk) for chunk in chunks])


def _recomputed(text_encoder: TextEncoder, prompts: Prompts) -> Tensor:
    if not torch.is_grad_enabled():
        return text_encoder(prompts)
    # Where dropout acts, the second pass must draw what the first one drew.
    return checkpoint(text_encoder, prompts, use_reentrant=False, preserve_rng_state=draws(text_encoder))


def _split_classes(prompts: Prompts, rows: int) -> Iterator[Prompts]:
    """The prompts of some classes at a time, so that one group of each part has at most `rows` rows."""
    classes, longest = prompts.layout.grid
    step = max(1, (rows - prompts.layout.shared) // longest)
    for first in range(0, classes, step):
        some = slice(first, first + step)
        yield dataclasses.replace(prompts, suffix=prompts.suffix[some], eot=prompts.eot[some])
