"""The evaluator and the accuracy of a batch."""

import json
from pathlib import Path

import pytest
import torch

from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASE = json.loads((FIXTURES / "evaluator.json").read_text())
METERS = json.loads((FIXTURES / "meters.json").read_text())


def make(tmp_path, **test_keys):
    cfg = get_cfg_default()
    cfg.merge_from_mapping({"OUTPUT_DIR": str(tmp_path), "VERBOSE": False, "TEST": test_keys}, source="test")
    return build_evaluator(cfg, lab2cname={int(label): name for label, name in CASE["lab2cname"].items()})


def feed(evaluator):
    for batch in CASE["batches"]:
        evaluator.process(torch.tensor(batch["logits"]), torch.tensor(batch["labels"]))


def test_the_worked_example_comes_out(tmp_path):
    evaluator = make(tmp_path, PER_CLASS_RESULT=True)
    feed(evaluator)
    results = evaluator.evaluate()
    assert list(results) == CASE["result_key_order"]
    assert dict(results) == pytest.approx(CASE["results"], rel=1e-14)


def test_the_printed_block_is_the_familys_with_two_decimals(tmp_path, capsys):
    evaluator = make(tmp_path, PER_CLASS_RESULT=True)
    feed(evaluator)
    evaluator.evaluate()
    two_decimals = {
        "57.1": "57.14",
        "42.9": "42.86",
        "60.0": "60.00",
        "66.7": "66.67",
        "50.0": "50.00",
        "55.6": "55.56",
    }
    expected = "\n".join(CASE["printed_lines"])
    for one, two in two_decimals.items():
        expected = expected.replace(f"{one}%", f"{two}%")
    assert capsys.readouterr().out == expected + "\n"


def test_the_matches_of_each_class_are_listed_in_order_if_asked_for(tmp_path):
    evaluator = make(tmp_path, PER_CLASS_RESULT=True)
    feed(evaluator)
    expected = {}
    for batch in CASE["batches"]:
        for logits, label in zip(batch["logits"], batch["labels"], strict=True):
            expected.setdefault(label, []).append(int(logits.index(max(logits)) == label))
    assert evaluator._per_class_res == expected
    evaluator.reset()
    assert evaluator._per_class_res == {}
    assert make(tmp_path)._per_class_res is None


def test_counts_have_thousands_separators(tmp_path, capsys):
    evaluator = make(tmp_path)
    evaluator.process(torch.eye(2).repeat(1000, 1), torch.tensor([0, 0]).repeat(1000))
    evaluator.evaluate()
    out = capsys.readouterr().out
    assert "* total: 2,000\n* correct: 1,000\n* accuracy: 50.00%\n" in out


def test_counts_and_lists_are_readable_and_reset(tmp_path):
    evaluator = make(tmp_path)
    feed(evaluator)
    assert (evaluator._correct, evaluator._total) == (4, 7)
    assert evaluator._y_true == [0, 1, 1, 2, 0, 2, 0]
    assert evaluator._y_pred == [0, 2, 1, 3, 0, 2, 1]
    evaluator.reset()
    assert (evaluator._correct, evaluator._total, evaluator._y_true, evaluator._y_pred) == (0, 0, [], [])


def test_macro_f1_is_the_mean_over_the_labels_that_occur(tmp_path):
    """Against the definition, class by class."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 7, generator=generator)
    labels = torch.randint(
        0, 5, (200,), generator=generator
    )  # classes 5 and 6 never occur, but are predicted
    evaluator = make(tmp_path)
    evaluator.process(logits, labels)
    predicted = logits.argmax(dim=1)
    scores = []
    for label in sorted(set(labels.tolist())):
        hits = sum(int(p == t == label) for p, t in zip(predicted, labels, strict=True))
        precision = hits / max(1, int((predicted == label).sum()))
        recall = hits / int((labels == label).sum())
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert evaluator.evaluate()["macro_f1"] == pytest.approx(100 * sum(scores) / len(scores))


def test_the_confusion_matrix_is_a_tensor_that_loads_safely(tmp_path):
    evaluator = make(tmp_path, COMPUTE_CMAT=True)
    feed(evaluator)
    evaluator.evaluate()
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=True)
    assert matrix.tolist() == CASE["confusion_matrix_row_normalised"]


def test_evaluating_nothing_and_naming_no_classes_are_errors(tmp_path):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        make(tmp_path).evaluate()
    cfg = get_cfg_default()
    cfg.TEST.PER_CLASS_RESULT = True
    with pytest.raises(ValueError, match="lab2cname"):
        build_evaluator(cfg)
    cfg.TEST.EVALUATOR = "classification"
    with pytest.raises(ValueError, match="did you mean 'Classification'"):
        build_evaluator(cfg)


def test_accuracy_of_a_batch():
    case = METERS["compute_accuracy"]
    output, target = torch.tensor(case["output"]), torch.tensor(case["target"])
    (top1,) = compute_accuracy(output, target)
    assert top1.shape == (1,)
    assert top1.item() == pytest.approx(case["top1"], rel=1e-6)
    top1, top3 = compute_accuracy((output, "features"), target, topk=(1, 3))
    assert (top1.item(), top3.item()) == (pytest.approx(66.6667, rel=1e-5), 100.0)
    assert compute_accuracy(output.t().contiguous().t(), target, topk=(2,))[0].item() == 100.0


def test_scores_that_are_not_numbers_are_an_error_and_not_a_class():
    evaluator = build_evaluator(get_cfg_default(), lab2cname={0: "a", 1: "b"})
    with pytest.raises(FloatingPointError, match="diverged"):
        evaluator.process(torch.tensor([[0.0, float("nan")]]), torch.tensor([0]))
