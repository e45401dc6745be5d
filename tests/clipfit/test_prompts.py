"""Templates per data set and method, and prompts as token ids."""

import pytest
import torch

from clipfit.clip import CLIP
from clipfit.openai import package
from clipfit.prompts import ENSEMBLE, fill, template_for, tokenize, untrained_tokens

CELLS = {  # data set: default, kgcoop, prograd
    "OxfordPets": ("a photo of a {}, a type of pet.", None, "a type of pet, a photo of a {}."),
    "DescribableTextures": ("{} texture.", "a photo of a {}, a type of texture.", "a texture of {}."),
    "EuroSAT": ("a centered satellite photo of {}.", None, None),
    "Food101": ("a photo of {}, a type of food.", None, "a type of food, a photo of {}."),
    "UCF101": ("a photo of a person doing {}.", None, None),
    "ImageNetSketch": ("a photo of a {}.", None, None),
    "SomethingNew": ("a photo of a {}.", None, None),
}


@pytest.mark.parametrize("dataset", CELLS)
def test_template_of_each_column_with_default_where_a_cell_is_empty(dataset):
    default, *others = CELLS[dataset]
    assert template_for(dataset) == default
    for column, cell in zip(("kgcoop", "prograd"), others, strict=True):
        assert template_for(dataset, column) == (cell or default)


def test_override_wins_for_every_data_set():
    assert template_for("DescribableTextures", "kgcoop", "a close-up of {}.") == "a close-up of {}."


@pytest.mark.parametrize("override", ["a photo.", "{} and {}", "a photo of a {name}."])
def test_override_needs_exactly_one_place_for_the_name(override):
    with pytest.raises(ValueError, match="exactly one is needed"):
        template_for("ImageNet", override=override)


def test_unknown_column_names_the_columns():
    with pytest.raises(ValueError, match="default, kgcoop, prograd"):
        template_for("ImageNet", "coop")


def test_fill_turns_underscores_to_spaces_and_leaves_the_rest():
    assert fill("a {x} {}.", ["air_plane", "St. {} Bernard"]) == ["a {x} air plane.", "a {x} St. {} Bernard."]
    assert len(ENSEMBLE) == 7
    assert all(fill(template, ["cat"]) for template in ENSEMBLE)


def test_tokens_are_those_of_the_package():
    names = ["cat", "Golden  Retriever", "caf&amp;eacute;", "日本"]
    prompts = fill("a photo of a {}.", names)
    tokens = tokenize(prompts, names)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, package.tokenize(prompts))


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
    cat = package._tokenizer.encode("cat")[0]
    saved = clip.token_embedding.weight[cat].clone()
    with torch.no_grad():
        clip.token_embedding.weight[cat] = 0
        found = untrained_tokens(clip, tokens, names)
        clip.token_embedding.weight[cat] = saved
    assert found == [("red cat", "cat"), ("cat cat", "cat")]
