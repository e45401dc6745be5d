"""CLIP's tokenizer: byte pair encoding of lower-cased text, with OpenAI's merges. Imports no torch.

A word is spelled in bytes, the last one marked as an ending, and neighbours are merged, the pair that was
most frequent in OpenAI's text first, until no known pair is left. Any text has tokens; none is unknown.
Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; Radford et al. 2021, section 2.4.

The merges are `bpe_simple_vocab_16e6.txt.gz`; the note beside it says where they come from.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

MERGES = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
CONTEXT_LENGTH = 77
VOCABULARY_SIZE = 49_408  # 256 bytes, the same at the end of a word, merges, the two special tokens
START, END = "<|startoftext|>", "<|endoftext|>"
START_TOKEN = VOCABULARY_SIZE - 2
END_TOKEN = VOCABULARY_SIZE - 1  # the largest id
WORD_END = "</w>"
WORDS_REMEMBERED = 1 << 16

# A special token, an English ending, letters, one digit, or other signs; never white space.
WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def encode(text: str) -> list[int]:
    """Token ids of a text, without start and end token."""
    return [token for word in _pattern().findall(_clean(text)) for token in _encode_word(word)]


def decode(tokens: Iterable[int]) -> str:
    """Text of token ids, with a space behind each word."""
    known = _vocabulary()
    text = "".join(known.texts[token] for token in tokens)
    content = bytes(known.byte_of[letter] for letter in text)
    return content.decode("utf-8", errors="replace").replace(WORD_END, " ")


def token_ids() -> dict[str, int]:
    """Token -> id, in the order of ids: the letters that stand for bytes, merges, the special tokens."""
    return dict(_vocabulary().ids)


def merges() -> list[tuple[str, str]]:
    """The pairs that are merged, the most frequent first."""
    return list(_vocabulary().rank_of)


def _clean(text: str) -> str:
    """Repair broken encodings, resolve HTML that was escaped once or twice, lower case."""
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).lower()


@lru_cache(maxsize=WORDS_REMEMBERED)
def _encode_word(word: str) -> tuple[int, ...]:
    known = _vocabulary()
    if word in (START, END):
        return (known.ids[word],)
    letters = [known.letter_of[byte] for byte in word.encode("utf-8")]
    parts = [*letters[:-1], letters[-1] + WORD_END]
    while len(parts) > 1:
        pairs = [pair for pair in zip(parts, parts[1:], strict=False) if pair in known.rank_of]
        if not pairs:
            break
        parts = _merged(parts, min(pairs, key=known.rank_of.__getitem__))
    return tuple(known.ids[part] for part in parts)


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """The parts with every occurrence of the pair joined, from left to right."""
    joined, at = [], 0
    while at < len(parts):
        if tuple(parts[at : at + 2]) == pair:
            joined.append("".join(pair))
            at += 2
        else:
            joined.append(parts[at])
            at += 1
    return joined


@dataclass(frozen=True)
class _Vocabulary:
    letter_of: dict[int, str]  # byte -> a printable letter that stands for it
    byte_of: dict[str, int]
    rank_of: dict[tuple[str, str], int]  # pair -> its place among the merges
    texts: tuple[str, ...]  # by id
    ids: dict[str, int]


@cache
def _vocabulary() -> _Vocabulary:
    """Read from the merges: ids are the bytes, the bytes that end a word, the merges, the special tokens."""
    letters = _letters()
    count = VOCABULARY_SIZE - 2 * len(letters) - 2
    with gzip.open(MERGES, "rt", encoding="utf-8") as file:
        next(file)  # the version
        merges = [tuple(line.split()) for line, _ in zip(file, range(count), strict=False)]
    texts = (*letters.values(), *(letter + WORD_END for letter in letters.values()))
    texts = (*texts, *map("".join, merges), START, END)
    return _Vocabulary(
        letter_of=letters,
        byte_of={letter: byte for byte, letter in letters.items()},
        rank_of={pair: rank for rank, pair in enumerate(merges)},
        texts=texts,
        ids={text: number for number, text in enumerate(texts)},
    )


def _letters() -> dict[int, str]:
    """Byte -> letter, in the order of ids: printable bytes are themselves, the others follow from 256."""
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [byte for first, last in ranges for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [*map(chr, printable), *(chr(256 + number) for number in range(len(others)))]
    return dict(zip(printable + others, letters, strict=True))


@cache
def _pattern():
    import regex

    return regex.compile(WORD, regex.IGNORECASE)
