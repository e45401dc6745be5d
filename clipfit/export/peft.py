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
from clipfit.export.source import Source
from clipfit.io.checkpoints import load_safetensors
from clipfit.io.files import write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FFN_BIAS = re.compile(r"transformer\.resblocks\.\d+\.mlp\.c_proj\.bias")
LAYERNORM = re.compile(
    r"((visual\.)?transformer\.resblocks\.\d+\.)?(visual\.)?ln_(1|2|pre|post|final)\.(weight|bias)"
)
PREFIX = "base_model.model."


def write(source: Source, folder: Path) -> list[str]:
    transformers.check(source, "peft")
    before = source.untouched()
    _check_held(source, before)
    base = _base_model(source, before)
    biases = [name for name in source.replaced if FFN_BIAS.fullmatch(name)]
    norms = [name for name in source.replaced if LAYERNORM.fullmatch(name)]
    config, tensors = (_beft if biases else _ln_tuning)(source, before, biases, norms)
    parts.write_labels(source, folder)
    parts.write_tensors(tensors, folder / WEIGHTS)
    place = str(Path(base).absolute()) if Path(base).is_dir() else base  # the adapter may be moved
    common = {"base_model_name_or_path": place, "inference_mode": True, "task_type": None}
    write_json({**common, **config}, folder / CONFIG)
    return [
        "from peft import PeftModel",
        "from transformers import CLIPModel",
        f"model = PeftModel.from_pretrained(CLIPModel.from_pretrained({base!r}), {str(folder)!r})",
    ]


def _beft(source: Source, before: dict[str, Tensor], biases: list[str], norms: list[str]):
    """Biases as differences of shape (1, W); LayerNorms whole, as modules to save."""
    modules = [_module(name) for name in biases]
    tensors = {
        f"{PREFIX}{module}.beft_bias": (source.replaced[name].float() - before[name])[None].contiguous()
        for module, name in zip(modules, biases, strict=True)
    }
    saved = sorted({name.rpartition(".")[0] for name in norms})
    for norm in saved:  # a module is saved whole
        for kind in ("weight", "bias"):
            name = f"{norm}.{kind}"
            tensors[PREFIX + transformers.name_there(name)] = source.state()[name]
    config = {
        "peft_type": "BEFT",
        "target_modules": modules,
        "modules_to_save": [_module(f"{norm}.bias") for norm in saved] or None,
    }
    return config, tensors


def _ln_tuning(source: Source, before: dict[str, Tensor], biases: list[str], norms: list[str]):
    """LayerNorms alone, each a layer of its own in the adapter."""
    modules = sorted({name.rpartition(".")[0] for name in norms})
    tensors = {}
    for norm in modules:
        for kind in ("weight", "bias"):
            name = f"{norm}.{kind}"
            there = f"{PREFIX}{_module(name)}.ln_tuning_layers.{kind}"
            tensors[there] = source.state()[name]
    return {
        "peft_type": "LN_TUNING",
        "target_modules": [_module(f"{norm}.bias") for norm in modules],
    }, tensors


def _module(name: str) -> str:
    """The module of CLIPModel that has a tensor, by OpenAI's name of the tensor."""
    return transformers.name_there(name).rpartition(".")[0]


def _check_held(source: Source, before: dict[str, Tensor]) -> None:
    held = [name for name in source.replaced if FFN_BIAS.fullmatch(name) or LAYERNORM.fullmatch(name)]
    others = [name for name in source.replaced if name not in held]
    if source.state()["logit_scale"] != before["logit_scale"] and "logit_scale" not in others:
        others.append("logit_scale")
    if not others and held:
        return
    what = f"it changes {len(others)} others, such as {others[0]}" if others else "it changes nothing"
    raise ValueError(
        f"{source.path} of {source.facts['method']}: an adapter of peft holds the groups text.ffn_proj_bias, "
        f"image.layernorm and text.layernorm, and {what}; --to transformers holds the whole model"
    )


def _base_model(source: Source, before: dict[str, Tensor]) -> str:
    """Name or folder of the CLIPModel that the adapter belongs to.

    Raises: ValueError if none is known, and for a folder with other weights than the backbone's
    """
    base = source.options.get("base_model")
    if not base and source.backbone in parts.OPENAI_MODELS:
        return parts.OPENAI_MODELS[source.backbone]
    if not base:
        raise ValueError(
            f"--to peft: {source.backbone} is no model on Hugging Face that an adapter could name; write it "
            f"by: clipfit export {source.path} --to transformers --untouched BASE; give --base-model BASE"
        )
    weights = Path(base, transformers.WEIGHTS)
    if weights.is_file():
        there, expected = load_safetensors(weights), transformers.converted(before)
        other = [name for name in expected if name not in there or not there[name].equal(expected[name])]
        if other:
            raise ValueError(
                f"--base-model {base}: {len(other)} of its tensors are not those of {source.backbone}, such "
                f"as {other[0]}; an adapter belongs to the untouched backbone: write it with --untouched"
            )
    return base
