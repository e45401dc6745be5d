"""What an ecosystem cannot hold is refused with the reason and the cure, before anything is written."""

import importlib
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import clipfit
from clipfit.cli import main
from clipfit.export.ecosystems import ECOSYSTEMS
from clipfit.export.merged import read_merged
from clipfit.families.openai import DEMO_FILE
from clipfit.fit.files import Fit, read_facts, read_fit, write_fit
from clipfit.io.files import read_json, write_json

BY_TEXT_TOWER = [name for name, ecosystem in ECOSYSTEMS.items() if ecosystem.names_classes]


@pytest.fixture
def refusal(tmp_path, capsys):
    """Export and return the one line that is printed."""

    def export(fit, to, *flags, folder="new"):
        there = sorted(tmp_path.rglob("*"))
        assert main(["export", str(fit), "--to", to, str(tmp_path / folder), *map(str, flags)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == there
        return error

    return export


@pytest.fixture
def changed(fit_of, tmp_path_factory):
    """A copy of the CLIPFit fit whose facts say something else."""

    def change(**facts):
        fit, folder = read_fit(fit_of("CLIPFit")), tmp_path_factory.mktemp("changed")
        write_fit(folder, fit)
        write_json({**read_facts(folder), **facts}, folder / "fit.json")
        return folder

    return change


@pytest.mark.parametrize("to", BY_TEXT_TOWER)
@pytest.mark.parametrize("kind", ["CoOp", "CoOp+UL"])
def test_learned_prompts_have_no_place_where_the_text_tower_names_classes(kind, to, fit_of, refusal):
    error = refusal(fit_of(kind), to)
    assert f"is of {kind}, whose class features are not those of words" in error
    assert "--to onnx and --to torch hold the class features" in error


@pytest.mark.parametrize("to", ECOSYSTEMS)
def test_a_method_that_needs_its_trainer_goes_nowhere(to, changed, refusal):
    error = refusal(changed(needs_trainer=True, method="TipAdapter"), to)
    assert (
        "is of TipAdapter, whose result is more than CLIP's tensors" in error and "clipfit predict" in error
    )


@pytest.mark.parametrize("to", BY_TEXT_TOWER)
def test_a_backbone_of_another_layout_is_left_to_the_classifiers(to, changed, refusal):
    backbone = {"name": "open_clip:ViT-B-32/laion2b", "sha256": None, "activation": "gelu"}
    assert "whose tensors have no place in OpenAI's layout" in refusal(changed(backbone=backbone), to)


@pytest.mark.parametrize("to", ["openai", "clip_benchmark"])
def test_another_activation_is_not_lost_in_silence(to, changed, refusal):
    backbone = {"name": "demo", "sha256": None, "activation": "gelu"}
    assert "means quick_gelu; --to open_clip" in refusal(changed(backbone=backbone), to)


def test_class_features_that_are_not_the_text_towers_are_found(fit_of, changed, refusal):
    folder = changed()
    tensors = load_file(folder / "model.safetensors")
    tensors["class_features"] = tensors["class_features"].roll(1, dims=0)
    save_file(tensors, folder / "model.safetensors")
    assert "the text tower gives class features that differ by" in refusal(folder, "open_clip")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["transformers", "peft"])
def test_a_resnet_is_no_clip_model_of_transformers(to, fit_of, refusal):
    error = refusal(fit_of("RN50"), to)
    assert "random:RN50 has a ResNet" in error and "--to open_clip holds it" in error


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("text.bias", "it changes 36 others, such as transformer.resblocks.0.attn.in_proj_bias"),
        ("zero-shot", "it changes nothing"),
    ],
)
def test_an_adapter_says_which_groups_it_holds(kind, reason, fit_of, refusal):
    error = refusal(fit_of(kind), "peft")
    assert "text.ffn_proj_bias (or low-rank changes), image.layernorm and text.layernorm" in error
    assert error.endswith("--to transformers holds the whole model\n")
    assert reason in error


def test_an_adapter_has_one_rank_and_one_factor_and_no_biases_beside(fit_of, refusal, tmp_path):
    read = read_fit(fit_of("low-rank"))
    other = "delta.visual.transformer.resblocks.0.attn.in_proj_weight.v.scale"
    write_fit(tmp_path / "two", Fit(read.facts, {**read.tensors, other: torch.tensor(0.25)}))
    write_fit(tmp_path / "two", words_of(tmp_path / "two"))
    assert "have 2 pairs of them; --to transformers" in refusal(tmp_path / "two", "peft")
    bias = {"clip.transformer.resblocks.0.mlp.c_proj.bias": torch.full((64,), 0.1)}
    write_fit(tmp_path / "bias", Fit(read.facts, {**read.tensors, **bias}))
    write_fit(tmp_path / "bias", words_of(tmp_path / "bias"))
    assert "it changes 1 others, such as transformer.resblocks.0.mlp" in refusal(tmp_path / "bias", "peft")


def words_of(folder):
    """A fit with the class features that its text tower gives."""
    fit = read_fit(folder)
    features = clipfit.load(folder).with_classes(fit.classes).class_features
    return Fit(fit.facts, {**fit.tensors, "class_features": features})


def test_an_adapter_needs_the_base_that_it_belongs_to(fit_of, refusal, tmp_path, capsys):
    fit = fit_of("CLIPFit")
    error = refusal(fit, "peft")
    assert "demo is no model on Hugging Face" in error and "--to transformers --untouched BASE" in error
    assert main(["export", str(fit), "--to", "transformers", str(tmp_path / "tuned")]) == 0
    capsys.readouterr()
    error = refusal(fit, "peft", "--base-model", tmp_path / "tuned")
    assert "64 of its tensors are not those of demo" in error and "--untouched" in error


def test_clip_benchmark_knows_architectures_by_name(fit_of, refusal):
    error = refusal(fit_of("CLIPFit"), "clip_benchmark")
    assert "that of demo has none; --to open_clip writes a folder" in error


def test_files_that_are_there_stay_unless_forced(fit_of, refusal, tmp_path):
    fit = fit_of("CLIPFit")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/notes.txt").write_text("mine")
    (tmp_path / "new/labels.txt").write_text("old")
    (tmp_path / "file").write_text("mine")
    assert "new has files already; give a new folder, or --force" in refusal(fit, "openai")
    assert "file is a file; give a folder" in refusal(fit, "openai", folder="file")
    assert (tmp_path / "new/labels.txt").read_text() == "old"
    assert main(["export", str(fit), "--to", "openai", str(tmp_path / "new"), "--force"]) == 0
    assert (tmp_path / "new/notes.txt").read_text() == "mine"
    assert (tmp_path / "new/labels.txt").read_text().startswith("striped red star\n")


def test_what_is_exported_is_never_written_over(changed, refusal, tmp_path):
    fit = changed()
    before = (fit / "model.safetensors").read_bytes()
    assert "has the files that are exported" in refusal(fit, "transformers", "--force", folder=fit)
    backbone = tmp_path / "weights/model.pt"
    backbone.parent.mkdir()
    shutil.copyfile(DEMO_FILE, backbone)
    error = refusal(fit, "openai", "--force", "--backbone", backbone, folder="weights")
    assert "has the files that are exported" in error
    assert (fit / "model.safetensors").read_bytes() == before


def test_a_missing_library_is_one_line_with_the_command(fit_of, refusal, monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    gone = ("onnxscript", "open_clip")
    monkeypatch.setattr(
        "clipfit.export.ecosystems.find_spec", lambda name: None if name in gone else find(name)
    )
    assert refusal(fit_of("CoOp"), "onnx").endswith("-m pip install onnxscript\n")
    assert main(["export", str(fit_of("CLIPFit")), "--to", "open_clip", str(tmp_path / "made")]) == 0
    assert capsys.readouterr().out.endswith("-m pip install open_clip_torch\n")


def test_an_option_of_another_ecosystem_is_said(fit_of, refusal):
    error = refusal(fit_of("CLIPFit"), "openai", "--base-model", "x")
    assert "--base-model is for --to peft, not for --to openai" in error


def test_a_logit_scale_that_training_changed_is_that_of_the_export(changed):
    merged = read_merged(changed(logit_scale=50.0), "openai")
    torch.testing.assert_close(merged.state()["logit_scale"].exp(), torch.tensor(50.0))


def test_an_exporter_of_torch_that_fails_is_replaced(fit_of, monkeypatch, tmp_path, capsys):
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module, reason=f"pip install {module}")

    def fail(*_):
        raise torch.onnx.errors.OnnxExporterError("no rule\nfor it")

    monkeypatch.setattr("clipfit.export.onnx._by_dynamo", fail)
    assert main(["export", str(fit_of("CoOp")), "--to", "onnx", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().err == "torch's newer exporter failed (no rule); using the older\n"
    assert (tmp_path / "a/model.onnx").exists()


def test_the_card_is_read_by_the_hub(fit_of, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="pip install huggingface_hub")
    main(["export", str(fit_of("CLIPFit")), "--to", "transformers", str(tmp_path / "flowers")])
    card = hub.ModelCard.load(tmp_path / "flowers/README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "zero-shot-image-classification"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 81.25)
    assert card.data.license is None and "License: yours to choose" in card.text
    assert "striped red star" in card.text and "`a photo of a {}.`" in card.text


def test_the_card_names_the_base_of_an_adapter(fit_of, tmp_path):
    fit, base = fit_of("CLIPFit"), tmp_path / "base"
    main(["export", str(fit), "--to", "transformers", str(base), "--untouched"])
    assert main(["export", str(fit), "--to", "peft", str(tmp_path / "a"), "--base-model", str(base)]) == 0
    card = (tmp_path / "a/README.md").read_text()
    assert f'base_model: "{base}"\nbase_model_relation: "adapter"\n' in card
    assert read_json(tmp_path / "a/adapter_config.json")["base_model_name_or_path"] == str(base)
    assert "untouched" in (base / "README.md").read_text()
