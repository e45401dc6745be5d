"""The methods on models of open_clip: what has a meaning there takes a step, what has none is refused."""

import hashlib
import json

import pytest
import torch

import clipfit
from clipfit.cli import main as export
from clipfit.fit.files import read_facts
from dassl.run_folder import read_result
from tests.clipfit.families.conftest import (  # noqa: F401 - a fixture
    MOBILE_B,
    MOBILE_S,
    QUICK,
    SIGLIP,
    SQUASH,
    open_clip_folder,
    write_tokenizer,
)

FEW = ("DATASET.NUM_SHOTS", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2)
BY_TEXT_ALONE = ("TRAINER.CLIPFIT.UNFREEZE", "['text.ffn_proj_bias']")
ON_ALL = ("CLIPFit", "CLIPAdapter", "TipAdapter", "ZeroshotCLIP")
LEARN_WORDS = ("CoOp", "CoCoOp", "KgCoOp", "ProGrad")
CONFIGS = {"SigLIP": SIGLIP, "MobileCLIP-B": MOBILE_B, "MobileCLIP-S": MOBILE_S, "ViT": QUICK}


SLOW_TOWER = pytest.param("MobileCLIP-S", marks=pytest.mark.slow)


@pytest.fixture
def on(build, open_clip_folder, tmp_path):  # noqa: F811
    """Build a method on a small model of that kind, for steps of two images."""

    def _build(kind, method, *words):
        folder = tmp_path / "weights"
        if not folder.exists():
            open_clip_folder(CONFIGS[kind], SQUASH)
            if kind == "SigLIP":
                write_tokenizer(folder)
        text_alone = BY_TEXT_ALONE if (kind, method) == ("MobileCLIP-S", "CLIPFit") else ()
        return build(method, f"--backbone=open_clip:{kind}/{folder}", *FEW, *text_alone, *words)

    return _build


def assert_steps(trainer):
    trained = trainer.trained_parameters()
    before = {key: parameter.detach().clone() for key, parameter in trained.items()}
    everything = {key: tensor.clone() for key, tensor in trainer.model.state_dict().items()}
    trainer.batch_idx, trainer.num_batches = 0, 2
    trainer.set_model_mode("train")
    summary = trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert summary["loss"].isfinite()
    assert any(not torch.equal(parameter, before[key]) for key, parameter in trained.items())
    frozen = everything.keys() - trained.keys()
    assert all(torch.equal(trainer.model.state_dict()[key], everything[key]) for key in frozen)


@pytest.mark.parametrize("method", ON_ALL)
@pytest.mark.parametrize("kind", ["SigLIP", "MobileCLIP-B", SLOW_TOWER])
def test_what_needs_features_alone_works_on_all(kind, method, on):
    trainer = on(kind, method)
    if method != "ZeroshotCLIP":
        assert_steps(trainer)
    images = next(iter(trainer.test_loader))["img"][:2]
    with torch.no_grad():
        logits = trainer.model_inference(images)
    assert logits.shape == (2, trainer.num_classes) and logits.isfinite().all()


@pytest.mark.parametrize("method", LEARN_WORDS)
def test_words_are_learned_where_the_text_tower_takes_embeddings(method, on):
    assert_steps(on("MobileCLIP-B", method))


@pytest.mark.parametrize("method", [*LEARN_WORDS, "MaPLe"])
@pytest.mark.parametrize("kind", ["SigLIP", "MobileCLIP-S"])
def test_words_are_not_learned_where_the_text_tower_reads_token_ids(kind, method, on):
    with pytest.raises(ValueError, match=f"{method} learns words.*token ids: choose CLIPFit, CLIPAdapter"):
        on(kind, method)


def test_maple_takes_vision_transformers_of_openais_form_alone(on, tmp_path):
    with pytest.raises(ValueError, match="this image tower is a TimmModel of open_clip.*choose a ViT"):
        on("MobileCLIP-B", "MaPLe", "TRAINER.MAPLE.PROMPT_DEPTH", 2)


def test_maple_works_on_open_clips_vit(on):
    assert_steps(on("ViT", "MaPLe", "TRAINER.MAPLE.PROMPT_DEPTH", 2))


def test_update_layernorm_needs_layernorms(on):
    trainer = on("MobileCLIP-B", "CoOp", "TRAINER.UPDATE_LAYERNORM", True)
    assert any(name.startswith("image_encoder.") for name in trainer.trained_parameters())
    assert_steps(trainer)


def test_update_layernorm_without_layernorms_is_refused(on):
    words = (*BY_TEXT_ALONE, "TRAINER.UPDATE_LAYERNORM", True)
    with pytest.raises(ValueError, match="UPDATE_LAYERNORM: this image tower has no LayerNorms"):
        on("MobileCLIP-S", "CLIPFit", *words)


@pytest.mark.slow
def test_a_run_on_siglip_reads_pictures_as_the_backbone_does_and_its_fit_predicts(
    run_train,
    open_clip_folder,  # noqa: F811
    tmp_path,
    capsys,
):
    open_clip_folder(SIGLIP, SQUASH)
    folder = tmp_path / "weights"
    write_tokenizer(folder)
    words = ("--trainer", "CLIPFit", "--backbone", f"open_clip:SigLIP/{folder}", "--seed", 1)
    words += ("--protocol", "few_shot", "--output-dir", "run", *FEW, "OPTIM.MAX_EPOCH", 2)
    assert run_train(*words) is None
    result = read_result(tmp_path / "run")
    assert result["tuned_for_backbone"] is False
    assert result["inputs"]["backbone"] is not None
    facts = read_facts(tmp_path / "run")
    assert facts["input"] | {"upright": False} == {
        **{"size": [160, 160], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
        **{"resize": "squash", "upright": False},
    }
    assert facts["backbone"]["activation"] == "gelu"
    model = clipfit.load(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    root, some = lines[0]["root"], lines[1::40]
    found = model.predict([f"{root}/{line['image']}" for line in some])
    expected = torch.tensor([line["p"][0] for line in some])
    torch.testing.assert_close(torch.tensor([one.score for one in found]), expected, rtol=0, atol=1e-5)
    again = model.with_classes(model.classes)
    torch.testing.assert_close(again.class_features, model.class_features, rtol=0, atol=1e-5)

    assert export(["export", "run", "--to", "torch", "exported"]) == 0  # a classifier needs no layout
    (file,) = (tmp_path / "exported").glob("*.pt2")
    pixels = model.pixels([f"{root}/{line['image']}" for line in some[:3]])
    logits = torch.export.load(file).module()(pixels)
    torch.testing.assert_close(logits.softmax(dim=1), model.probabilities(pixels), rtol=0, atol=1e-5)
    capsys.readouterr()
    assert export(["export", "run", "--to", "open_clip", "refused"]) == 1
    assert "whose tensors have no place in OpenAI's layout" in capsys.readouterr().err
    assert run_train(*words) is None
    assert "finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_on_a_tag_records_the_weights_that_it_downloaded(
    run_train,
    open_clip_folder,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    open_clip_folder(QUICK)
    file = tmp_path / "weights/open_clip_model.safetensors"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where the size of the real one may stand
    monkeypatch.setattr("clipfit.families.open_clip.model_config", lambda model: QUICK)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo_id, filename: str(file))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *place: str(file))
    words = ("--trainer", "ZeroshotCLIP", "--backbone", "open_clip:ViT-B-16/dfn2b", "--seed", 1)
    words += ("--protocol", "few_shot", "--output-dir", "run")
    assert run_train(*words) is None
    result = read_result(tmp_path / "run")
    assert result["inputs"]["backbone"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert result["backbone"] == "open_clip:ViT-B-16/dfn2b"
    capsys.readouterr()
    assert run_train(*words) is None
    assert "finished" in capsys.readouterr().out
    model = clipfit.load(tmp_path / "run")
    assert model.facts["backbone"]["activation"] == "quick_gelu"
