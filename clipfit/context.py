"""Learned context vectors: the words they start from, and where they stand among a prompt's tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from clipfit.clip import CLIP
from clipfit.prompts import fill, tokenize_for
from clipfit.text import Prompts
from clipfit.tokenizer import encode

POSITIONS = ("end", "middle", "front")  # of the class name


def initial_phrase(ctx_init: str | bool, own: str) -> str:
    """The phrase that CTX_INIT means: `own` for True, none for False; in a string "_" stands for a space."""
    if isinstance(ctx_init, bool):
        return own if ctx_init else ""
    return " ".join(ctx_init.replace("_", " ").split())


def embed_words(clip: CLIP, phrase: str, count: int) -> Tensor:
    """Embeddings (count, W) of the first `count` tokens of a phrase, in the model's precision.

    Raises: ValueError if the phrase does not fit CLIP's context
    """
    with torch.no_grad():
        return clip.embed(tokenize_for(clip, [phrase], [phrase]))[0, 1 : 1 + count].clone()


class ContextPrompts:
    """Prompts "<M words> <name>." of K classes, whose M tokens after the start token are learned vectors.

    position     of the name: at the end, in the middle (behind the first M // 2 vectors) or in front
    per_class    every class has vectors of its own
    Tokens of the words beyond the M-th stay as they are, between the vectors and the name. Whatever the
    position, a prompt consists of the same rows, so its end-of-text token is at the same place.

    Raises: ValueError naming the class whose prompt does not fit CLIP's context
    """

    def __init__(
        self,
        clip: CLIP,
        words: str,
        length: int,
        classnames: Sequence[str],
        position: str = "end",
        per_class: bool = False,
    ):
        tokens = tokenize_for(clip, fill(words + " {}.", classnames), classnames)
        self.frame, self.order = clip.embed_prompts(tokens), None
        if position == "end" and not per_class:
            return

        eot = self.frame.eot
        total = int(eot.max()) + 1
        with torch.no_grad():
            rows = clip.embed(tokens[:, :total])  # (K, L, W)
        before = {"end": length, "middle": length // 2, "front": 0}[position]
        order = [_order(length, before, len(encode(name)), total) for name in classnames]
        shared = 1 if per_class else 1 + before
        self.order = torch.tensor(order, device=rows.device)[..., None]  # (K, L, 1)
        self.start, self.rest = rows[:, :1], rows[:, 1 + length :]
        self.frame = Prompts(rows[0, :shared], rows[:, shared:], eot)

    def fill(self, context: Tensor) -> Prompts:
        """The prompts with vectors (M, W), (K, M, W) if `per_class`, or (G, M, W) for G groups of prompts.

        Groups are for names at the end only.
        """
        if self.order is None:
            return self.frame.with_context(context)
        rows = torch.cat([self.start, context.expand(len(self.start), -1, -1), self.rest], dim=1)
        rows = rows.gather(1, self.order.expand_as(rows))
        shared = self.frame.layout.shared
        return dataclasses.replace(self.frame, prefix=rows[0, :shared], suffix=rows[:, shared:])


def _order(length: int, before: int, name_length: int, total: int) -> list[int]:
    """Where each row comes from in "start, context, name, rest"; `before` context rows precede the name."""
    context = range(1, 1 + length)
    name = range(1 + length, 1 + length + name_length)
    return [0, *context[:before], *name, *context[before:], *range(name.stop, total)]
