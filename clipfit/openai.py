"""The one place that imports the `clip` package; everything else takes its parts from here."""

import warnings

with warnings.catch_warnings():
    # The package imports pkg_resources only to compare torch versions; the notice is of no use to our users.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    from clip import clip as package

from clip.model import CLIP as OpenAIModel
from clip.model import ResidualAttentionBlock, convert_weights

__all__ = [
    "CONTEXT_LENGTH",
    "END_TOKEN",
    "START_TOKEN",
    "VOCABULARY_SIZE",
    "OpenAIModel",
    "ResidualAttentionBlock",
    "convert_weights",
    "package",
    "tokenizer",
]

tokenizer = package._tokenizer
CONTEXT_LENGTH = 77
VOCABULARY_SIZE = 49_408
START_TOKEN = tokenizer.encoder["<|startoftext|>"]  # 49406
END_TOKEN = tokenizer.encoder["<|endoftext|>"]  # 49407, the largest id
