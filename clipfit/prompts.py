"""From prompt templates and class names to token ids. Which template a data set has, its facts say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipfit.tokenizer import CONTEXT_LENGTH, END_TOKEN, START_TOKEN, decode, encode

if TYPE_CHECKING:
    from clipfit.clip import CLIP

PLAIN = "a photo of a {}."

# Source: CoOp's ZeroshotCLIP2, after OpenAI's notebook on prompt engineering for ImageNet.
ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def choose_template(templates: Mapping[str, str], column: str = "default", override: str = "") -> str:
    """The template of a data set for a method: `override` if given, else the column's, the default, PLAIN.

    Args: templates, those that a data set declares, by column; most declare a default or nothing
    Raises: ValueError for an override without exactly one `{}`
    """
    return _checked(override or templates.get(column) or templates.get("default") or PLAIN)


def fill(template: str, classnames: Sequence[str]) -> list[str]:
    """One prompt per class; underscores in class names become spaces, nothing else changes.

    Raises: ValueError if the template has not exactly one `{}`
    """
    before, after = _checked(template).split("{}")
    return [before + name.replace("_", " ") + after for name in classnames]


def tokenize_for(clip: CLIP, prompts: Sequence[str], classnames: Sequence[str]) -> Tensor:
    """Token ids (K, L) of one prompt per class as `clip` reads them. Raises: as `tokenize`"""
    if clip.tokenizer is None:
        return tokenize(prompts, classnames, clip.context_length)
    return clip.tokenizer(prompts, classnames)


def tokenize(
    prompts: Sequence[str], classnames: Sequence[str], context_length: int = CONTEXT_LENGTH
) -> Tensor:
    """Token ids of one prompt per class, (K, L) int64: start token, text, end token, zeros.

    Raises: ValueError if there is no class, or naming the class whose prompt exceeds the context length
    """
    if not classnames or len(prompts) != len(classnames):
        raise ValueError(
            f"{len(prompts)} prompts for {len(classnames)} classes; one prompt per class is needed"
        )
    tokens = torch.zeros(len(prompts), context_length, dtype=torch.long)
    for row, prompt, name in zip(tokens, prompts, classnames, strict=True):
        ids = [START_TOKEN, *encode(prompt), END_TOKEN]
        if len(ids) > context_length:
            raise too_long(name, prompt, len(ids), context_length)
        row[: len(ids)] = torch.tensor(ids)
    return tokens


def too_long(name: str, prompt: str, count: int, context_length: int) -> ValueError:
    """The error for a prompt of too many tokens."""
    return ValueError(
        f"the prompt of class {name!r} has {count} tokens, start and end included; CLIP reads at "
        f"most {context_length}; shorten the class name or the template: {prompt!r}"
    )


def untrained_tokens(clip: CLIP, tokens: Tensor, classnames: Sequence[str]) -> list[tuple[str, str]]:
    """(class, token text) of every token in the prompts whose embedding is zero: it was never trained.

    Args: tokens (K, L) from `tokenize_for`. Only models that mark tokens so, as `demo` does, give any.
    """
    if clip.tokenizer is not None or clip.token_embedding is None:
        return []
    ids = tokens.unique()
    rows = clip.token_embedding.weight.detach()[ids.to(clip.device)]
    untrained = set(ids[(rows == 0).all(dim=1).cpu()].tolist())
    found = []
    for row, name in zip(tokens.tolist(), classnames, strict=True):
        for token in dict.fromkeys(row[: row.index(END_TOKEN)]):
            if token in untrained:
                found.append((name, decode([token]).strip()))
    return found


def _checked(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(
            f"prompt template {template!r} has {template.count('{}')} places {{}} for the class name; "
            f"exactly one is needed, as in {PLAIN!r}"
        )
    return template
