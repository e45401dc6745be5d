"""Token ids are those of OpenAI's tokenizer."""

import random
import subprocess
import sys

import pytest

from clipfit import tokenizer
from clipfit.clip_package import prepare_import_of_clip
from clipfit.tokenizer import decode, encode

PIECES = [  # what texts are drawn from
    *(
        "a photo of a",
        "GOLDEN Retriever",
        "don't they'll we've I'd",
        "x-ray",
        "2012 audi r8",
        "...",
        "!!",
        "’s",
    ),
    *("éàüßÇñ", "ΑΒΓΣ Σς İıﬁ", "日本語", "한국어", "😀", "👩‍👩‍👧", "🏽", "½²٣५"),
    *("&amp;", "&amp;amp;lt;b&gt;", "<br>", "&#x27;", "&nbsp;", "&notit;", "Ã©", "â€™", "\ud83d"),
    *("\t", "\n\n", "\u3000", "\u00a0", "\x1c", "\x85", "\x00", "\u200b", " "),
    *("<|startoftext|>", "<|ENDOFTEXT|>", "</w>", "Ġ", "aaaaaaaaaaaaaaaa", "unbelievably"),
]


def texts(count):
    """Strings of all kinds from a fixed seed, some of them long."""
    draw = random.Random(0)
    signs = [chr(code) for first, last in ((1, 0x3000), (0xFB00, 0xFFF0), (0x1F300, 0x1F700))
             for code in range(first, last)]  # fmt: skip
    for _ in range(count):
        length = draw.choice((1, 3, 8, 20))
        kind = draw.random()
        if kind < 0.5:
            yield "".join(draw.choice(PIECES) + draw.choice(("", " ")) for _ in range(length))
        elif kind < 0.9:
            yield "".join(draw.choice(signs) for _ in range(2 * length))
        else:
            yield "".join(draw.choice("abcdefghijklmnopqrstuvwxyz    '-") for _ in range(20 * length))


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_ids_are_the_packages_on_strings_of_all_kinds(count):
    prepare_import_of_clip()
    package = pytest.importorskip(
        "clip.simple_tokenizer", reason="the package clip-anytorch, which is compared with, is not installed"
    )
    theirs, compared = package.SimpleTokenizer(), 0
    for text in texts(count):
        ids = encode(text)
        assert ids == theirs.encode(text), repr(text)
        assert decode(ids) == theirs.decode(ids), repr(text)
        compared += len(ids)
    assert compared > 10 * count


def test_known_ids():
    """As OpenAI's own tokenizer gives them; these hold where the package is not installed."""
    assert encode("a photo of a cat.") == [320, 1125, 539, 320, 2368, 269]
    assert encode("A photo’s of &amp;amp; <b> café 😀 it's 12345") == [
        *(320, 1125, 568, 539, 261, 283, 321, 285, 15304, 7334, 585, 568, 272, 273, 274, 275, 276)
    ]
    assert encode("<|startoftext|> a <|endoftext|>") == [tokenizer.START_TOKEN, 320, tokenizer.END_TOKEN]
    assert encode(" \t\n") == encode("") == []


def test_text_comes_back_with_a_space_behind_each_word():
    assert decode(encode("A  Photo of <b>日本</b> & 😀!")) == "a photo of < b > 日本 </ b > & 😀! "
    assert decode(encode("😀")[:1]) != ""  # a part of a sign is no error


def test_every_id_has_one_text():
    known = tokenizer._vocabulary()
    assert len(known.texts) == len(known.ids) == tokenizer.VOCABULARY_SIZE
    assert known.texts[-2:] == (tokenizer.START, tokenizer.END)


def test_importing_it_loads_neither_torch_nor_the_merges():
    code = "import sys, clipfit.tokenizer; print({'torch', 'ftfy', 'regex'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
