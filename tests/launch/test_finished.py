"""What is asked of a run that is finished already."""

import torch

WORDS = ["--trainer", "ZeroshotCLIP", "--seed", 1, "--output-dir", "run"]
ASKED = ["TEST.PER_CLASS_RESULT", "True", "TEST.COMPUTE_CMAT", "True"]


def per_class(text):
    return text[text.index("=> per-class result") :].partition("Confusion")[0].partition("Elapsed")[0]


def test_numbers_of_classes_are_made_from_the_predictions_of_a_finished_run(run_train, tmp_path, capsys):
    assert run_train(*WORDS) is None
    assert "per-class" not in capsys.readouterr().out
    assert run_train(*WORDS, *ASKED) is None
    later = capsys.readouterr().out
    assert "run is finished already" in later and "Confusion matrix saved to run/cmat.pt" in later

    words = [*WORDS[:-1], "asked_at_once", *ASKED]
    assert run_train(*words) is None
    assert per_class(later) == per_class(capsys.readouterr().out)
    matrices = [torch.load(tmp_path / run / "cmat.pt", weights_only=True) for run in ("run", "asked_at_once")]
    assert torch.equal(*matrices) and matrices[0].shape == (20, 20)


def test_a_run_without_predictions_says_where_the_numbers_are_to_be_had(run_train, tmp_path, capsys):
    assert run_train(*WORDS, "TEST.PREDICTIONS", "False") is None
    assert not (tmp_path / "run/predictions.jsonl").exists()
    assert run_train(*WORDS, *ASKED) is None
    said = capsys.readouterr().out
    assert "TEST.PER_CLASS_RESULT and TEST.COMPUTE_CMAT: this run left no predictions.jsonl" in said
    assert "python -m report.run run says how" in said
