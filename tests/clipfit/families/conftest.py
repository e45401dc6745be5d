"""Small models of open_clip and transformers on disk, as these libraries write them."""

import json
import string

import pytest
import torch
from safetensors.torch import save_file

SIDE = 32
OPENAI_STYLE = {  # of OpenAI's form: two heads, two blocks
    "embed_dim": 32,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 128, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 128, "heads": 2, "layers": 2},
}
QUICK = {**OPENAI_STYLE, "quick_gelu": True}
SIGLIP = {  # as ViT-B-16-SigLIP, with the smallest vision transformer of timm
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 64,
        "vocab_size": 100,
        "hf_tokenizer_name": "nowhere/siglip",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 64,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
MOBILE_TEXT = {"context_length": 77, "vocab_size": 49_408, "width": 64, "heads": 2, "layers": 2}
MOBILE_S = {  # as MobileCLIP-S: no LayerNorm in the image tower, no causal mask in the text tower
    "embed_dim": 64,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "fastvit_mci0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": None,
    },
    "text_cfg": {**MOBILE_TEXT, "no_causal_mask": True},
}
MOBILE_B = {  # as MobileCLIP-B and EVA-02: an image tower of timm, a causal text tower of CLIP's blocks
    "embed_dim": 64,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
    },
    "text_cfg": {**MOBILE_TEXT, "no_causal_mask": False},
}
SCALED = {  # LayerScale: of OpenAI's names, but not of its form
    **OPENAI_STYLE,
    "text_cfg": {**OPENAI_STYLE["text_cfg"], "ls_init_value": 0.1},
}
COCA = {
    "embed_dim": 32,
    "custom_text": True,
    "vision_cfg": {**OPENAI_STYLE["vision_cfg"], "attentional_pool": True, "output_tokens": True}
    | {"attn_pooler_heads": 2},
    "text_cfg": {**MOBILE_TEXT, "context_length": 20, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**MOBILE_TEXT, "context_length": 20, "attn_pooler_heads": 2},
}
SQUASH = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """The model in eval mode with no tensor at a special value, the same at every call."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer += 0.1 * torch.rand_like(buffer)
    return model.eval()


def write_config(folder, config, preprocess=None):
    content = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))


def write_tokenizer(folder):
    """A tokenizer of letters, each of which is one token, as transformers saves it."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    letters = ["[pad]", "</s>", "[unk]", *string.printable[:95]]
    ids = {letter: id for id, letter in enumerate(letters)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[unk]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[pad]", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "unk_token": "[unk]"}))


@pytest.fixture
def open_clip_folder(tmp_path):
    """Write a model of open_clip; returns it, for its own forward pass, and the folder."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is not installed")
    pytest.importorskip("timm", reason="timm is not installed")

    def write(config, preprocess=None):
        folder = tmp_path / "weights"
        folder.mkdir()
        write_config(folder, config, preprocess)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        model = stirred(model)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
        return model, folder

    return write


@pytest.fixture
def hugging_face_folder(tmp_path):
    """Write a CLIPModel of transformers; returns it and the folder."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")

    def write(activation="quick_gelu", heads=2):
        tower = {"num_hidden_layers": 2, "num_attention_heads": heads, "hidden_act": activation}
        tower |= {"hidden_size": 128, "intermediate_size": 512}
        config = transformers.CLIPConfig(
            text_config={**tower, "vocab_size": 49_408, "eos_token_id": 49_407},
            vision_config={**tower, "image_size": SIDE, "patch_size": 16},
            projection_dim=32,
        )
        model = stirred(transformers.CLIPModel(config))
        folder = tmp_path / "hugging_face"
        model.save_pretrained(folder)
        return model, folder

    return write
