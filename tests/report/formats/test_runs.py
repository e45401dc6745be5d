"""The table of runs."""

from report.formats.runs import run_rows, states


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


def test_states_are_counted(runs):
    assert states(runs) == "2 done, 1 todo"
