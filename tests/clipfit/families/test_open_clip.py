"""Models of open_clip against open_clip's own forward pass; what of them is fast, and what is refused."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is not installed")
pytest.importorskip("timm", reason="timm is not installed")

from clipfit import backbones, chunks  # noqa: E402
from clipfit.clip import normalize  # noqa: E402
from clipfit.families import open_clip as family  # noqa: E402
from clipfit.families.layouts import from_hugging_face  # noqa: E402
from clipfit.groups import count, select  # noqa: E402
from clipfit.io.pictures import evaluation_transform  # noqa: E402
from clipfit.loading import load_clip  # noqa: E402
from clipfit.modules import OpenAIModel, VisionTransformer  # noqa: E402
from clipfit.prompts import fill, tokenize, tokenize_for  # noqa: E402
from clipfit.text import TextEncoder  # noqa: E402
from clipfit.whole_text import WholeTextEncoder  # noqa: E402
from tests.clipfit.families.conftest import (  # noqa: E402
    COCA,
    MOBILE_B,
    MOBILE_S,
    OPENAI_STYLE,
    QUICK,
    SCALED,
    SIGLIP,
    SQUASH,
    write_tokenizer,
)

NAMES = ["cat", "big dog", "a rather long name of many words", "x"]
TEXTS = fill("a photo of a {}.", NAMES)


def images(side):
    return torch.linspace(-1, 1, 2 * 3 * side * side).view(2, 3, side, side)


def assert_equal(clip, model, tokens):
    side = clip.input_size
    with torch.no_grad():
        image = normalize(clip.encode_image(images(side)))
        text = normalize(clip.text_encoder(clip.embed_prompts(tokens)))
        assert (image - model.encode_image(images(side), normalize=True)).abs().max() < 1e-5
        assert (text - model.encode_text(tokens, normalize=True)).abs().max() < 1e-5
    assert torch.equal(clip.logit_scale, model.logit_scale)


@pytest.mark.parametrize("config", [QUICK, OPENAI_STYLE], ids=["quick_gelu", "gelu"])
def test_a_model_of_openais_form_runs_on_our_modules(config, open_clip_folder):
    model, folder = open_clip_folder(config)
    clip = load_clip(f"open_clip:ViT-B-16/{folder}")
    assert isinstance(clip.image_encoder, VisionTransformer) and clip.takes_image_tokens
    assert isinstance(clip.text_encoder, TextEncoder) and clip.takes_embeddings
    assert clip.activation == ("quick_gelu" if config.get("quick_gelu") else "gelu")
    assert_equal(clip, model, tokenize(TEXTS, NAMES))


@pytest.mark.parametrize("form", ["CustomTextCLIP", "transformers", "one value per axis"])
def test_a_model_of_openais_form_is_read_in_other_layouts(form, open_clip_folder, hugging_face_folder):
    model, folder = open_clip_folder(QUICK)
    state = model.state_dict()
    if form == "CustomTextCLIP":
        towers = ("visual.", "logit_scale")
        state = {key if key.startswith(towers) else f"text.{key}": value for key, value in state.items()}
    elif form == "transformers":
        theirs, _ = hugging_face_folder()
        state = theirs.state_dict()
        model.load_state_dict(from_hugging_face(state, "here"))
    else:
        state["logit_scale"] = state["logit_scale"].reshape(1)
    torch.save(state, folder / "file.pt")
    clip = load_clip(f"open_clip:ViT-B-16/{folder}/file.pt")
    assert_equal(clip, model, tokenize(TEXTS, NAMES))


@pytest.mark.parametrize(
    "config, encoder",
    [
        (MOBILE_B, TextEncoder),
        (MOBILE_S, WholeTextEncoder),
        (SCALED, WholeTextEncoder),
        (COCA, WholeTextEncoder),
    ],
    ids=["MobileCLIP-B", "MobileCLIP-S", "LayerScale", "CoCa"],
)
def test_other_towers_give_the_features_of_open_clip(config, encoder, open_clip_folder):
    model, folder = open_clip_folder(config)
    clip = load_clip(f"open_clip:any/{folder}")
    assert type(clip.text_encoder) is encoder
    tokens = tokenize_for(clip, TEXTS, NAMES)
    assert tokens.shape[1] == config["text_cfg"]["context_length"] == clip.context_length
    assert_equal(clip, model, tokens)
    if encoder is WholeTextEncoder:
        assert not clip.takes_embeddings
        expected = clip.text_encoder(tokens)
        assert torch.allclose(chunks.encode(clip.text_encoder, tokens, rows=1), expected, atol=1e-5)


def test_gradients_of_a_whole_tower_are_the_same_in_chunks(open_clip_folder):
    _, folder = open_clip_folder(MOBILE_S)
    clip = load_clip(f"open_clip:any/{folder}").requires_grad_(False)
    tokens = tokenize_for(clip, TEXTS, NAMES)
    biases = list(select(clip, "text.ffn_proj_bias")["text.ffn_proj_bias"].values())
    found = []
    for rows in (1, 10_000):
        for bias in biases:
            bias.requires_grad_(True).grad = None
        chunks.encode(clip.text_encoder, tokens, rows).square().sum().backward()
        found.append(torch.cat([bias.grad for bias in biases]))
    assert found[0].abs().max() > 0
    assert torch.allclose(*found, rtol=1e-4, atol=1e-6)


def test_a_siglip_gives_the_features_of_open_clip(open_clip_folder):
    model, folder = open_clip_folder(SIGLIP, SQUASH)
    write_tokenizer(folder)
    clip = load_clip(f"open_clip:ViT-B-16-SigLIP/{folder}")
    assert type(clip.text_encoder) is WholeTextEncoder
    tokens = tokenize_for(clip, TEXTS, NAMES)
    assert torch.equal(tokens, open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS))
    assert (tokens[:, -1] == 0).all() and tokens.shape == (4, 64)
    assert_equal(clip, model, tokens)
    assert not any("logit_bias" in name for name, _ in clip.named_parameters())


def test_a_prompt_that_a_siglip_cannot_read_names_its_class(open_clip_folder):
    _, folder = open_clip_folder(SIGLIP)
    write_tokenizer(folder)
    clip = load_clip(f"open_clip:ViT-B-16-SigLIP/{folder}")
    long = "cat" * 22
    with pytest.raises(ValueError, match="class 'many' has 67 tokens.*at most 64"):
        tokenize_for(clip, ["cat", long], ["cat", "many"])


def test_a_tokenizer_that_is_not_here_says_which_folder_to_give(open_clip_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _, folder = open_clip_folder(SIGLIP)
    clip = load_clip(f"open_clip:ViT-B-16-SigLIP/{folder}")  # pictures can be encoded without one
    with pytest.raises(
        ConnectionError, match="tokenizer.json.*nowhere/siglip.*give open_clip:ViT-B-16-SigLIP"
    ):
        tokenize_for(clip, TEXTS, NAMES)


def test_a_text_tower_of_transformers_is_built_from_the_folder(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tower = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    transformers.RobertaConfig(vocab_size=100, pad_token_id=1, **tower).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    text = {"hf_model_name": str(tmp_path), "hf_tokenizer_name": "nowhere/roberta"}
    text |= {"hf_pooler_type": "mean_pooler", "context_length": 64}
    config = {**OPENAI_STYLE, "text_cfg": text, "custom_text": True}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    model = family.build_foreign(config, "gelu")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").rename(tmp_path / "kept.json")
    name = f"open_clip:roberta/{tmp_path}"
    (tmp_path / "kept.json").rename(tmp_path / "config.json")
    clip = load_clip(name)
    tokens = tokenize_for(clip, TEXTS, NAMES)
    with torch.no_grad():
        assert torch.allclose(clip.text_encoder(tokens), model.encode_text(tokens), atol=1e-5)
    (group,) = select(clip, "text.ffn_proj_bias").values()
    assert list(group) == [
        f"text_encoder.text.transformer.encoder.layer.{layer}.output.dense.bias" for layer in (0, 1)
    ]
    assert count(select(clip, "text.layernorm")["text.layernorm"].values()) == (2 * 2 + 1) * 2 * 64


def test_random_weights_are_the_same_at_every_start_and_leave_the_generator_alone(monkeypatch):
    monkeypatch.setattr(family, "model_config", {"tiny": QUICK, "siglip-tiny": SIGLIP}.__getitem__)
    for name in ("open_clip:tiny/random", "open_clip:siglip-tiny/random"):
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        first, again = load_clip(name), load_clip(name)
        assert torch.equal(before, torch.random.get_rng_state())
        states = first.state_dict(), again.state_dict()
        assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
        assert backbones.weights_digest(name) is None


# How pictures are read -----------------------------------------------------------------------------


@pytest.mark.parametrize("preprocess", [SQUASH, {}])
def test_pictures_are_read_as_open_clip_reads_them(preprocess, open_clip_folder):
    from PIL import Image

    _, folder = open_clip_folder(QUICK, preprocess)
    _, theirs = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    read = backbones.input_of(f"open_clip:ViT-B-16/{folder}")
    ours = evaluation_transform((read.size,) * 2, read.interpolation, read.mean, read.std, read.resize)
    picture = Image.radial_gradient("L").resize((90, 50)).convert("RGB")
    assert (ours(picture) - theirs(picture)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "name, expected",
    [
        ("ViT-B-16-SigLIP/webli", (224, 0.5, "bicubic", "squash")),
        ("ViT-B-16-SigLIP/random", (224, 0.5, "bicubic", "squash")),
        ("MobileCLIP-S1/datacompdr", (256, 0.0, "bilinear", "shortest")),
        ("ViT-B-16/dfn2b", (224, 0.48145466, "bicubic", "shortest")),
        ("ViT-L-14/laion2b_s32b_b82k", (224, 0.5, "bicubic", "shortest")),
        ("PE-Core-B-16/meta", (224, 0.5, "bilinear", "squash")),
    ],
)
def test_preprocessing_is_that_of_the_tag_else_that_of_all_tags(name, expected):
    read = backbones.input_of(f"open_clip:{name}")
    assert (read.size, read.mean[0], read.interpolation, read.resize) == expected


def test_preprocessing_that_the_tags_disagree_on_is_a_warning(tmp_path):
    path = tmp_path / "l14.safetensors"
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="ViT-L-14 .* different ways.*open_clip_config.json"):
        assert backbones.input_of(f"open_clip:ViT-L-14/{path}").mean[0] == 0.48145466


def test_the_tag_decides_the_activation():
    for name, activation in (("ViT-B-16/dfn2b", "quick_gelu"), ("ViT-B-16/datacomp_xl_s13b_b90k", "gelu")):
        name = f"open_clip:{name}"
        assert family.OPEN_CLIP._activation(name, family.OPEN_CLIP._config(name), "auto") == activation


# Files and downloads -------------------------------------------------------------------------------

EVIL = """
import torch
class Evil(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(3))
    def forward(self, x: torch.Tensor):
        return x
    @torch.jit.export
    def __getstate__(self):
        return (self.w, self.training)
    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        torch.save(state[0], {mark!r})
        self.w = state[0]
        self.training = state[1]
"""


@pytest.mark.parametrize("appended", [b"", b"PK\x05\x06"])
@pytest.mark.parametrize("model", ["ViT-B-16", "ViT-B-16-SigLIP"])
def test_a_program_is_refused_and_open_clip_never_sees_the_path(model, appended, tmp_path, monkeypatch):
    mark = tmp_path / "ran"
    (tmp_path / "evil_source.py").write_text(EVIL.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(tmp_path))
    import evil_source

    path = tmp_path / "evil.pt"
    torch.jit.script(evil_source.Evil()).save(str(path))
    mark.unlink(missing_ok=True)
    sys.modules.pop("evil_source")
    with open(path, "ab") as file:
        file.write(appended)
    with pytest.raises(ValueError, match="evil.pt"):
        load_clip(f"open_clip:{model}/{path}")
    assert not mark.exists()


def test_a_file_is_read_by_our_reader_alone(open_clip_folder, monkeypatch):
    _, folder = open_clip_folder(SIGLIP)

    def never(*args, **kwargs):
        raise AssertionError("open_clip was given a path")

    for name in ("load_checkpoint", "load_state_dict", "create_model"):
        monkeypatch.setattr(f"open_clip.factory.{name}", never)
    monkeypatch.setattr("torch.load", never)
    load_clip(f"open_clip:ViT-B-16-SigLIP/{folder}")


def test_a_file_of_another_model_names_what_does_not_fit(open_clip_folder, tmp_path):
    _, folder = open_clip_folder(SIGLIP)
    path = folder / "open_clip_model.safetensors"
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(ValueError, match="of the tensors of open_clip's ViTamin-S"):
        load_clip(f"open_clip:ViTamin-S/{path}")


def test_a_tag_is_downloaded_as_safetensors_only(monkeypatch, open_clip_folder):
    _, folder = open_clip_folder(QUICK)
    (folder / "open_clip_config.json").unlink()
    monkeypatch.setattr(family, "model_config", lambda model: OPENAI_STYLE)
    asked = []

    def download(repo_id, filename):
        asked.append((repo_id, filename))
        return str(folder / "open_clip_model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    clip = load_clip("open_clip:ViT-B-16/dfn2b")
    assert asked == [("apple/DFN2B-CLIP-ViT-B-16", "open_clip_model.safetensors")]
    assert clip.activation == "quick_gelu"

    def fails(repo_id, filename):
        raise OSError("404: no such file")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fails)
    with pytest.raises(ConnectionError, match="open_clip_model.safetensors of apple/DFN2B.*404.*by hand"):
        load_clip("open_clip:ViT-B-16/dfn2b")


def test_a_tag_without_safetensors_names_the_file_to_fetch(monkeypatch):
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {"url": "https://e.org/w.pt"})
    with pytest.raises(ConnectionError, match="Get https://e.org/w.pt by hand, and give open_clip:ViT"):
        load_clip("open_clip:ViT-B-16/some_tag")


# Names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, message",
    [
        ("open_clip:ViT-B-16", "needs a model and its weights, as in open_clip:ViT-B-16-SigLIP/webli"),
        ("open_clip:ViT-B-61/random", "unknown model of open_clip 'ViT-B-61'; did you mean 'ViT-B-16'"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_loaded(name, message):
    with pytest.raises(ValueError, match=message):
        backbones.check_name(name)


def test_an_unknown_tag_gets_the_nearest_one():
    with pytest.raises(ValueError, match="unknown tag of ViT-B-16 'dfn3b'; did you mean 'dfn2b'"):
        backbones.input_of("open_clip:ViT-B-16/dfn3b")


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="there is no file '/nowhere/x.pt'"):
        backbones.check_name("open_clip:ViT-B-16//nowhere/x.pt")


def test_names_of_run_folders(open_clip_folder):
    assert backbones.slug("open_clip:ViT-B-32/openai") == "open_clip_vit_b_32_openai"
    _, folder = open_clip_folder(QUICK)
    name = f"open_clip:ViT-B-16/{folder}"
    assert backbones.slug(name) == f"weights_{backbones.weights_digest(name)[:4]}"
    assert backbones.absolute("open_clip:ViT-B-16/openai") == "open_clip:ViT-B-16/openai"
    assert backbones.absolute("open_clip:ViT-B-16/a/b.pt") == f"open_clip:ViT-B-16/{Path.cwd()}/a/b.pt"


def test_names_are_checked_without_open_clip_and_torch():
    code = (
        "import sys; from clipfit import backbones as b; n = 'open_clip:ViT-B-16-SigLIP/webli'; "
        "b.check_name(n); b.slug(n); b.input_of(n, now=False); "
        "sys.exit(bool({'torch', 'open_clip'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(family, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package open_clip .pip install -r requirements-openclip"):
        backbones.check_name("open_clip:ViT-B-16/openai")


def test_half_precision_is_refused_where_it_is_not_openais(open_clip_folder):
    _, folder = open_clip_folder(MOBILE_B)
    with pytest.raises(ValueError, match="PREC fp16 is OpenAI's layout.*choose amp or fp32"):
        load_clip(f"open_clip:any/{folder}", "fp16")


def test_the_form_of_openai_is_recognised():
    assert isinstance(OpenAIModel(**family.own_arguments(QUICK)), OpenAIModel)
    for other in (SIGLIP, MOBILE_B, MOBILE_S, SCALED, COCA):
        assert family.own_arguments(other) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert family.own_arguments(family.model_config("ViT-H-14"))["vision_heads"] == 16
