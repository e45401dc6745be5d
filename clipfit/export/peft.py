"""--to peft: what training changed, as an adapter on a CLIPModel of transformers.

DIR/
  adapter_config.json          BEFT for the text encoder's FFN projection biases; LNTuning if there are none
  adapter_model.safetensors    their changes as differences; LayerNorms as they are now
  labels.txt

The base model is OpenAI's on Hugging Face, or --base-model: a folder made with --to transformers --untouched.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from clipfit.export import parts, transformers
from clipfit.export.merged import MergedFit
from clipfit.io.checkpoints import load_safetensors
from clipfit.io.files import write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FFN_BIAS = re.compile(r"transformer\.resblocks\.\d+\.mlp\.c_proj\.bias")
BLOCK_NORM = r"(visual\.)?transformer\.resblocks\.\d+\.ln_[12]"
LAYERNORM = re.compile(rf"({BLOCK_NORM}|visual\.ln_pre|visual\.ln_post|ln_final)\.(weight|bias)")
PREFIX = "base_model.model."


def write(fit: MergedFit, folder: Path) -> list[str]:
    transformers.check(fit, "peft")
    before, after = fit.untouched(), fit.state()
    _check_held(fit, before, after)
    base = _base_model(fit, before)
    biases = [name for name in fit.replaced if FFN_BIAS.fullmatch(name)]
    norms = sorted({name.rpartition(".")[0] for name in fit.replaced if LAYERNORM.fullmatch(name)})
    saved = [f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")]  # a module is saved whole
    if biases:
        config = {"peft_type": "BEFT", "target_modules": [_module(name) for name in biases]}
        config["modules_to_save"] = [_module(f"{norm}.bias") for norm in norms] or None
        tensors = {f"{_module(name)}.beft_bias": (after[name] - before[name])[None] for name in biases}
        tensors |= {transformers.name_there(name): after[name] for name in saved}
    else:
        config = {"peft_type": "LN_TUNING", "target_modules": [_module(f"{norm}.bias") for norm in norms]}
        tensors = {_inside(name, "ln_tuning_layers"): after[name] for name in saved}
    place = str(Path(base).absolute()) if Path(base).is_dir() else base  # the adapter may be moved
    common = {"base_model_name_or_path": place, "inference_mode": True, "task_type": None}
    parts.write_labels(fit, folder)
    parts.write_tensors({PREFIX + name: tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
    write_json({**common, **config}, folder / CONFIG)
    return [
        "from peft import PeftModel",
        "from transformers import CLIPModel",
        f"model = PeftModel.from_pretrained(CLIPModel.from_pretrained({base!r}), {str(folder)!r})",
    ]


def _module(name: str) -> str:
    """The module of CLIPModel that has a tensor, by OpenAI's name of the tensor."""
    return transformers.name_there(name).rpartition(".")[0]


def _inside(name: str, part: str) -> str:
    """CLIPModel's name of a tensor that lies in a part of its module: "....layer_norm1.<part>.bias"."""
    return f"{_module(name)}.{part}.{name.rpartition('.')[2]}"


def _check_held(fit: MergedFit, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Raises: ValueError if training changed what an adapter has no place for, or nothing"""
    held = [name for name in fit.replaced if FFN_BIAS.fullmatch(name) or LAYERNORM.fullmatch(name)]
    others = [name for name in fit.replaced if name not in held]
    if after["logit_scale"] != before["logit_scale"] and "logit_scale" not in others:
        others.append("logit_scale")
    if not others and held:
        return
    what = f"it changes {len(others)} others, such as {others[0]}" if others else "it changes nothing"
    raise ValueError(
        f"{fit.path} of {fit.facts['method']}: an adapter of peft holds the groups text.ffn_proj_bias, "
        f"image.layernorm and text.layernorm, and {what}; --to transformers holds the whole model"
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
