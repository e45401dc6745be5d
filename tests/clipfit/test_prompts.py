"""Which of the declared templates counts, and prompts as token ids."""

import pytest
import torch

from clipfit.clip import CLIP
from clipfit.prompts import ENSEMBLE, choose_template, fill, tokenize, untrained_tokens
from clipfit.tokenizer import encode

TEXTURE = {"default": "{} texture.", "kgcoop": "a photo of a {}, a type of texture."}


@pytest.mark.parametrize(
    "templates, column, expected",
    [
        ({}, "default", "a photo of a {}."),
        ({}, "kgcoop", "a photo of a {}."),
        (TEXTURE, "default", "{} texture."),
        (TEXTURE, "kgcoop", "a photo of a {}, a type of texture."),
        (TEXTURE, "prograd", "{} texture."),
    ],
)
def test_a_column_that_is_not_declared_is_the_default_and_that_the_plain_template(
    templates, column, expected
):
    assert choose_template(templates, column) == expected


def test_override_wins_for_every_data_set():
    assert choose_template(TEXTURE, "kgcoop", "a close-up of {}.") == "a close-up of {}."


@pytest.mark.parametrize("override", ["a photo.", "{} and {}", "a photo of a {name}."])
def test_override_needs_exactly_one_place_for_the_name(override):
    with pytest.raises(ValueError, match="exactly one is needed"):
        choose_template({}, override=override)


def test_fill_turns_underscores_to_spaces_and_leaves_the_rest():
    assert fill("a {x} {}.", ["air_plane", "St. {} Bernard"]) == ["a {x} air plane.", "a {x} St. {} Bernard."]
    assert len(ENSEMBLE) == 7
    assert all(fill(template, ["cat"]) for template in ENSEMBLE)


def test_tokens_are_start_text_and_end_then_zeros():
    tokens = tokenize(fill("a photo of a {}.", ["cat", "Golden  Retriever"]), ["cat", "Golden  Retriever"])
    assert tokens.dtype == torch.int64 and tokens.shape == (2, 77)
    # as OpenAI's own tokenizer gives them
    assert tokens[0, :8].tolist() == [49406, 320, 1125, 539, 320, 2368, 269, 49407]
    assert tokens[1, 5:9].tolist() == [3878, 28394, 269, 49407]
    assert tokens[0, 8:].sum() == tokens[1, 9:].sum() == 0


def test_a_prompt_that_does_not_fit_names_its_class_and_length():
    fits, too_long = " ".join(["dog"] * 70), " ".join(["dog"] * 72)
    with pytest.raises(ValueError, match="78 tokens.*at most 77.*") as error:
        names = ["cat", fits, too_long]
        tokenize(fill("a photo of {}.", names), names)
    assert repr(too_long) in str(error.value)


def test_no_classes_or_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="0 prompts for 0 classes"):
        tokenize([], [])
    with pytest.raises(ValueError, match="1 prompts for 2 classes"):
        tokenize(["a cat"], ["cat", "dog"])


def test_tokens_without_embedding_are_named_with_their_class(tiny_model):
    clip = CLIP(tiny_model)
    names = ["dog", "red cat", "cat cat"]
    tokens = tokenize(fill("a {}.", names), names)
    assert untrained_tokens(clip, tokens, names) == []
    cat = encode("cat")[0]
    saved = clip.token_embedding.weight[cat].clone()
    with torch.no_grad():
        clip.token_embedding.weight[cat] = 0
        found = untrained_tokens(clip, tokens, names)
        clip.token_embedding.weight[cat] = saved
    assert found == [("red cat", "cat"), ("cat cat", "cat")]
