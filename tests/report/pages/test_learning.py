"""The learning curve: what a point is the mean of, and where it is drawn."""

import json
import math
import random
from itertools import groupby
from statistics import fmean

import pytest

from report.pages import learning
from report.pages.learning import HEIGHT, WIDTH, Line, curves, draw, nice_ticks, read_steps


def steps(epochs, batches, **values):
    """Lines of metrics.jsonl; each value is a function of the number of the step."""
    numbers = range(1, epochs * batches + 1)
    return [
        {"epoch": (n - 1) // batches + 1, "batch": (n - 1) % batches + 1}
        | {name: value(n) for name, value in values.items()}
        for n in numbers
    ]


def test_few_epochs_are_shown_step_by_step_the_learning_rate_last():
    lines, point = curves(steps(2, 3, lr=lambda n: 0.1 / n, loss=lambda n: 2.0 * n, acc=lambda n: 50.0))
    assert [line.name for line in lines] == ["loss", "acc", "lr"] and point == "A point is one step."
    assert lines[0] == Line("loss", (1, 2, 3, 4, 5, 6), (2.0, 4.0, 6.0, 8.0, 10.0, 12.0))


def test_of_many_epochs_a_point_is_the_mean_of_one():
    chance = random.Random(0)
    trained = steps(50, 7, loss=lambda n: chance.uniform(0, 3))
    (line,), point = curves(trained)
    by_epoch = [[step["loss"] for step in group] for _, group in groupby(trained, lambda step: step["epoch"])]
    assert line.values == pytest.approx([fmean(losses) for losses in by_epoch], rel=1e-14)
    assert line.steps == tuple(range(7, 351, 7)) and point == "A point is the mean of one epoch."


@pytest.mark.parametrize("epochs, batches, said", [(1, 1000, "9 steps"), (300, 2, "3 epochs")])
def test_no_line_has_more_points_than_can_be_seen(epochs, batches, said):
    (line,), point = curves(steps(epochs, batches, loss=float))
    assert len(line.values) <= learning.MOST_POINTS and point == f"A point is the mean of {said}."
    assert line.steps[-1] == epochs * batches


def test_steps_without_a_finite_number_are_counted_and_left_out():
    values = {1: 4.0, 2: math.nan, 3: math.inf, 4: None, 5: "x", 6: 2.0}
    lines, _ = curves(steps(1, 6, loss=values.get, note=lambda n: "text"))
    assert lines == [Line("loss", (1, 6), (4.0, 2.0), skipped=2)]


def test_nothing_trained_is_no_line(tmp_path):
    assert read_steps(tmp_path) == [] and curves([])[0] == []


@pytest.mark.parametrize("text, said", [('{"loss": 1}\n{', "line 2 is not valid JSON"), ("[]", "no step")])
def test_damage_is_named_with_its_line(text, said, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=f"metrics.jsonl.*{said}"):
        read_steps(tmp_path)


def test_metrics_are_read_as_they_were_written(tmp_path):
    trained = steps(2, 2, loss=lambda n: n / 3)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in trained))
    assert read_steps(tmp_path) == trained


@pytest.mark.parametrize("values", [(3.0, 1.0, 2.0), (5.0,), (0.0, 0.0), (-1e-7, 2e-7), (1e6, 1e6 + 3)])
def test_a_line_lies_within_its_picture_and_higher_is_above(values):
    drawing = draw(Line("loss", tuple(range(1, len(values) + 1)), values))
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in drawing.dots)
    heights = [y for _, y in drawing.dots]
    assert sorted(range(len(values)), key=values.__getitem__) == sorted(
        range(len(values)), key=lambda n: -heights[n]
    )
    assert len(drawing.y_ticks) >= 2 and len({label for _, label in drawing.x_ticks}) >= 1


@pytest.mark.parametrize("low, high", [(0, 1), (3.78, 6.35), (0.3231, 0.3263), (-20, 1000), (1e-5, 2e-3)])
def test_ticks_are_round_and_cover_the_range(low, high):
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0]
    digits = step / 10 ** math.floor(math.log10(step * 1.0001))
    assert min(abs(digits - round_one) for round_one in (1, 2, 5)) < 1e-6
    assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12 and 2 <= len(ticks) <= 8


def test_what_a_line_shows_is_said_in_words():
    said = draw(Line("loss", (1, 2, 3), (4.60437, 6.35, -3.78))).says
    assert said == "loss: 4.604 at first, −3.78 at the end, lowest −3.78, highest 6.35"
