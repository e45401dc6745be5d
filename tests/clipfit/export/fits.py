"""Fits as training leaves them, of every kind that exports tell apart, made without training."""

from __future__ import annotations

from pathlib import Path

import torch

from clipfit.backbones import input_of, weights_digest
from clipfit.clip import normalize
from clipfit.fit.files import CLASS_FEATURES, CLIP, Fit, delta_tensors, write_fit
from clipfit.fit.model import FittedModel
from clipfit.fit.names import openai_changes, openai_name
from clipfit.groups import select
from clipfit.loading import load_clip
from clipfit.low_rank import add_low_rank
from tests.clipfit.fit.zero_shot import INPUT, TEMPLATE

CLASSES = ["striped_red_star", "dotted blue fish", "wavy blue fish"]  # prompts have no underscores
TRAINED = {  # kind -> groups of parameters that it changes
    "CLIPFit": ["text.ffn_proj_bias", "image.layernorm"],
    "text.bias": ["text.bias"],
    "image.layernorm[0:3]": ["image.layernorm[0:3]"],
    "layernorms": ["image.layernorm", "text.layernorm"],
    "CoOp": [],
    "CoOp+UL": ["image.layernorm"],
    "RN50": ["text.ffn_proj_bias"],
    "zero-shot": [],
    "low-rank": ["image.layernorm[0]"],
    "CLIPLoRA": [],
    "ensemble": ["text.ffn_proj_bias"],
}
LOW_RANK = {  # kind -> maps with low-rank changes, their factor
    "low-rank": (["text.q", "image.v"], 0.5),
    "CLIPLoRA": ([f"{tower}.{part}" for tower in ("text", "image") for part in "qkv"], 2**-0.5),
}
WORDS = ("CLIPFit", "text.bias", "image.layernorm[0:3]", "ensemble")  # whose classes are words in a template
BACKBONES = {"RN50": "random:RN50"}


def make_fit(folder: Path, kind: str, backbone: str = "") -> Path:
    """A fit whose trained tensors are far from the backbone's, so that one that is lost is seen."""
    backbone = backbone or BACKBONES.get(kind, "demo")
    clip = load_clip(backbone).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    trained = {}
    for group in select(clip, TRAINED[kind]).values():
        for name, parameter in group.items():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
            trained[CLIP + openai_name(name)] = parameter.clone()
    if kind in LOW_RANK:
        maps, scale = LOW_RANK[kind]
        for changes in add_low_rank(clip, maps, rank=2, scale=scale).values():
            for change in changes:
                change.up.data.normal_(std=0.05, generator=generator)
        trained |= delta_tensors(openai_changes(clip))
    side = input_of(backbone).size
    facts = {
        "method": kind,
        "backbone": {"name": backbone, "sha256": weights_digest(backbone), "activation": "quick_gelu"},
        "classes": CLASSES,
        "template": [TEMPLATE, "art of the {}."] if kind == "ensemble" else TEMPLATE,
        "features": "text",
        "open_vocabulary": True,
        "input": {**INPUT, "size": [side, side]},
        "logit_scale": 100.0 if kind == "CLIPLoRA" else clip.logit_scale.exp().item(),
        **({"low_rank_dropout": 0.25} if kind == "CLIPLoRA" else {}),
        "accuracy": 81.25,
        "images": {"trained": 48, "tested": 96},
    }
    features = torch.randn(len(CLASSES), clip.text_encoder.text_projection.shape[1], generator=generator)
    made = FittedModel(clip, Fit(facts, {CLASS_FEATURES: normalize(features)}), "")
    if kind.startswith("CoOp"):
        facts = {**facts, "template": None, "open_vocabulary": False}
    else:
        made = made.with_classes(CLASSES)
    write_fit(folder, Fit(facts, {**trained, CLASS_FEATURES: made.class_features}))
    return folder
