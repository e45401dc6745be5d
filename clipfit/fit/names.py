"""OpenAI's names for the tensors of a CLIP in memory, whose towers are modules of their own."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from clipfit.clip import CLIP
from clipfit.low_rank import INSIDE, LowRankChange, changes

IMAGE, TEXT = ("image_encoder.", "visual."), ("text_encoder.", "")  # here, OpenAI's
OUTSIDE = ("token_embedding.weight", "logit_scale")  # of the towers


def is_of_clip(name: str) -> bool:
    """Whether a tensor of a model is CLIP's own, and nothing that a method has added."""
    in_a_tower = name.startswith((IMAGE[0], TEXT[0])) and INSIDE not in name
    return in_a_tower or name in OUTSIDE


def openai_name(name: str) -> str:
    """ "image_encoder.ln_pre.bias" -> "visual.ln_pre.bias"; the names outside of the towers stay."""
    for ours, theirs in (IMAGE, TEXT):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def parameters_by_name(clip: CLIP) -> dict[str, nn.Parameter]:
    """OpenAI's name -> parameter."""
    return {openai_name(name): parameter for name, parameter in clip.named_parameters()}


def openai_changes(clip: CLIP) -> Iterator[LowRankChange]:
    """The low-rank changes of a CLIP: name of the weight, part (q, k, v or ""), down, up, scale."""
    for change in changes(clip):
        yield change._replace(name=openai_name(change.name))
