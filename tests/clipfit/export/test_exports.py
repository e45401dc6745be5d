"""Every export, loaded by its library with the printed lines, gives the logits of the fit."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import clipfit
from clipfit.cli import main
from clipfit.clip import normalize
from clipfit.export import open_clip as open_clip_layout
from clipfit.export.merged import read_merged
from clipfit.fit.files import read_fit
from clipfit.fit.names import parameters_by_name
from clipfit.loading import load_clip
from clipfit.prompts import fill, tokenize
from tests.clipfit.export.fits import CLASSES, WORDS
from tests.clipfit.fit.zero_shot import INPUT, TEMPLATE

LABELS = ["striped red star", "dotted blue fish", "wavy blue fish"]
RESNET = pytest.param("RN50", marks=pytest.mark.slow)


def templates(fit):
    template = clipfit.load(fit).facts["template"]
    return [template] if isinstance(template, str) else template


def class_features(fit, encode):
    """(K, D), by the text tower of a library: the unit mean of the unit features of all templates."""
    with torch.no_grad():
        each = [normalize(encode([text.format(name) for name in LABELS])) for text in templates(fit)]
    return normalize(sum(each) / len(each))


def check_towers(fit, check, encode_text, encode_image, scale):
    """Class features and logits of a whole CLIP against the fit's."""
    w = class_features(fit, encode_text)
    torch.testing.assert_close(w, read_fit(fit).tensors["class_features"], rtol=0, atol=2e-6)
    return check(fit, lambda pixels: scale * normalize(encode_image(pixels)) @ w.T)


# openai ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*WORDS, "low-rank", RESNET])
def test_openai_file_is_a_backbone_here(kind, fit_of, check, tmp_path):
    fit = fit_of(kind)
    assert main(["export", str(fit), "--to", "openai", str(tmp_path / "a")]) == 0
    clip = load_clip(str(tmp_path / "a/model.pt")).requires_grad_(False)

    def encode(prompts):
        return clip.text_encoder(clip.embed_prompts(tokenize(prompts, LABELS)))

    check_towers(fit, check, encode, clip.encode_image, clip.logit_scale.exp())


def test_openai_file_is_read_by_openais_package_in_its_precision(fit_of, loaded, pixels_of):
    clip = pytest.importorskip("clip", reason="pip install clip-anytorch")
    fit = fit_of("CLIPFit")
    made = loaded(fit, "openai")
    ours = load_clip(str(made["folder"] / "model.pt"), precision="fp16").float().requires_grad_(False)
    pixels = pixels_of(fit)
    tokens = clip.tokenize([f"a photo of a {label}." for label in made["labels"]])
    with torch.no_grad():
        for count in (1, 5):
            logits, _ = made["model"](pixels[:count], tokens)
            w = ours.text_encoder(ours.embed_prompts(tokenize(fill(TEMPLATE, CLASSES), CLASSES)))
            expected = ours.logits(ours.encode_image(pixels[:count]), w)
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_openai_tensors_are_read_by_openais_builder(fit_of, loaded, pixels_of):
    pytest.importorskip("clip", reason="pip install clip-anytorch")
    made = loaded(fit_of("CLIPFit"), "openai", "--safetensors")
    assert not (made["folder"] / "model.pt").exists()
    bias = read_fit(fit_of("CLIPFit")).replaced["visual.ln_pre.bias"]
    assert torch.equal(made["model"].visual.ln_pre.bias, bias)


@pytest.mark.parametrize("flags", [(), ("--safetensors",)], ids=["pt", "safetensors"])
def test_openai_file_is_read_by_open_clip_with_quick_gelu(flags, fit_of, check, loaded):
    open_clip = pytest.importorskip("open_clip", reason="pip install open_clip_torch")
    pytest.importorskip("clip", reason="pip install clip-anytorch")
    fit = fit_of("CLIPFit")
    folder = loaded(fit, "openai", *flags)["folder"]
    (weights,) = folder.glob("model.*")
    config = open_clip_layout.model_config(read_merged(fit, "open_clip"))
    (folder / "demo-quickgelu.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "demo-quickgelu.json")
    model = open_clip.create_model("demo-quickgelu", pretrained=str(weights)).eval()
    tokenizer = open_clip.get_tokenizer("demo-quickgelu")
    check_towers(
        fit,
        check,
        lambda prompts: model.encode_text(tokenizer(prompts)),
        model.encode_image,
        model.logit_scale.exp(),
    )


# open_clip, clip_benchmark --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*WORDS, RESNET])
def test_open_clip_loads_its_folder(kind, fit_of, check, loaded):
    pytest.importorskip("open_clip", reason="pip install open_clip_torch")
    fit = fit_of(kind)
    made = loaded(fit, "open_clip")
    model = made["model"].eval()
    check_towers(
        fit,
        check,
        lambda prompts: model.encode_text(made["tokenizer"](prompts)),
        model.encode_image,
        model.logit_scale.exp(),
    )
    config = json.loads((made["folder"] / "open_clip_config.json").read_text())
    assert config["model_cfg"]["quick_gelu"] is True


def test_open_clip_prepares_pictures_alike(fit_of, loaded, picture):
    pytest.importorskip("open_clip", reason="pip install open_clip_torch")
    made = loaded(fit_of("CLIPFit"), "open_clip")
    expected = clipfit.load(fit_of("CLIPFit")).pixels([picture])[0]
    torch.testing.assert_close(made["preprocess"](Image.open(picture)), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_clip_benchmark_gets_weights_and_words(fit_of, check, loaded):
    pytest.importorskip("open_clip", reason="pip install open_clip_torch")
    fit = fit_of("RN50")
    made = loaded(fit, "clip_benchmark", "--dataset", "wds/mine")
    model = made["model"].eval()
    names = json.loads((made["folder"] / "classnames.json").read_text())["wds/mine"]
    (template,) = json.loads((made["folder"] / "templates.json").read_text())["wds/mine"]
    prompts = [template.format(c=name) for name in names]
    with torch.no_grad():
        w = normalize(model.encode_text(made["tokenizer"](prompts)))
    scale = model.logit_scale.exp()
    check(fit, lambda pixels: scale * normalize(model.encode_image(pixels)) @ w.T)


# transformers, peft ---------------------------------------------------------------------------------


def features_of_transformers(model, folder):
    """encode_text, encode_image of a CLIPModel, whose tokenizer lies in a folder."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode_text(prompts):
        return model.get_text_features(**tokenizer(prompts, padding=True, return_tensors="pt")).pooler_output

    return encode_text, lambda pixels: model.get_image_features(pixel_values=pixels).pooler_output


@pytest.mark.parametrize("kind", WORDS)
def test_transformers_loads_its_folder(kind, fit_of, check, loaded):
    pytest.importorskip("transformers", reason="pip install transformers")
    made = loaded(fit_of(kind), "transformers")
    model = made["classify"].model
    encoders = features_of_transformers(model, made["folder"])
    check_towers(fit_of(kind), check, *encoders, model.logit_scale.exp())
    assert made["labels"] == LABELS and model.config.text_config.eos_token_id == 49407


def test_transformers_pipeline_sees_what_the_fit_sees(fit_of, loaded, picture):
    pytest.importorskip("transformers", reason="pip install transformers")
    made = loaded(fit_of("CLIPFit"), "transformers")
    found = made["classify"](
        str(picture), candidate_labels=made["labels"], hypothesis_template="a photo of a {}."
    )
    (expected,) = clipfit.load(fit_of("CLIPFit")).predict([picture])
    assert [row["label"] for row in found] == [name.replace("_", " ") for name in expected.classes]
    torch.testing.assert_close([row["score"] for row in found], expected.p, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(
    "text", ["a photo of a cat.", "It's 23 naïve cafés!", "日本語 <b>&", "a  b\tc", "x" * 40]
)
def test_transformers_tokenizer_gives_our_tokens(text, fit_of, loaded):
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    folder = loaded(fit_of("zero-shot"), "transformers")["folder"]
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    assert ids == tokenize([text], ["text"])[0][: len(ids)].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["CLIPFit", "image.layernorm[0:3]", "layernorms", "ensemble"])
def test_peft_adapter_is_the_merged_model(kind, fit_of, check, loaded, tmp_path):
    pytest.importorskip("peft", reason="pip install peft")
    fit = fit_of(kind)
    loaded(fit_of(kind), "transformers", "--untouched", folder="base")
    merged = loaded(fit_of(kind), "transformers", folder="merged")["classify"].model.state_dict()
    before = loaded(fit, "transformers", "--untouched", folder="base2")["classify"].model.state_dict()
    made = loaded(fit, "peft", "--base-model", tmp_path / "base")
    encoders = features_of_transformers(made["model"].base_model.model.eval(), tmp_path / "base")
    check_towers(fit, check, *encoders, made["model"].base_model.model.logit_scale.exp())
    after = made["model"].merge_and_unload().state_dict()
    for name, tensor in merged.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    changed = [name for name in before if not before[name].equal(after[name])]
    assert len(changed) == len(read_fit(fit).replaced)


@pytest.mark.slow
@pytest.mark.parametrize("kind, lines", [("CLIPLoRA", 4), ("low-rank", 3)])
def test_low_rank_changes_are_a_lora_adapter_of_peft(kind, lines, fit_of, check, loaded, tmp_path):
    """The factor on B A is that of the fit, 1 / sqrt(2) for CLIP-LoRA's, and the merged weights are its."""
    pytest.importorskip("peft", reason="pip install peft")
    fit = fit_of(kind)
    loaded(fit, "transformers", "--untouched", folder="base")
    merged = loaded(fit, "transformers", folder="merged")["classify"].model.state_dict()
    made = loaded(fit, "peft", "--base-model", tmp_path / "base", lines=lines)
    clip = made["model"].base_model.model.eval()
    name = "transformer.resblocks.0.attn.in_proj_weight"
    (change,) = [one for one in read_fit(fit).deltas if (one.name, one.part) == (name, "q")]
    module = clip.get_submodule("text_model.encoder.layers.0.self_attn.q_proj")
    assert module.scaling["default"] == pytest.approx(change.scale, rel=1e-6)
    assert torch.equal(module.lora_A["default"].weight, change.down)
    encoders = features_of_transformers(clip, tmp_path / "base")
    check_towers(fit, check, *encoders, clip.logit_scale.exp())
    after = made["model"].merge_and_unload().state_dict()
    assert after.keys() == merged.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)


def test_a_lora_adapter_says_what_clip_lora_trained(fit_of, tmp_path):
    fit, base = fit_of("CLIPLoRA"), tmp_path / "base"
    assert main(["export", str(fit), "--to", "transformers", "--untouched", str(base)]) == 0
    assert main(["export", str(fit), "--to", "peft", str(tmp_path / "a"), "--base-model", str(base)]) == 0
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["target_modules"] == ["k_proj", "q_proj", "v_proj"]
    told = {key: config[key] for key in ("r", "lora_alpha", "use_rslora", "lora_dropout", "modules_to_save")}
    assert told == {
        "r": 2,
        "lora_alpha": 1,
        "use_rslora": True,
        "lora_dropout": 0.25,
        "modules_to_save": None,
    }
    tensors = load_file(tmp_path / "a/adapter_model.safetensors")
    assert (
        len(tensors) == 2 * 3 * 24 and sum(tensor.numel() for tensor in tensors.values()) == 24 * 3 * 4 * 64
    )


def test_a_file_of_clip_loras_release_is_written_and_read_as_the_page_says(fit_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs/exports.md").read_text(encoding="utf-8")
    (code,) = (
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "write_released" in code
    )
    made = {}
    exec(code.replace("run/fit", str(fit_of("CLIPLoRA"))).replace("ViT-B/16", "demo"), made)
    weights = parameters_by_name(clipfit.load(fit_of("CLIPLoRA")).clip)
    changed = [name for name in weights if name.endswith("in_proj_weight")]
    assert len(changed) == 24
    for name in changed:
        torch.testing.assert_close(made["weights"][name], weights[name], rtol=0, atol=1e-6)


# onnx, torch ----------------------------------------------------------------------------------------

ANY = ["CLIPFit", "CoOp", "CoOp+UL", "text.bias", "image.layernorm[0:3]", "RN50"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ANY)
@pytest.mark.parametrize("exporter", ["newer", "older"])
def test_onnx_runtime_gives_the_logits(exporter, kind, fit_of, check, loaded):
    for module, package in {
        "onnxruntime": "onnxruntime",
        "onnx": "onnx",
        "onnxscript": "onnxscript",
    }.items():
        pytest.importorskip(module, reason=f"pip install {package}")
    made = loaded(fit_of(kind), "onnx", "--onnx-exporter", exporter)
    (input,), (output,) = made["session"].get_inputs(), made["session"].get_outputs()
    assert (input.name, output.name) == ("pixel_values", "logits") and isinstance(input.shape[0], str)
    check(fit_of(kind), lambda pixels: made["session"].run(None, {"pixel_values": pixels.numpy()})[0], 1e-4)
    config = json.loads((made["folder"] / "config.json").read_text())
    assert list(config["id2label"].values()) == made["labels"] == LABELS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ANY)
def test_torch_gives_the_logits(kind, fit_of, check, loaded):
    made = loaded(fit_of(kind), "torch")
    check(fit_of(kind), made["model"])
    assert made["labels"] == LABELS


# Pictures -------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path):
    """A picture with edges, larger than the input and not square."""
    image = Image.effect_noise((150, 110), 90).convert("RGB")
    image.paste((200, 30, 40), (20, 30, 90, 80))
    image.save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("to", ["transformers", pytest.param("torch", marks=pytest.mark.slow)])
def test_the_preprocessing_file_describes_ours(to, fit_of, loaded, picture):
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    folder = loaded(fit_of("CLIPFit"), to)["folder"]
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    found = processor(Image.open(picture), return_tensors="pt")["pixel_values"][0]
    expected = clipfit.load(fit_of("CLIPFit")).pixels([picture])[0]
    assert found.shape == expected.shape
    one_level = 1 / 255 / min(INPUT["std"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1.01 * one_level)
