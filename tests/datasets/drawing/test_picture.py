"""Pictures follow from names and seeds, and show what the name says."""

import numpy as np
import pytest

from datasets import demo
from datasets.drawing import picture


def pixels(name, seed, condition="clean"):
    return np.asarray(picture.draw(name, np.random.default_rng(seed), condition), dtype=int)


@pytest.mark.parametrize("condition", picture.CONDITIONS)
def test_same_seed_same_picture_other_seed_other_picture(condition):
    for name in (demo.DEMO[0], demo.CLOTH[0], demo.SIGNS[0]):
        first = pixels(name, 1, condition)
        assert first.shape == (picture.SIZE, picture.SIZE, 3)
        assert (first == pixels(name, 1, condition)).all()
        assert (first != pixels(name, 2, condition)).any()


@pytest.mark.parametrize("shape", picture.SHAPES)
def test_figure_has_its_color_and_leaves_its_background_alone(shape):
    shown = pixels(f"plain red {shape}", 5)
    red = (shown[..., 0] > 150) & (shown[..., 1:].max(axis=-1) < 110)
    assert 0.08 < red.mean() < 0.75
    assert not red[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_patterns_differ_on_the_same_figure():
    pictures = [pixels(f"{pattern} blue square", 7) for pattern in picture.PATTERNS]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).mean() > 1


def test_conditions_change_how_a_picture_is_taken_but_not_what_it_shows():
    clean, lamp, mist = (pixels("plain green leaf", 1, condition) for condition in ("clean", "lamp", "mist"))
    blueness = [np.mean(shown[..., 2] / shown.mean(axis=-1)) for shown in (clean, lamp, mist)]
    assert blueness[0] > blueness[1] + 0.1 and blueness[0] > blueness[2] + 0.1
    for shown in (lamp, mist):
        assert np.corrcoef(clean[..., 0].ravel(), shown[..., 0].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", ["red striped star", "plain red", "plain red car", "red circle sign"])
def test_a_name_that_is_no_recipe_is_refused_with_the_forms(name):
    with pytest.raises(ValueError, match="cannot be drawn; write '<pattern> <color> <shape>'"):
        picture.draw(name, np.random.default_rng(0))
