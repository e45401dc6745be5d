"""Files of OpenAI's form in three layouts, what they say of their activation, and what is no such file."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipfit import backbones, weights
from clipfit.clip import normalize
from clipfit.families import openai
from clipfit.loading import load_clip
from clipfit.prompts import tokenize
from tests.clipfit.families.conftest import OPENAI_STYLE, QUICK, SIDE, SQUASH, write_config

DEFAULT = ("bicubic", "shortest")
TOKENS = tokenize(["a photo of a cat.", "a big dog.", "x"], ["cat", "dog", "x"])
IMAGES = torch.linspace(-1, 1, 2 * 3 * SIDE * SIDE).view(2, 3, SIDE, SIDE)


def features(clip):
    with torch.no_grad():
        return clip.encode_image(IMAGES), clip.text_encoder(clip.embed_prompts(TOKENS))


def assert_equal(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert (normalize(one) - normalize(other)).abs().max() < tolerance


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("form", ["folder", "safetensors", "bin"])
def test_transformers_clip_gives_the_features_of_transformers(form, activation, hugging_face_folder):
    model, folder = hugging_face_folder(activation)
    path = {
        "folder": folder,
        "safetensors": folder / "model.safetensors",
        "bin": folder / "pytorch_model.bin",
    }
    if form == "bin":
        torch.save(model.state_dict(), path["bin"])
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixel_values=IMAGES).pooler_output)
        text = model.text_projection(model.text_model(input_ids=TOKENS.where(TOKENS > 0, 0)).pooler_output)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip = load_clip(str(path[form]))
    assert clip.activation == activation
    assert torch.equal(clip.logit_scale, model.logit_scale)
    assert_equal(features(clip), (image, text))


@pytest.mark.parametrize("config", [QUICK, OPENAI_STYLE])
def test_a_file_of_open_clip_gives_the_features_of_open_clip(config, open_clip_folder):
    model, folder = open_clip_folder(config, SQUASH)
    with torch.no_grad():
        expected = model.encode_image(IMAGES), model.encode_text(TOKENS)
    for name in (folder, folder / "open_clip_model.safetensors"):
        clip = load_clip(str(name))
        assert clip.activation == ("quick_gelu" if config.get("quick_gelu") else "gelu")
        assert_equal(features(clip), expected)
        read = backbones.input_of(str(name))
        assert (read.size, read.mean, read.resize) == (SIDE, (0.5, 0.5, 0.5), "squash")


def test_pictures_are_read_as_the_config_of_transformers_says(hugging_face_folder):
    _, folder = hugging_face_folder()
    read = backbones.input_of(str(folder))
    assert (read.size, read.mean[0], read.interpolation, read.resize) == (SIDE, 0.48145466, *DEFAULT)
    config = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "do_center_crop": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    read = backbones.input_of(str(folder))
    assert (read.mean, read.std, read.interpolation, read.resize) == (
        *((0.5,) * 3, (0.5,) * 3),
        *("bilinear", "squash"),
    )


def test_the_number_of_heads_is_read_from_the_config(hugging_face_folder):
    model, folder = hugging_face_folder(heads=4)
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixel_values=IMAGES).pooler_output)
    assert_equal(features(load_clip(str(folder)))[:1], (image,))


def test_every_vit_of_openais_form_in_open_clip_has_the_heads_that_its_width_says():
    pytest.importorskip("open_clip", reason="open_clip_torch is not installed")
    from clipfit.families.open_clip import _config_folder, model_config, own_arguments

    names = [path.stem for path in _config_folder().glob("*.json")]
    found = [arguments for name in names if (arguments := own_arguments(model_config(name)))]
    vits = [one for one in found if isinstance(one["vision_layers"], int)]
    assert len(vits) > 20
    for one in vits:
        width = one["vision_width"]
        assert one["vision_heads"] == width // weights.HEAD_WIDTHS.get(width, weights.HEAD_WIDTH)
        assert one["transformer_heads"] == one["transformer_width"] // weights.HEAD_WIDTH


def test_an_activation_that_nothing_says_is_a_warning_that_names_the_doubt(tiny_model, tmp_path):
    path = tmp_path / "tiny.pt"
    torch.save(tiny_model.state_dict(), path)
    with pytest.warns(UserWarning, match="tiny.pt does not say which activation.*LAION.*ACTIVATION gelu"):
        assert load_clip(str(path)).activation == "quick_gelu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_clip(str(path), activation="gelu").activation == "gelu"
        load_clip("demo")
    quick, plain = (load_clip(str(path), activation=one) for one in ("quick_gelu", "gelu"))
    assert (features(quick)[1] - features(plain)[1]).abs().max() > 1e-3


def test_an_activation_that_contradicts_the_config_is_taken_with_a_warning(hugging_face_folder):
    _, folder = hugging_face_folder("gelu")
    with pytest.warns(UserWarning, match="ACTIVATION is quick_gelu, but the config .* says gelu"):
        assert load_clip(str(folder), activation="quick_gelu").activation == "quick_gelu"
    with pytest.raises(ValueError, match="activation 'relu' is unknown; choose one of auto, quick_gelu"):
        load_clip(str(folder), activation="relu")


def test_an_activation_that_no_clip_has_is_refused(hugging_face_folder):
    _, folder = hugging_face_folder()
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu_pytorch_tanh"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="config.json: hidden_act is gelu_pytorch_tanh and quick_gelu"):
        load_clip(str(folder))


def test_a_damaged_config_is_named(hugging_face_folder):
    _, folder = hugging_face_folder()
    (folder / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="config.json is no JSON object"):
        load_clip(str(folder))


@pytest.mark.parametrize(
    "keys, reason",
    [
        (["visual.trunk.attn_pool.q.weight", "text.ln_final.bias"], "a SigLIP of open_clip; use open_clip:"),
        (["visual.trunk.blocks.0.attn.norm.weight", "text.ln_final.bias"], "EVA-02.*use open_clip:"),
        (["vision_model.head.probe", "text_model.head.weight"], "a SiglipModel of transformers.*open_clip:"),
        (["text_decoder.ln_final.bias", "text.ln_final.bias"], "a CoCa of open_clip"),
        (["prompt_learner.ctx", "image_encoder.ln_pre.bias"], "a checkpoint of a training run.*--model-dir"),
        (["ctx", "token_suffix"], "training run.*--model-dir"),
        (["base_model.model.vision_model.x.lora_A.weight"], "an adapter .LoRA.*merge it into its base"),
        (["layer1.0.conv1.weight", "conv1.weight", "fc.weight"], "a ResNet classifier"),
        (["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "of timm.*no text tower"),
        (["vision_model.embeddings.class_embedding"], "one tower of transformers' CLIP"),
        (["image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight"], "MobileCLIP.*use open_clip:"),
        (["something.else"], "no CLIP checkpoint in OpenAI's layout"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_another_kind_is_told_by_its_real_format_and_the_cure(keys, reason, suffix, tmp_path):
    path = tmp_path / f"other{suffix}"
    state = {key: torch.zeros(2, 2) for key in keys}
    if suffix == ".pt":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        save_file(state, path)
    with pytest.raises(ValueError, match=reason) as error:
        load_clip(str(path))
    assert path.name in str(error.value)
    with pytest.raises(ValueError, match=reason):
        backbones.input_of(str(path))


def test_a_tensor_that_is_missing_or_unknown_in_transformers_layout_is_named(hugging_face_folder):
    _, folder = hugging_face_folder()
    path = folder / "model.safetensors"
    state = load_file(path)
    key = "text_model.encoder.layers.0.self_attn.k_proj.bias"
    save_file({name: tensor for name, tensor in state.items() if name != key}, path)
    with pytest.raises(ValueError, match="model.safetensors lacks the k_proj .*0.attn.in_proj_bias"):
        load_clip(str(folder))
    save_file({**state, "vision_model.encoder.layers.0.extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="unknown tensor, 'vision_model.encoder.layers.0.extra'"):
        load_clip(str(folder))


def test_a_folder_without_weights_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none of open_clip_model.safetensors"):
        backbones.check_name(str(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="several files"):
        backbones.check_name(str(tmp_path))


def test_files_of_other_libraries_have_their_digest_in_a_run_folder_s_name(hugging_face_folder, tmp_path):
    _, folder = hugging_face_folder()
    digest = backbones.weights_digest(str(folder))
    assert backbones.slug(str(folder)) == f"hugging_face_{digest[:4]}"
    assert backbones.slug(str(folder / "model.safetensors")) == f"model_{digest[:4]}"
    shutil.copy(openai.DEMO_FILE, tmp_path / "my-clip.pt")
    assert backbones.slug(str(tmp_path / "my-clip.pt")) == "my-clip"


def test_an_open_clip_config_beside_any_file_is_read(tiny_model, tmp_path):
    torch.save(tiny_model.state_dict(), tmp_path / "tiny.pt")
    write_config(tmp_path, QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_clip(str(tmp_path / "tiny.pt")).activation == "quick_gelu"
