"""README.md of an export: the model card, whose first lines are the metadata that hubs read.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from pathlib import Path

from clipfit import __version__
from clipfit.export.ecosystems import ECOSYSTEMS, missing
from clipfit.export.merged import MergedFit
from clipfit.export.parts import OPENAI_MODELS
from clipfit.io.files import atomic_write

FILE = "README.md"
SHOWN_CLASSES = 20
LICENSE = "License: yours to choose (`license:` above); the backbone and the pictures have licenses too."
URL = "https://arxiv.org/abs/2409.16718"


def write(fit: MergedFit, to: str, folder: Path, lines: list[str]) -> None:
    """Args: lines, the Python that loads the export"""
    name = folder.absolute().name
    with atomic_write(folder / FILE) as file:
        file.write(f"---\n{metadata(fit, to, name)}---\n\n{_text(fit, to, name, lines)}")


def metadata(fit: MergedFit, to: str, name: str) -> str:
    """YAML, whose values are written as JSON (which YAML contains)."""
    task = "zero-shot-image-classification" if ECOSYSTEMS[to].names_classes else "image-classification"
    base = fit.options.get("base_model") or OPENAI_MODELS.get(fit.backbone)
    method = fit.facts["method"].lower()
    rows = [("library_name", ECOSYSTEMS[to].library)]
    if base:
        rows += [("base_model", base), ("base_model_relation", "adapter" if to == "peft" else "finetune")]
    rows += [("pipeline_tag", task), ("tags", list(dict.fromkeys(["clip", "clipfit", method])))]
    accuracy = fit.facts.get("accuracy")
    if accuracy is not None and not fit.options.get("untouched"):
        result = {
            "task": {"type": task},
            "dataset": {"type": "custom", "name": "test pictures of the run"},
            "metrics": [{"type": "accuracy", "value": accuracy, "name": "accuracy in %"}],
        }
        rows.append(("model-index", [{"name": name, "results": [result]}]))
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in rows]
    return "".join(lines)


def _text(fit: MergedFit, to: str, name: str, lines: list[str]) -> str:
    facts, code = fit.facts, "\n".join(lines)
    names = fit.labels[:SHOWN_CLASSES]
    more = len(fit.labels) - len(names)
    known = ", ".join(names) + (f", and {more:,} more" if more else "")
    parts = [f"# {name}", _about(fit)]
    parts.append(f"```python\n{code}\n```")
    needed = missing(ECOSYSTEMS[to].read_by) or list(ECOSYSTEMS[to].read_by.values())
    if needed:
        parts.append(f"It needs `pip install {' '.join(needed)}`.")
    parts.append(f"**Classes** ({len(fit.labels):,}): {known}.")
    if ECOSYSTEMS[to].names_classes:
        parts.append(_prompts(fit))
    else:
        parts.append(
            "`logits` are (pictures, classes); their softmax is the probabilities. "
            "`preprocessor_config.json` says how a picture becomes `pixel_values`."
        )
    if facts["input"].get("upright"):
        parts.append("Pictures are turned upright first, as their EXIF tag says.")
    parts.append(LICENSE)
    return "\n\n".join(parts) + "\n"


def _about(fit: MergedFit) -> str:
    facts = fit.facts
    if fit.options.get("untouched"):
        return f"CLIP `{fit.backbone}`, untouched, for adapters that belong to it."
    counts, accuracy = facts.get("images") or {}, facts.get("accuracy")
    said = f"CLIP `{fit.backbone}` adapted with [{facts['method']}]({URL}) by clipfit {__version__}."
    if facts["method"] != "CLIPFit":
        said = f"CLIP `{fit.backbone}` adapted with {facts['method']} by clipfit {__version__}."
    if counts.get("trained"):
        said += f" It was trained on {counts['trained']:,} pictures"
        said += f" and is right on {accuracy:.1f} % of {counts['tested']:,} others." if accuracy else "."
    return said


def _prompts(fit: MergedFit) -> str:
    words = ", ".join(f"`{text}`" for text in fit.templates)
    if len(fit.templates) == 1:
        return f"**Prompt**: {words} with a class name in place of `{{}}`; other classes may be named."
    return (
        f"**Prompts**: {words}, with a class name in place of `{{}}`. The feature of a class is the mean of "
        "their unit features, as a unit vector."
    )
