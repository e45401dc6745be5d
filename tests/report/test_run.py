"""python -m report.run: one finished run, its classes, confusions and wrong images."""

import csv
import json
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.metrics import confusion_matrix, recall_score

from dassl.predictions import Prediction
from dassl.run_folder import write_start
from report import run as module
from report.pages.usage import words_to_test_again
from report.run import main

PROJECT = Path(__file__).parents[2]
V01 = PROJECT / "tests/fixtures/run_folders/v0.1"
TRAINED = "base2new/train_base/demo/shots_16/CLIPFit/demo/seed1"
TESTED = "base2new/test_new/demo/shots_16/CLIPFit/demo/seed1"
CLASSES = ["cat", "dog", "007", "bird"]


def drawn(classes, pictures):
    """Predictions by chance, right half of the time."""
    chance = random.Random(0)
    rows = []
    for number in range(pictures):
        label, other = chance.randrange(classes), chance.randrange(classes)
        first = chance.choice([label, other])
        second = (first + 1) % classes
        p = chance.uniform(0.5, 1)
        rows.append(Prediction(f"{number}.jpg", label, [first, second], [p, 1 - p]))
    return rows


@pytest.fixture
def shown(capsys):
    """What the command prints for a folder."""

    def _shown(folder, *words):
        assert main([str(folder), *map(str, words)]) == 0
        return capsys.readouterr().out

    return _shown


def section(text, title):
    """The cells of the lines of the table below a title."""
    lines = text[text.index(title) :].split("\n\n")[0].splitlines()[3:]
    return [line.split() for line in lines]


def test_the_numbers_of_classes_are_scikit_learns(tmp_path, shown, finished):
    rows = drawn(4, 200)
    text = shown(finished(tmp_path, rows, CLASSES), "--csv", tmp_path / "classes.csv")
    truth, said = [row.label for row in rows], [row.predicted for row in rows]
    recall = 100 * recall_score(truth, said, average=None)
    found = section(text, "Classes\n")
    assert [line[:2] for line in found] == [[str(n), name] for n, name in enumerate(CLASSES)]
    assert [int(line[2]) for line in found] == [truth.count(n) for n in range(4)]
    assert [line[4] for line in found] == [f"{value:.2f}" for value in recall]
    with open(tmp_path / "classes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in table] == pytest.approx(recall.tolist(), rel=1e-14)
    assert [row["class"] for row in table] == CLASSES and "Warning" not in text


def test_the_confusion_matrix_is_scikit_learns(tmp_path, shown, finished):
    rows = drawn(4, 200)
    found = section(shown(finished(tmp_path, rows, CLASSES)), "Confusion matrix")
    expected = confusion_matrix([row.label for row in rows], [row.predicted for row in rows])
    assert [[int(n.replace(".", "0")) for n in line[2:]] for line in found] == expected.tolist()
    assert [line[1] for line in found] == CLASSES


def test_of_many_classes_the_most_confused_pairs_are_shown(tmp_path, shown, monkeypatch, finished):
    monkeypatch.setattr(module, "MATRIX_UP_TO", 3)
    pairs = [(0, 1)] * 3 + [(3, 2)] * 5 + [(1, 1)] * 9 + [(2, 0)]
    rows = [Prediction("x", label, [said], None) for label, said in pairs]
    text = shown(finished(tmp_path, rows, CLASSES))
    assert "Confusion matrix" not in text and "Most confused of 3 pairs of classes" in text
    expected = [["bird", "007", "5"], ["cat", "dog", "3"], ["007", "cat", "1"]]
    assert section(text, "Most confused") == expected


def test_the_wrong_images_are_named_with_both_probabilities_most_confident_first(tmp_path, shown, finished):
    rows = [
        Prediction("a.jpg", 0, [0, 1], [0.9, 0.1]),
        Prediction("b.jpg", 0, [1, 0], [0.6, 0.4]),
        Prediction("c.jpg", 3, [2, 1], [0.8, 0.15]),
        Prediction("d.jpg", 1, [2, 0], None),
    ]
    folder = finished(tmp_path, rows, CLASSES)
    text = shown(folder)
    assert "3 of 3 wrong images, the most confident first, below /data/pets" in text
    assert section(text, "3 of 3 wrong") == [
        ["c.jpg", "bird", "007", "0.8000", "<", "0.1500"],
        ["b.jpg", "cat", "dog", "0.6000", "0.4000"],
        ["d.jpg", "dog", "007"],
    ]
    assert [line[0] for line in section(shown(folder, "--wrong", 1), "1 of 3 wrong")] == ["c.jpg"]
    assert "\n3 wrong images" in shown(folder, "--wrong", 0)


def test_what_produced_the_result_is_shown_with_every_start(tmp_path, shown, finished):
    folder = finished(tmp_path, drawn(2, 4), CLASSES, extras=["val search"], shots=16)
    write_start(folder, {"time": "T1", "commit": "aaa+changes", "changed": {"train.py": "f00d"}})
    write_start(folder, {"time": "T2", "commit": None, "no_commit": "git is not installed"})
    text = shown(folder)
    for name, value in (("method", "CLIPFit"), ("extras", "val search"), ("shots", "16"), ("seed", "3")):
        assert [name, *value.split()] in [line.split() for line in text.splitlines()]
    assert "start 1 of 2  T1, commit aaa+changes (train.py)" in text
    assert "start 2 of 2  T2, no commit known (git is not installed)" in text


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"correct": 1, "accuracy": 50.0}, "correct is 2 in predictions.jsonl, 1 in result.json"),
        ({"total": 4, "accuracy": 50.0}, "total is 2 in predictions.jsonl, 4 in result.json"),
        ({"macro_f1": 99.5}, "macro_f1 is 100.0 in predictions.jsonl, 99.5 in result.json"),
    ],
)
def test_predictions_of_another_test_are_said(changes, said, tmp_path, shown, finished):
    rows = [Prediction("a", 0, [0], None), Prediction("b", 1, [1], None)]
    assert f"Warning: {said}" in shown(finished(tmp_path, rows, CLASSES, **changes))


def test_a_run_that_was_not_tested_and_one_that_is_not_finished(tmp_path, shown, capsys):
    untested = {"accuracy": None, "trainer": "CLIPFit"}
    (tmp_path / "result.json").write_text(json.dumps(untested))
    assert "* not tested" in shown(tmp_path)
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "nowhere holds no finished run" in capsys.readouterr().err


def test_damaged_predictions_are_named(tmp_path, capsys, finished):
    finished(tmp_path, drawn(2, 4), CLASSES)
    with open(tmp_path / "predictions.jsonl", "a") as file:
        file.write("{\n")
    assert main([str(tmp_path)]) == 1
    assert "predictions.jsonl, line 6: it is not JSON" in capsys.readouterr().err


# Runs without predictions ---------------------------------------------------------------------------


def test_an_old_run_says_which_command_tests_it_again(shown, tmp_path, monkeypatch):
    shutil.copytree(V01, tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    text = shown(f"output/{TRAINED}")
    assert "accuracy: 9" in text and "This run left no predictions.jsonl" in text
    (command,) = [line for line in text.splitlines() if line.startswith("  ") and "python train.py" in line]
    words = shlex.split(command)
    assert words[words.index("--model-dir") + 1] == f"output/{TRAINED}" and "--eval-only" in words
    assert words[words.index("--output-dir") + 1] == f"tested/output/{TRAINED}"
    assert words[-2:] == ["DATASET.SUBSAMPLE_CLASSES", "base"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [TRAINED, TESTED])
def test_that_command_makes_the_predictions(name, demo_root, tmp_path, monkeypatch, shown):
    shutil.copytree(V01, tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(demo_root)
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    (command,) = [
        line for line in shown(f"output/{name}").splitlines() if "python train.py" in line and line[0] == " "
    ]
    words = shlex.split(command)[1:]
    subprocess.run([sys.executable, PROJECT / words[0], *words[1:]], check=True, capture_output=True)
    before, now = (
        json.loads(Path(run, "result.json").read_text())
        for run in (f"output/{name}", f"tested/output/{name}")
    )
    assert (now["total"], now["correct"]) == (before["total"], before["correct"])
    assert "Confusion matrix" in shown(f"tested/output/{name}")


def test_a_test_is_tested_again_with_its_own_model_and_seed(tmp_path):
    (tmp_path / "config.yaml").write_text("RUN: {EVAL_ONLY: true, PROTOCOL: base2new}\nSEED: 7\n")
    given = ["--output-dir", "there", "--eval-only", "--model-dir=m", "TEST.PREDICTIONS", "False", "A", "b c"]
    again = words_to_test_again(tmp_path, given)
    where = str(Path("tested", *tmp_path.parts[1:]))
    assert again == ["--output-dir", where, "--seed", "7", "--eval-only", "--model-dir=m", "A", "b c"]


def test_it_imports_no_torch():
    code = "import sys, report.run; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
