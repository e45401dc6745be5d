"""Tensors of a CLIP under OpenAI's names, and what a file is that has others.

open_clip's `CLIP` has OpenAI's names. transformers' `CLIPModel` has others, splits what attention projects
into query, key and value, and transposes the two projections at the ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

# transformers' name -> OpenAI's, outside of the blocks. "pre_layrnorm" is spelled so there.
HUGGING_FACE = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
TOWERS = {"text_model.encoder.layers.": "transformer.", "vision_model.encoder.layers.": "visual.transformer."}
IN_A_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
SPLIT = ("q", "k", "v")  # the order in OpenAI's in_proj
OF_NO_USE = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
BLOCK = re.compile(r"(?P<tower>(?:text|vision)_model\.encoder\.layers\.)(?P<number>\d+)\.(?P<name>.+)")


def is_hugging_face(names: Collection[str]) -> bool:
    """Whether these are names of transformers' CLIPModel."""
    return "vision_model.embeddings.class_embedding" in names and any(
        name.startswith("text_model.") for name in names
    )


def to_openai(state: dict[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors under OpenAI's names; a state dict in OpenAI's layout is returned as it is.

    Raises: ValueError that says what the file is, if it is no CLIP of these layouts
    """
    if is_hugging_face(state):
        state = from_hugging_face(state, path)
    elif reason := description(state):
        raise ValueError(f"{path} is {reason}")
    scale = state.get("logit_scale")
    if scale is not None and scale.shape == (1,):
        state["logit_scale"] = scale.reshape(())
    return state


def from_hugging_face(state: Mapping[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """State dict of transformers' CLIPModel under OpenAI's names.

    Raises: ValueError naming `path` for a name that no CLIPModel has, or a part that is missing
    """
    found: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        match = BLOCK.fullmatch(name)
        if name in OF_NO_USE:
            continue
        if name in HUGGING_FACE:
            found[HUGGING_FACE[name]] = tensor
        elif name in TRANSPOSED:
            found[TRANSPOSED[name]] = tensor.t().contiguous()
        elif match is None:
            raise ValueError(f"{path} is a CLIPModel of transformers with an unknown tensor, {name!r}")
        else:
            place = f"{TOWERS[match['tower']]}resblocks.{match['number']}."
            layer, _, kind = match["name"].rpartition(".")
            if layer in IN_A_BLOCK:
                found[f"{place}{IN_A_BLOCK[layer]}.{kind}"] = tensor
            elif layer in (f"self_attn.{part}_proj" for part in SPLIT):
                split.setdefault(f"{place}attn.in_proj_{kind}", {})[layer[len("self_attn.")]] = tensor
            else:
                raise ValueError(f"{path} is a CLIPModel of transformers with an unknown tensor, {name!r}")
    for name, parts in split.items():
        if missing := [part for part in SPLIT if part not in parts]:
            raise ValueError(f"{path} lacks the {missing[0]}_proj that belongs to {name!r}; it is damaged")
        found[name] = torch.cat([parts[part] for part in SPLIT])
    return found


def description(names: Collection[str]) -> str:
    """What a file with tensors of these names is and what to do; empty for OpenAI's layout and the unknown.

    Sources of the names: the libraries' own classes.
    """

    def begins(*starts: str) -> bool:
        return any(name.startswith(starts) for name in names)

    def holds(*parts: str) -> bool:
        return any(part in name for name in names for part in parts)

    if holds("lora_", ".beft_", "ln_tuning_layers") or begins("base_model.model."):
        return (
            "an adapter (LoRA or another of PEFT), which changes a CLIP and is none: merge it into its base "
            "(merge_and_unload), save that, and give the saved file"
        )
    if begins("text_decoder."):
        return "a CoCa of open_clip; use open_clip:<model>/<file>, such as open_clip:coca_ViT-B-32/<file>"
    if begins("visual.trunk.attn_pool."):
        return "a SigLIP of open_clip; use open_clip:<model>/<file>, as in open_clip:ViT-B-16-SigLIP/<file>"
    if begins("visual.trunk.", "text.transformer.", "text.token_embedding"):
        return (
            "a model of open_clip whose towers are not OpenAI's (EVA-02, MobileCLIP, SigLIP, ConvNeXt, "
            "...); use open_clip:<model>/<file>, as in open_clip:EVA02-B-16/<file>"
        )
    if begins("vision_model.head.", "text_model.head."):
        return (
            "a SiglipModel of transformers; get open_clip's copy of these weights and use "
            "open_clip:<model>/<file>, as in open_clip:ViT-B-16-SigLIP/<file>"
        )
    if begins("image_encoder.model."):
        return (
            "a MobileCLIP as its authors publish it; use open_clip:<model>/<file>, as in "
            "open_clip:MobileCLIP-S1/<file>"
        )
    if "token_embedding.weight" in names or begins("visual.transformer.", "visual.layer1."):
        return ""  # OpenAI's layout, perhaps with something wrong in it
    if begins(
        "prompt_learner.", "MultiModalPromptLearner", "token_prefix", "image_encoder.", "text_encoder."
    ):
        return (
            "a checkpoint of a training run (CoOp and its family), not the CLIP it began with: name that "
            "one here, and give the run's folder as --model-dir with --eval-only"
        )
    if "ctx" in names:
        return (
            "learned prompts of a training run (CoOp and its family), not the CLIP it began with: name that "
            "one here, and give the run's folder as --model-dir with --eval-only"
        )
    if begins("vision_model.") != begins("text_model."):
        return "one tower of transformers' CLIP; give a whole CLIPModel, with text_model and vision_model"
    if begins("layer1.0.") and ("fc.weight" in names or "conv1.weight" in names):
        return "a ResNet classifier, which has no text tower; give a CLIP"
    if begins("blocks.0.") and ("cls_token" in names or "patch_embed.proj.weight" in names):
        return "a vision transformer of timm, which has no text tower; give a CLIP"
    return ""
