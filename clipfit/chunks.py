"""Any number of prompts through the text encoder in bounded memory."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clipfit.modules.low_rank import draws
from clipfit.text import Layout, Prompts, TextEncoder

CHUNKS = 4  # what does not fit is computed in chunks of a fourth of the rows that would, which costs no time


def encode(text_encoder: nn.Module, prompts: Prompts | Tensor, rows: int) -> Tensor:
    """`text_encoder(prompts)`, at most `rows` packed rows at a time (but never less than one prompt).

    With gradients nothing of a chunk is kept, and its activations are computed again when they are needed.
    Prompts that fit are encoded as they are. A chunk holds prompts of like length, and fewer rows than would:
    freed blocks of many sizes leave holes in the memory of a CPU, which grow with them.

    Args:    prompts, what CLIP.embed_prompts gives: token ids (K, L) for towers that read those alone
    Returns: (K, D) features, not normalized, or (G, K, D) for a prefix of shape (G, P, W)
    """
    if isinstance(prompts, Tensor):
        parts = prompts.split(max(1, rows // prompts.shape[1]))
        if len(parts) == 1:
            return text_encoder(prompts)
        return torch.cat([_recomputed(text_encoder, part) for part in parts])
    groups = prompts.prefix.shape[0] if prompts.prefix.dim() == 3 else 1
    per_group = len(prompts.layout.positions)
    if groups * per_group <= rows:
        return text_encoder(prompts)
    rows = max(1, rows // CHUNKS)
    if per_group <= rows:
        return _some_groups_at_a_time(text_encoder, prompts, prompts.layout, rows)
    parts, order = prompts.layout.parts(rows)
    features = [_some_groups_at_a_time(text_encoder, prompts, part, rows) for part in parts]
    return torch.cat(features, dim=-2).index_select(-2, order)


def _some_groups_at_a_time(text_encoder: TextEncoder, prompts: Prompts, part: Layout, rows: int) -> Tensor:
    if prompts.prefix.dim() == 2:
        return _recomputed(text_encoder, prompts, part)
    at_a_time = max(1, rows // len(part.positions))
    chunks = (dataclasses.replace(prompts, prefix=prefix) for prefix in prompts.prefix.split(at_a_time))
    return torch.cat([_recomputed(text_encoder, chunk, part) for chunk in chunks])


def _recomputed(text_encoder: nn.Module, *prompts: Prompts | Tensor | Layout) -> Tensor:
    if not torch.is_grad_enabled():
        return text_encoder(*prompts)
    # Where dropout acts, the second pass must draw what the first one drew.
    return checkpoint(text_encoder, *prompts, use_reentrant=False, preserve_rng_state=draws(text_encoder))
