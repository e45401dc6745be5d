"""--to transformers: a CLIPModel, for pipeline("zero-shot-image-classification") and all that reads one.

DIR/
  config.json, model.safetensors
  preprocessor_config.json
  vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json
  modules.json, config_sentence_transformers.json   the same folder for sentence-transformers
  labels.txt
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipfit import tokenizer
from clipfit.export import parts
from clipfit.export.merged import MergedFit
from clipfit.io.files import atomic_write, write_json
from clipfit.modules import HEAD_WIDTH

WEIGHTS = "model.safetensors"

# OpenAI's name -> that of CLIPModel; "(text|visual)" blocks first. `pre_layrnorm` is spelled so there.
BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
IN_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
OUTSIDE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
TRANSPOSED = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}


def write(fit: MergedFit, folder: Path) -> list[str]:
    check(fit, "transformers")
    write_model(fit, folder, fit.untouched() if fit.options.get("untouched") else fit.state())
    parts.write_labels(fit, folder)
    _write_for_sentence_transformers(folder)
    return [
        "from transformers import pipeline",
        f'classify = pipeline("zero-shot-image-classification", model={str(folder)!r})',
        parts.labels_line(folder),
    ]


def check(fit: MergedFit, to: str) -> None:
    """Raises: ValueError for a ResNet"""
    if fit.architecture()["vision_patch_size"] is None:
        raise ValueError(
            f"--to {to}: {fit.backbone} has a ResNet as its image tower, and CLIPModel of transformers "
            "knows vision transformers only; --to open_clip holds it"
        )


def write_model(fit: MergedFit, folder: Path, state: dict[str, Tensor]) -> None:
    """The files of a CLIPModel with the tensors `state`, named as OpenAI does."""
    parts.write_tensors(converted(state), folder / WEIGHTS)
    parts.write_preprocessor(fit, folder)
    _write_tokenizer(folder)
    write_json(_config(fit), folder / parts.CONFIG)


def converted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under CLIPModel's names: projections transposed, packed q, k, v as three."""
    found = {}
    for name, tensor in state.items():
        if name in TRANSPOSED:
            found[TRANSPOSED[name]] = tensor.T.contiguous()
        elif name.endswith(("attn.in_proj_weight", "attn.in_proj_bias")):
            layer, kind = name.rsplit("attn.in_proj_", 1)
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{part_there(layer, part)}.{kind}"] = rows.contiguous()
        else:
            found[name_there(name)] = tensor
    return found


def name_there(name: str) -> str:
    """CLIPModel's name of a tensor that it holds as it is: "visual.ln_pre.bias" -> ..."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    match = BLOCK.fullmatch(name)
    module, _, kind = match[3].rpartition(".")
    return f"{_layer(name)}{IN_BLOCK[module]}.{kind}"


def part_there(name: str, part: str) -> str:
    """CLIPModel's module of a third of attention's packed projection: "q" of ...in_proj_weight."""
    return f"{_layer(name)}self_attn.{part}_proj"


def _layer(name: str) -> str:
    """ "visual.transformer.resblocks.3." and what follows -> "vision_model.encoder.layers.3." """
    match = re.match(r"(visual\.)?transformer\.resblocks\.(\d+)\.", name)
    return f"{'vision_model' if match[1] else 'text_model'}.encoder.layers.{match[2]}."


def _config(fit: MergedFit) -> dict[str, Any]:
    known, activation = fit.architecture(), fit.facts["backbone"]["activation"]
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",
        "projection_dim": known["embed_dim"],
        "logit_scale_init_value": fit.state()["logit_scale"].item(),
        "text_config": {
            "model_type": "clip_text_model",
            "hidden_act": activation,
            "hidden_size": known["transformer_width"],
            "intermediate_size": 4 * known["transformer_width"],
            "num_attention_heads": known["transformer_heads"],
            "num_hidden_layers": known["transformer_layers"],
            "max_position_embeddings": known["context_length"],
            "vocab_size": known["vocab_size"],
            "projection_dim": known["embed_dim"],
            "bos_token_id": tokenizer.START_TOKEN,
            "eos_token_id": tokenizer.END_TOKEN,  # 2, an old default there, means "the highest id"
            "pad_token_id": tokenizer.END_TOKEN,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_act": activation,
            "hidden_size": known["vision_width"],
            "intermediate_size": 4 * known["vision_width"],
            "num_attention_heads": known["vision_width"] // HEAD_WIDTH,
            "num_hidden_layers": known["vision_layers"],
            "image_size": known["image_resolution"],
            "patch_size": known["vision_patch_size"],
            "projection_dim": known["embed_dim"],
        },
    }


def _write_tokenizer(folder: Path) -> None:
    write_json(tokenizer.token_ids(), folder / "vocab.json")
    with atomic_write(folder / "merges.txt") as file:
        file.write("#version: 0.2\n")
        file.writelines(f"{first} {second}\n" for first, second in tokenizer.merges())
    special = {"bos_token": tokenizer.START} | dict.fromkeys(
        ("eos_token", "pad_token", "unk_token"), tokenizer.END
    )
    write_json(special, folder / "special_tokens_map.json")
    more = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.CONTEXT_LENGTH,
        "do_lower_case": True,
    }
    write_json(special | more, folder / "tokenizer_config.json")


def _write_for_sentence_transformers(folder: Path) -> None:
    """Source: https://github.com/UKPLab/sentence-transformers/issues/2336"""
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.CLIPModel"}
    write_json([module], folder / "modules.json")
    versions = {"__version__": {"pytorch": torch.__version__}}
    write_json(versions, folder / "config_sentence_transformers.json")
