"""Every method leaves a fit/ that says of a picture what its own test said; a new one is tested unedited."""

import json
from pathlib import Path

import pytest
import torch

import clipfit
from clipfit.cli import main
from clipfit.fit.files import fit_folder, read_fit
from dassl.engine import TRAINER_REGISTRY
from dassl.predictions import read_predictions
from launch.predict import RunModel
from launch.registered import methods
from tests.trainers.conftest import own_contract
from trainers.base import CLIPTrainer

METHODS = [name for name in methods() if issubclass(TRAINER_REGISTRY.get(name), CLIPTrainer)]
# Of those that are shipped.
BEYOND_CLIP = ["CLIPAdapter", "CoCoOp", "IVLP", "MaPLe", "MMRL", "PromptSRC", "TipAdapter"]
LEARN_WORDS = ["CoOp", "KgCoOp", "ProGrad"]
SHIPPED = [*BEYOND_CLIP, *LEARN_WORDS, "CLIPFit", "ZeroshotCLIP", "ZeroshotCLIP2"]
QUICK = ("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1, "OPTIM.WARMUP_EPOCH", 0)
FEW_PICTURES = 40


@pytest.fixture
def trained(run_train, tmp_path):
    """Train a method for a moment on the embedded data; its run folder."""

    def train(method, *words):
        words = [*own_contract(method, "TRAINER."), *QUICK, *words]
        error = run_train(
            "--trainer", method, "--backbone", "demo", "--seed", 1, "--output-dir", "run", *words
        )
        assert error is None
        return tmp_path / "run"

    return train


def said_of(run) -> tuple[list[str], torch.Tensor]:
    """Paths of some pictures tested on, and the highest probability that the run gave to each."""
    found = read_predictions(run)
    some = list(found)[::15][:FEW_PICTURES]
    return [f"{found.root}/{one.image}" for one in some], torch.tensor([one.p[0] for one in some])


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_predicts_what_the_run_predicted(method, trained):
    run = trained(method)
    facts = json.loads((run / "fit/fit.json").read_text())
    assert facts["method"] == method
    assert bool(facts.get("needs_trainer")) == (method in BEYOND_CLIP) or method not in SHIPPED
    model = RunModel(run) if facts.get("needs_trainer") else clipfit.load(run)
    pictures, expected = said_of(run)
    found = model.predict(pictures)
    assert [one.picture for one in found] == pictures
    torch.testing.assert_close(torch.tensor([one.score for one in found]), expected, rtol=0, atol=1e-5)


def test_update_layernorm_is_in_the_fit_of_learned_words(trained):
    run = trained("CoOp", "TRAINER.UPDATE_LAYERNORM", True, "OPTIM.LR", 0.1)
    fit = read_fit(fit_folder(run))
    assert {name.partition(".")[0] for name in fit.replaced} == {"visual"} and len(fit.replaced) == 52
    pictures, expected = said_of(run)
    scores = torch.tensor([one.score for one in clipfit.load(run).predict(pictures)])
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def test_a_fit_of_clipfit_holds_what_was_trained_and_nothing_else(trained):
    run = trained("CLIPFit")
    fit = read_fit(fit_folder(run))
    result = json.loads((run / "result.json").read_text())
    assert sum(tensor.numel() for tensor in fit.replaced.values()) == result["trainable_params"]
    checkpoint = torch.load(next(run.glob("*/model.pth.tar-1")), weights_only=True)["state_dict"]
    assert len(checkpoint) == len(fit.replaced)
    bias = "transformer.resblocks.0.mlp.c_proj.bias"
    assert torch.equal(fit.replaced[bias], checkpoint[f"text_encoder.{bias}"])
    assert fit.facts["accuracy"] == result["accuracy"] and fit.facts["seen"] == list(range(20))
    assert fit.facts["images"] == {"trained": 20, "tested": result["total"]}
    norms = torch.linalg.vector_norm(fit.tensors["class_features"], dim=1)
    torch.testing.assert_close(norms, torch.ones(20))


@pytest.mark.parametrize("method", [name for name in SHIPPED if name not in BEYOND_CLIP])
def test_other_classes_can_be_named_where_the_prompts_are_words(method, trained):
    run = trained(method)
    model = clipfit.load(run)
    if method in LEARN_WORDS:
        with pytest.raises(ValueError, match=f"{method}, whose classes are more than words in a prompt"):
            model.with_classes(["zebra", "okapi"])
        return
    again = model.with_classes(model.classes)  # the same names: the same features as training left
    torch.testing.assert_close(again.class_features, model.class_features, rtol=0, atol=1e-5)
    other = model.with_classes(["striped red star", "dotted blue fish"])
    assert other.classes == ["striped red star", "dotted blue fish"]
    torch.testing.assert_close(other.class_features, model.class_features[[0, 2]], rtol=0, atol=1e-5)


def test_a_test_on_new_classes_says_that_it_has_seen_none(run_train, tmp_path):
    words = ("--trainer", "CLIPFit", "--backbone", "demo", "--protocol", "base2new", "--seed", 1, *QUICK)
    assert run_train(*words) is None and run_train("--eval-only", *words) is None
    (run,) = (path.parent for path in Path(tmp_path).glob("output/base2new/test_new/**/result.json"))
    facts = json.loads((run / "fit/fit.json").read_text())
    assert facts["seen"] == [] and facts["images"]["trained"] == 0 and len(facts["classes"]) == 10
    pictures, expected = said_of(run)
    scores = torch.tensor([one.score for one in clipfit.load(run).predict(pictures)])
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def test_a_method_that_adds_to_the_image_features_is_not_mistaken_for_a_clip(trained, monkeypatch):
    """Nothing in the class says so: what it does to the features is seen."""
    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", dict(TRAINER_REGISTRY._objects))
    clipfit_class = TRAINER_REGISTRY.get("CLIPFit")

    class Doubled(clipfit_class):
        def image_features(self, images):
            return super().image_features(images) + 1

    Doubled.__name__ = "CLIPFit"
    TRAINER_REGISTRY.register(Doubled, force=True)
    run = trained("CLIPFit")
    assert json.loads((run / "fit/fit.json").read_text())["needs_trainer"]
    with pytest.raises(ValueError, match="more than CLIP's tensors"):
        clipfit.load(run)


@pytest.mark.slow
def test_the_command_predicts_by_the_trainer_where_it_is_called_from_python(trained, tmp_path, capfd):
    run = trained("CLIPAdapter")
    pictures, expected = said_of(run)
    assert main(["predict", str(run), *pictures[:3], "--jsonl", str(tmp_path / "out.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["p"][0] for line in lines] == pytest.approx(expected[:3].tolist(), abs=1e-5)
    assert "3 pictures" in capfd.readouterr().err
