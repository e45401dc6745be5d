"""The table of runs."""

from report.formats.runs import facts, run_rows, states
from report.model import ReportedRun


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


def numbers(*starts):
    """The environments of runs, given the starts of each, and what the report says of each environment."""
    runs = tuple(ReportedRun(f"run{n}", "done", "", {}, tuple(each)) for n, each in enumerate(starts))
    rows, environments = run_rows(runs)
    return [row.environments for row in rows], environments


def test_runs_that_differ_in_images_time_and_commit_alone_share_an_environment(runs):
    rows, environments = run_rows(runs)
    assert [row.environments for row in rows] == [(1,), (1,), ()]
    one, other = ({"device": "cpu", "time": time, "commit": time, "inputs": time} for time in ("12", "13"))
    found, (environment,) = numbers([one], [other])
    assert found == [(1,), (1,)] and facts(environment)["commit"] == "12, 13"


def test_a_run_that_moved_has_two_environments_and_all_its_commits():
    starts = [
        {"device": "cpu", "commit": "0123456789+changes"},
        {"device": "A100", "commit": None},
        {"device": "A100", "commit": "89abcdef01"},
    ]
    run = ReportedRun("run", "done", "", {}, tuple(starts))
    (row,), environments = run_rows((run,))
    assert row.environments == (1, 2) and row.facts["commit"] == "0123456+, none, 89abcde"
    assert [facts(each)["commit"] for each in environments] == ["0123456+", "none, 89abcde"]


def test_a_package_that_only_one_run_imported_makes_no_other_environment():
    """Older versions listed what a process had imported: only figures import matplotlib."""
    one = {"device": "cpu", "packages": {"torch": "2.9", "matplotlib": "3.9"}}
    other = {"device": "cpu", "packages": {"torch": "2.9", "tqdm": "4.66"}, "ranks": 1}
    newer = {"device": "cpu", "packages": {"torch": "2.10", "tqdm": "4.66"}, "ranks": 1}
    found, environments = numbers([one], [other], [newer])
    assert found == [(1,), (1,), (2,)]
    assert environments[0]["packages"] == {"torch": "2.9", "matplotlib": "3.9", "tqdm": "4.66"}


def test_a_package_that_is_not_installed_makes_another_environment():
    found, _ = numbers([{"packages": {"gdown": None}}], [{"packages": {"gdown": "5"}}])
    assert found == [(1,), (2,)]


def test_states_are_counted(runs):
    assert states(runs) == "2 done, 1 todo"
