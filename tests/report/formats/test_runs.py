"""The table of runs."""

from dataclasses import replace

import pytest

from report.formats.runs import is_embedded, run_rows, states


def test_a_run_in_numbers(runs):
    row = run_rows(runs)[0][0]
    assert (row.accuracy, row.params, row.memory_mb) == (63.125, 46080, 1024.0)
    assert row.ms_per_image == 5.0  # 94 s over 188 images in 100 epochs
    assert (row.help, row.precision, row.backbone) == (("val search",), "amp", "ViT-B/16")


def test_facts_of_an_environment(runs):
    facts = run_rows(runs)[0][0].facts
    assert (facts["commit"], facts["torch"], facts["device"], facts["threads"]) == (
        "0123456+",
        "2.9.1",
        "cpu",
        "2",
    )


def test_runs_that_differ_in_their_images_alone_share_an_environment(runs):
    rows, environments = run_rows(runs)
    assert [row.environment for row in rows] == [1, 1, None]
    assert len(environments) == 1 and "lists" not in environments[0]


@pytest.mark.parametrize(
    "name, embedded",
    [
        ("few_shot/demo/shots_1", True),
        ("few_shot/demo_v2/shots_1", True),
        ("few_shot/dtd/demonstration", False),
    ],
)
def test_a_run_that_is_not_done_is_embedded_by_its_folder(runs, name, embedded):
    assert is_embedded(replace(runs[2], name=name)) is embedded


def test_the_result_knows_better_than_the_folder(runs):
    assert not is_embedded(replace(runs[0], name="few_shot/demo/shots_1"))


def test_states_are_counted(runs):
    assert states(runs) == "2 done, 1 todo"
