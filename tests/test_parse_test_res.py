"""parse_test_res.py: which number of which file counts, and what is printed."""

import json

import pytest

from parse_test_res import END_OF_TRAINING, RESULT_BLOCK, main, read_log

VALIDATION = "=> result\n* accuracy: 11.00%\n"
TEST = "=> result\n* total: 8,100\n* correct: 4,630\n* accuracy: 57.16%\n* macro_f1: 5.69e+01%\n"


@pytest.mark.parametrize("signal", ["Finish training", "Finished training"])
def test_either_end_line_separates_validation_from_the_final_test(signal):
    log = f"{VALIDATION}{signal}\nDeploy the last-epoch model\n{TEST}"
    assert read_log(log, "accuracy", END_OF_TRAINING) == 57.16
    assert read_log(log, "macro_f1", END_OF_TRAINING) == 56.9


def test_a_log_that_has_not_ended_has_no_result_unless_it_only_tested():
    assert read_log(TEST, "accuracy", END_OF_TRAINING) is None
    assert read_log(TEST, "accuracy", RESULT_BLOCK) == 57.16


def test_a_sentence_that_contains_the_end_line_is_not_the_end_line():
    assert read_log(f"Will print Finish training\n{TEST}", "accuracy", END_OF_TRAINING) is None


def test_the_last_result_of_an_appended_log_wins():
    log = f"Finish training\n{TEST}\n# second start\nFinish training\n* accuracy: 60.5%\n"
    assert read_log(log, "accuracy", END_OF_TRAINING) == 60.5


@pytest.fixture
def runs(tmp_path):
    """Two runs with result.json, whose logs say something else, and one with a log only: 70, 74 and 60."""
    experiment = tmp_path / "vit_b16"
    for seed, accuracy in ((1, 70.0), (2, 74.0)):
        folder = experiment / f"seed{seed}"
        folder.mkdir(parents=True)
        result = {"accuracy": accuracy, "error_rate": 100 - accuracy, "macro_f1": None}
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "log.txt").write_text("Finish training\n* accuracy: 1.0%\n* macro_f1: 50.0%\n")
    (experiment / "seed3").mkdir()
    (experiment / "seed3" / "log.txt").write_text("Finished training\n* accuracy: 60.0%\n* macro_f1: 50.0%\n")
    (experiment / ".hidden").mkdir()
    return experiment


def test_mean_and_population_deviation_prefer_result_json(runs, capsys):
    assert main([str(runs)]) == 0
    out = capsys.readouterr().out
    assert "* accuracy: 68.00% +- 5.89%" in out  # sqrt((4 + 36 + 64) / 3)
    assert ".hidden" not in out


def test_ci95_is_1_96_deviations_over_the_root_of_the_runs(runs, capsys):
    main([str(runs), "--ci95"])
    assert "+- 6.66%" in capsys.readouterr().out  # 1.96 * 5.888 / sqrt(3)


def test_a_value_that_result_json_leaves_open_is_read_from_the_log(runs, capsys):
    main([str(runs), "--keyword", "macro_f1"])
    assert "* macro_f1: 50.00% +- 0.00%  (3 runs" in capsys.readouterr().out


def test_a_run_without_result_is_named_and_left_out(runs, capsys):
    (runs / "seed4").mkdir()
    main([str(runs)])
    out = capsys.readouterr().out
    assert "seed4  no result, left out" in out
    assert "(3 of 4 runs" in out and "  of seeds 1, 2, 3\n" in out


def test_multi_exp_averages_the_experiments(runs, capsys):
    assert main([str(runs.parent), "--multi-exp"]) == 0
    assert "* accuracy: 68.00%  (average of 1 experiments)" in capsys.readouterr().out


def test_an_experiment_without_result_is_named_and_left_out(runs, capsys):
    (runs.parent / "empty/seed1").mkdir(parents=True)
    assert main([str(runs.parent), "--multi-exp"]) == 0
    out = capsys.readouterr().out
    assert "left out: no run in" in out and "* accuracy: 68.00%  (average of 1 of 2 experiments)" in out


@pytest.mark.parametrize("make", [[], ["seed1"]], ids=["no sub-folder", "no result"])
def test_nothing_to_average_is_an_error_that_says_what_to_do(tmp_path, make, capsys):
    for name in make:
        (tmp_path / name).mkdir()
    assert main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_a_folder_that_does_not_exist_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path / "typo")]) == 1
    assert "typo is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, reason",
    [
        ('{"accuracy": 7', "is not valid JSON"),
        ("[]", "it holds [], no result"),
        ('{"accuracy": NaN}', "accuracy is nan, no number"),
        ('{"accuracy": 150.0}', "accuracy is 150.0, which cannot be"),
        ('{"accuracy": 50.0, "correct": 3, "total": 4}', "3 correct images of 4 are 75.00 %"),
    ],
)
def test_a_damaged_result_json_is_named_and_left_out(content, reason, runs, capsys):
    (runs / "seed2" / "result.json").write_text(content)
    assert main([str(runs)]) == 0
    out = capsys.readouterr().out
    assert "seed2/result.json" in out and reason in out
    assert "* accuracy: 65.00% +- 5.00%  (2 of 3 runs" in out  # 70 and 60


@pytest.mark.parametrize("value", ["150.00", "1e999"])
def test_a_log_that_says_what_cannot_be_is_told(value, tmp_path, capsys):
    (tmp_path / "seed1").mkdir()
    (tmp_path / "seed1/log.txt").write_text(f"Finish training\n* accuracy: {value}%\n")
    assert main([str(tmp_path)]) == 1
    assert "log.txt is damaged: accuracy is" in capsys.readouterr().out
