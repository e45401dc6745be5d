"""--to peft: what training changed, as an adapter on a CLIPModel of transformers.

DIR/
  adapter_config.json          LoRA for low-rank changes, BEFT for the text encoder's FFN projection biases,
                               LNTuning if there are neither
  adapter_model.safetensors    factors of changes, or differences of biases; LayerNorms as they are now
  labels.txt

The base model is OpenAI's on Hugging Face, or --base-model: a folder made with --to transformers --untouched.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from clipfit.export import parts, transformers
from clipfit.export.merged import MergedFit
from clipfit.io.checkpoints import load_safetensors
from clipfit.io.files import write_json
from clipfit.low_rank import LowRankChange

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FFN_BIAS = re.compile(r"transformer\.resblocks\.\d+\.mlp\.c_proj\.bias")
BLOCK_NORM = r"(visual\.)?transformer\.resblocks\.\d+\.ln_[12]"
LAYERNORM = re.compile(rf"({BLOCK_NORM}|visual\.ln_pre|visual\.ln_post|ln_final)\.(weight|bias)")
PREFIX = "base_model.model."


def write(fit: MergedFit, folder: Path) -> list[str]:
    transformers.check(fit, "peft")
    before, after = fit.untouched(), fit.state()
    _check_held(fit, before, after)
    low_rank = _lora(fit) if fit.deltas else {}
    base = _base_model(fit, before)
    biases = [name for name in fit.replaced if FFN_BIAS.fullmatch(name)]
    norms = sorted({name.rpartition(".")[0] for name in fit.replaced if LAYERNORM.fullmatch(name)})
    saved = [f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")]  # a module is saved whole
    beside = {"modules_to_save": [_module(f"{norm}.bias") for norm in norms] or None}
    tensors = {transformers.name_there(name): after[name] for name in saved}
    if low_rank:
        config = {**low_rank, **beside}
        for change in fit.deltas:
            tensors[f"{_changed_module(change)}.lora_A.weight"] = change.down
            tensors[f"{_changed_module(change)}.lora_B.weight"] = change.up
    elif biases:
        config = {"peft_type": "BEFT", "target_modules": [_module(name) for name in biases], **beside}
        tensors |= {f"{_module(name)}.beft_bias": (after[name] - before[name])[None] for name in biases}
    else:
        config = {"peft_type": "LN_TUNING", "target_modules": [_module(f"{norm}.bias") for norm in norms]}
        tensors = {_inside(name, "ln_tuning_layers"): after[name] for name in saved}
    place = str(Path(base).absolute()) if Path(base).is_dir() else base  # the adapter may be moved
    common = {"base_model_name_or_path": place, "inference_mode": True, "task_type": None}
    parts.write_labels(fit, folder)
    parts.write_tensors({PREFIX + name: tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
    write_json({**common, **config}, folder / CONFIG)
    lines = [
        "from peft import PeftModel",
        "from transformers import CLIPModel",
        f"model = PeftModel.from_pretrained(CLIPModel.from_pretrained({base!r}), {str(folder)!r})",
    ]
    if not before["logit_scale"].equal(scale := after["logit_scale"]):  # an adapter has no place for it
        lines.append(f"model.base_model.model.logit_scale.data.fill_({scale.item():.7g})")
    return lines


def _lora(fit: MergedFit) -> dict[str, Any]:
    """The config of the low-rank changes of a fit, whose factor is alpha / sqrt(r) as CLIP-LoRA's.

    Raises: ValueError for changes of several ranks or factors
    """
    alike = {(len(change.down), change.scale) for change in fit.deltas}
    if len(alike) > 1:
        raise ValueError(
            f"{fit.path}: an adapter of peft has one rank and one factor, and the low-rank changes have "
            f"{len(alike)} pairs of them; --to transformers holds the whole model"
        )
    (rank, scale), known = next(iter(alike)), fit.architecture()
    alpha = float(f"{scale * math.sqrt(rank):.6g}")
    modules = [_changed_module(change) for change in fit.deltas]
    maps = sorted({module.rpartition(".")[2] for module in modules})
    everywhere = len(modules) == len(maps) * (known["transformer_layers"] + known["vision_layers"])
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "use_rslora": True,
        "lora_dropout": fit.facts.get("low_rank_dropout", 0.0),
        "target_modules": maps if everywhere else modules,
    }


def _changed_module(change: LowRankChange) -> str:
    """The module of CLIPModel that a low-rank change belongs to."""
    return transformers.part_there(change.name, change.part) if change.part else _module(change.name)


def _module(name: str) -> str:
    """The module of CLIPModel that has a tensor, by OpenAI's name of the tensor."""
    return transformers.name_there(name).rpartition(".")[0]


def _inside(name: str, part: str) -> str:
    """CLIPModel's name of a tensor that lies in a part of its module: "....layer_norm1.<part>.bias"."""
    return f"{_module(name)}.{part}.{name.rpartition('.')[2]}"


def _check_held(fit: MergedFit, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Raises: ValueError if training changed what an adapter has no place for, or nothing"""
    added: dict[str, Tensor] = {}
    for change in fit.deltas:
        added[change.name] = change.added_to(added.get(change.name, before[change.name]))
    held = [name for name, tensor in added.items() if tensor.allclose(after[name])]
    held += [name for name in fit.replaced if LAYERNORM.fullmatch(name)]
    held += [name for name in fit.replaced if FFN_BIAS.fullmatch(name) and not added]
    others = [name for name in fit.replaced if name not in held]
    if not others and held:
        return
    what = f"it changes {len(others)} others, such as {others[0]}" if others else "it changes nothing"
    raise ValueError(
        f"{fit.path} of {fit.facts['method']}: an adapter of peft holds the groups text.ffn_proj_bias (or "
        f"low-rank changes), image.layernorm and text.layernorm, and {what}; --to transformers holds the "
        "whole model"
    )


def _base_model(fit: MergedFit, before: dict[str, Tensor]) -> str:
    """Name or folder of the CLIPModel that the adapter belongs to.

    Raises: ValueError if none is known, and for a folder with other weights than the backbone's
    """
    base = fit.options.get("base_model")
    if not base and fit.backbone in parts.OPENAI_MODELS:
        return parts.OPENAI_MODELS[fit.backbone]
    if not base:
        raise ValueError(
            f"--to peft: {fit.backbone} is no model on Hugging Face that an adapter could name; write it "
            f"by: clipfit export {fit.path} --to transformers --untouched BASE; give --base-model BASE"
        )
    weights = Path(base, transformers.WEIGHTS)
    if weights.is_file():
        there, expected = load_safetensors(weights), transformers.converted(before)
        other = [name for name in expected if name not in there or not there[name].equal(expected[name])]
        if other:
            raise ValueError(
                f"--base-model {base}: {len(other)} of its tensors are not those of {fit.backbone}, such "
                f"as {other[0]}; an adapter belongs to the untouched backbone: write it with --untouched"
            )
    return base
