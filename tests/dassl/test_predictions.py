"""predictions.jsonl: what is written, what is read back, and what damage is called."""

import gzip
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from dassl import predictions
from dassl.predictions import (
    Prediction,
    class_scores,
    count_pairs,
    macro_f1,
    most_confident_errors,
    most_confused,
    read_predictions,
    wilson_interval,
    writing,
)

CLASSES = ["banded", "dotted", "größe"]
WORKED = [
    Prediction("banded/a.jpg", 0, [0, 2, 1], [0.5, 0.3, 0.2]),
    Prediction("banded/ü.jpg", 0, [2, 0, 1], None),
]
HEADER = '{"format": 1, "classes": ["banded", "dotted", "gr\\u00f6\\u00dfe"], "root": "/data"}'
GOOD = '{"image": "a.jpg", "label": 0, "top": [0, 1], "p": [0.6, 0.4]}'


def write(folder, rows=WORKED, pictures=2):
    with writing(folder, CLASSES, "/data", pictures) as add:
        for row in rows:
            add(row)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_header_and_a_line_per_picture_come_back_as_they_went(tmp_path):
    write(tmp_path)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert lines[0] == HEADER and len(lines) == 3
    assert json.loads(lines[1]) == {
        "image": "banded/a.jpg",
        "label": 0,
        "top": [0, 2, 1],
        "p": [0.5, 0.3, 0.2],
    }
    found = read_predictions(tmp_path)
    assert (found.classes, found.root) == (CLASSES, "/data")
    assert list(found) == list(found) == WORKED  # it may be read many times


def test_many_pictures_are_compressed_and_read_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "GZIP_ABOVE", 2)
    write(tmp_path, pictures=2)
    assert names(tmp_path) == ["predictions.jsonl"]
    write(tmp_path, WORKED * 2, pictures=4)
    assert names(tmp_path) == ["predictions.jsonl.gz"]  # nothing of an earlier test stays
    assert list(read_predictions(tmp_path)) == WORKED * 2
    once = (tmp_path / "predictions.jsonl.gz").read_bytes()
    write(tmp_path, WORKED * 2, pictures=4)
    assert (tmp_path / "predictions.jsonl.gz").read_bytes() == once


@pytest.mark.parametrize("pictures", [2, 20_000])
def test_a_test_that_fails_leaves_the_old_file(pictures, tmp_path):
    write(tmp_path, pictures=pictures)
    before = names(tmp_path), list(read_predictions(tmp_path))
    with (
        pytest.raises(FloatingPointError),
        writing(tmp_path, CLASSES, "/", pictures) as add,
    ):
        add(WORKED[0])
        raise FloatingPointError
    assert (names(tmp_path), list(read_predictions(tmp_path))) == before


def test_a_folder_without_predictions_has_none(tmp_path):
    assert read_predictions(tmp_path) is None


@pytest.mark.parametrize(
    "lines, message",
    [
        ([], "line 1: the first line must be"),
        (["[1]"], "line 1: the first line must be"),
        (['{"format": 1, "classes": ["a", 2], "root": ""}'], "line 1: it must have classes"),
        (['{"format": 2}'], "format 2, the code here reads up to 1"),
        ([HEADER, GOOD, "{"], "line 3: it is not JSON"),
        ([HEADER, '{"image": "a"}'], "line 2: a picture's line has image, label, top, p"),
        ([HEADER, GOOD.replace('"label": 0', '"label": 3')], "line 2: 3 is no id of the 3 classes"),
        ([HEADER, GOOD.replace('"label": 0', '"label": "0"')], "line 2: '0' is no id"),
        ([HEADER, GOOD.replace('"label": 0', '"label": true')], "line 2: True is no id"),
        ([HEADER, GOOD.replace("[0, 1]", "[]")], r"line 2: top is \[\]"),
        ([HEADER, GOOD.replace("[0, 1]", "[0, -1]")], "line 2: -1 is no id"),
        ([HEADER, GOOD.replace("0.4]", "0.4, 0]")], "line 2: p is .* a number for each of"),
        ([HEADER, GOOD.replace("0.4]", "NaN]")], "line 2: p is .* a number from 0 to 1"),
        ([HEADER, GOOD.replace("0.4]", "1.5]")], "line 2: p is .* a number from 0 to 1"),
        ([HEADER, "[" * 100_000], "line 2: a number of thousands of digits, or groups without end"),
        ([HEADER, GOOD.replace('"label": 0', '"label": ' + "9" * 5_000)], "line 2: a number of thousands"),
        ([HEADER, GOOD.replace('"a.jpg"', "7")], "line 2: image is 7"),
    ],
)
def test_damage_is_named_with_file_and_line(lines, message, tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
        list(read_predictions(tmp_path))


def test_a_file_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text(f"{HEADER}\n{GOOD}\n{GOOD}")  # the last line is whole but for its end
    with pytest.raises(ValueError, match="line 3: the line is cut off"):
        list(read_predictions(tmp_path))
    path.write_bytes(f"{HEADER}\n".encode() + b"\xff\n")
    with pytest.raises(ValueError, match="line 2: it is not UTF-8"):
        list(read_predictions(tmp_path))
    path.unlink()
    whole = gzip.compress("\n".join([HEADER, *[GOOD] * 100, ""]).encode())
    for damaged in (whole[:-4], whole[:-8] + b"\0\0\0\0" + whole[-4:], b"no gzip at all"):
        (tmp_path / "predictions.jsonl.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"predictions.jsonl.gz, line \d+: the compressed data"):
            list(read_predictions(tmp_path))


def test_numbers_of_classes_are_scikit_learns(tmp_path):
    chance = random.Random(0)
    classes = [f"c{n}" for n in range(7)]  # 5 and 6 are no labels, but are predicted
    pairs = [(chance.randrange(5), chance.randrange(7)) for _ in range(300)]
    with writing(tmp_path, classes, "", 300) as add:
        for label, predicted in pairs:
            add(Prediction("x", label, [predicted], None))
    truth, said = zip(*pairs, strict=True)
    counts = count_pairs(read_predictions(tmp_path))
    matrix = confusion_matrix(truth, said, labels=range(7))
    assert [[counts[row, column] for column in range(7)] for row in range(7)] == matrix.tolist()
    _, recall, _, support = precision_recall_fscore_support(truth, said, labels=range(5), zero_division=0)
    scores = class_scores(counts, classes)
    assert [score.accuracy for score in scores] == pytest.approx((100 * recall).tolist())
    assert [score.images for score in scores] == support.tolist()
    assert [score.name for score in scores] == classes[:5]
    assert macro_f1(counts) == pytest.approx(100 * f1_score(truth, said, labels=range(5), average="macro"))


def test_reading_imports_no_torch():
    code = "import sys, dassl.predictions; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


# Intervals and orders -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "correct, total", [(0, 1), (1, 1), (0, 30), (30, 30), (7, 10), (277, 600), (1, 10**6)]
)
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_interval_of_an_accuracy_is_scipys(correct, total, level):
    expected = binomtest(correct, total).proportion_ci(level, method="wilson")
    low, high = wilson_interval(correct, total, level)
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), rel=1e-9, abs=1e-9)
    assert 0 <= low <= 100 * correct / total <= high <= 100


def test_pairs_are_in_the_order_of_their_pictures_and_right_ones_are_none():
    counts = Counter({(0, 0): 9, (1, 0): 2, (2, 1): 5, (0, 2): 2})
    assert most_confused(counts) == [((2, 1), 5), ((0, 2), 2), ((1, 0), 2)]


def test_errors_come_by_their_confidence_those_without_logits_last(tmp_path):
    chance = random.Random(3)
    rows = []
    for n in range(200):
        p = sorted((chance.random() for _ in range(3)), reverse=True)
        rows.append(Prediction(f"{n}.jpg", chance.randrange(3), [0, 1, 2], p if n % 5 else None))
    write(tmp_path, rows)
    wrong = [row for row in rows if row.label != row.top[0]]
    slow = sorted(wrong, key=lambda row: (row.p is None, -(row.p or [0])[0]))
    found = most_confident_errors(read_predictions(tmp_path), len(rows))
    assert found == slow and most_confident_errors(read_predictions(tmp_path), 7) == slow[:7]
