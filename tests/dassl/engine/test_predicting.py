"""What the final test writes about every picture."""

from math import exp
from pathlib import Path

import pytest
import torch
from plugins import Linear, make_cfg

from dassl import predictions
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.predicting import top_classes
from dassl.predictions import read_predictions

INF = float("inf")


def plugin(**methods):
    """A Linear with other methods, registered under the name it returns."""
    trainer = type("OwnWays", (Linear,), methods)
    TRAINER_REGISTRY.register(trainer, force=True)
    return "OwnWays"


def finished(folder, build, trainer="Linear", **settings):
    """Train and test; return the predictions and the result."""
    cfg = make_cfg(folder, trainer, OPTIM__MAX_EPOCH=1, **settings)
    trainer = build(cfg)
    trainer.train()
    return read_predictions(cfg.OUTPUT_DIR), trainer.result()


def test_a_worked_example(folder, build):
    """Logits made by hand for six pictures in batches of four, the last of two."""
    logits = [[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [-INF, 0.0], [3.0, 3.5]]
    batches = iter([torch.tensor(logits[:4]), torch.tensor(logits[4:])])
    own = plugin(model_inference=lambda self, images: next(batches))
    found, result = finished(folder, build, own, DATALOADER__TEST__BATCH_SIZE=4)
    assert (found.classes, found.root) == (["red", "blue"], f"{folder}/data")
    rows = list(found)
    assert [row.image for row in rows] == [f"{n}.png" for n in range(14, 20)]
    assert [row.label for row in rows] == [0, 1, 0, 1, 0, 1]
    assert [row.top for row in rows] == [[0, 1], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0]]
    for row, (a, b) in zip(rows, logits, strict=True):
        p = [exp(a) / (exp(a) + exp(b)), exp(b) / (exp(a) + exp(b))]
        assert row.p == pytest.approx([p[id] for id in row.top], rel=1e-6)
    assert sum(row.right for row in rows) == result["correct"] == 4


def test_the_best_five_of_many_classes():
    logits = torch.arange(7.0)[[3, 1, 6, 0, 2, 5, 4]]  # its value at id 2 is the highest, 6
    (ids,), (p,) = top_classes(logits[None])
    assert ids == [2, 5, 6, 0, 4]
    assert p == pytest.approx([exp(v) / sum(exp(w) for w in range(7)) for v in (6, 5, 4, 3, 2)], rel=1e-6)


def test_of_equal_scores_the_evaluators_choice_comes_first():
    scores = torch.zeros(50, 40, dtype=torch.float16)
    scores[:, 7:20] = 1
    ids, _ = top_classes(scores)
    assert [row[0] for row in ids] == scores.argmax(dim=1).tolist() == [7] * 50


def test_probabilities_are_float32_and_short():
    half = torch.tensor([[0.1, 0.2]], dtype=torch.float16)
    _, (p,) = top_classes(half)
    expected = half.float().softmax(dim=1)[0]
    assert torch.equal(torch.tensor(p), expected[[1, 0]])  # the same float32
    assert all(len(str(value)) <= 11 for value in p)


@pytest.mark.parametrize(
    "row", [[INF, 0.0], [-INF, -INF], [0.7, 0.3], torch.tensor([2, 1])], ids=["inf", "-inf", "p", "votes"]
)
def test_what_is_no_logits_has_no_probabilities(row):
    ids, p = top_classes(torch.as_tensor(row)[None])
    assert len(ids[0]) == 2 and p == [None]


def test_ids_beyond_the_classes_are_called_by_number(folder, build):
    own = plugin(model_inference=lambda self, images: torch.eye(4)[[3] * len(images)] * 9)
    found, _ = finished(folder, build, own)
    assert found.classes == ["red", "blue", "class 2", "class 3"]
    assert [row.predicted for row in found] == [3] * 6


def test_the_validation_images_if_they_are_the_final_test(folder, build):
    found, result = finished(folder, build, TEST__SPLIT="val")
    assert [row.image for row in found] == [f"{n}.png" for n in range(10, 14)]
    assert sum(row.right for row in found) == result["correct"]


def test_only_the_final_test_writes(folder, build, monkeypatch):
    opened = []
    writing = predictions.writing
    monkeypatch.setattr(
        "dassl.engine.predicting.writing", lambda *args: opened.append(args) or writing(*args)
    )
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=2, TEST__FINAL_MODEL="best_val")
    trainer = build(cfg)
    trainer.train()
    assert len(opened) == 1 and len(list(read_predictions(cfg.OUTPUT_DIR))) == 6
    trainer.test()
    assert len(opened) == 1


def test_nothing_is_written_if_it_is_not_wanted_or_the_test_is_a_plugins_own(folder, build):
    for settings in ({"TEST__PREDICTIONS": False}, {"trainer": plugin(test=lambda self, split=None: 12.5)}):
        Path(folder, "run").mkdir(exist_ok=True)
        Path(folder, "run/predictions.jsonl").write_text("of an earlier test")
        found, result = finished(folder, build, **settings)
        assert found is None and result["accuracy"] is not None


def test_an_output_that_is_no_table_of_scores_costs_the_file_only(folder, build, capsys):
    def process(output, labels):
        trainer.evaluator.__class__.process(trainer.evaluator, output[0], labels)

    own = plugin(model_inference=lambda self, images: (self.model(images.flatten(1)), "features"))
    cfg = make_cfg(folder, own, OPTIM__MAX_EPOCH=1)
    trainer = build(cfg)
    trainer.evaluator.process = process
    trainer.train()
    assert trainer.result()["total"] == 6 and read_predictions(cfg.OUTPUT_DIR) is None
    assert capsys.readouterr().out.count("Note: no predictions.jsonl") == 1
