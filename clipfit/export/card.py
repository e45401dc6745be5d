"""README.md of an export: the model card, whose first lines are the metadata that hubs read.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from pathlib import Path

from clipfit import __version__
from clipfit.export.ecosystems import ECOSYSTEMS, missing
from clipfit.export.parts import OPENAI_MODELS
from clipfit.export.source import Source
from clipfit.io.files import atomic_write

FILE = "README.md"
SHOWN_CLASSES = 20
LICENSE = "License: yours to choose (`license:` above); the backbone and the pictures have licenses too."
URL = "https://arxiv.org/abs/2409.16718"


def write(source: Source, to: str, folder: Path, lines: list[str]) -> None:
    """Args: lines, the Python that loads the export"""
    name = folder.absolute().name
    with atomic_write(folder / FILE) as file:
        file.write(f"---\n{metadata(source, to, name)}---\n\n{_text(source, to, name, lines)}")


def metadata(source: Source, to: str, name: str) -> str:
    """YAML, whose values are written as JSON (which YAML contains)."""
    task = "zero-shot-image-classification" if ECOSYSTEMS[to].names_classes else "image-classification"
    base = source.options.get("base_model") or OPENAI_MODELS.get(source.backbone)
    method = source.facts["method"].lower()
    rows = [("library_name", ECOSYSTEMS[to].library_name)]
    if base:
        rows += [("base_model", base), ("base_model_relation", "adapter" if to == "peft" else "finetune")]
    rows += [("pipeline_tag", task), ("tags", list(dict.fromkeys(["clip", "clipfit", method])))]
    accuracy = source.facts.get("accuracy")
    if accuracy is not None and not source.options.get("untouched"):
        result = {
            "task": {"type": task},
            "dataset": {"type": "custom", "name": "test pictures of the run"},
            "metrics": [{"type": "accuracy", "value": accuracy, "name": "accuracy in %"}],
        }
        rows.append(("model-index", [{"name": name, "results": [result]}]))
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in rows]
    return "".join(lines)


def _text(source: Source, to: str, name: str, lines: list[str]) -> str:
    facts, code = source.facts, "\n".join(lines)
    names = source.labels[:SHOWN_CLASSES]
    more = len(source.labels) - len(names)
    known = ", ".join(names) + (f", and {more:,} more" if more else "")
    parts = [f"# {name}", _about(source)]
    parts.append(f"```python\n{code}\n```")
    needed = missing(ECOSYSTEMS[to].reader) or list(ECOSYSTEMS[to].reader.values())
    if needed:
        parts.append(f"It needs `pip install {' '.join(needed)}`.")
    parts.append(f"**Classes** ({len(source.labels):,}): {known}.")
    if ECOSYSTEMS[to].names_classes:
        parts.append(_prompts(source))
    else:
        parts.append(
            "`logits` are (pictures, classes); their softmax is the probabilities. "
            "`preprocessor_config.json` says how a picture becomes `pixel_values`."
        )
    if facts["input"].get("upright"):
        parts.append("Pictures are turned upright first, as their EXIF tag says.")
    parts.append(LICENSE)
    return "\n\n".join(parts) + "\n"


def _about(source: Source) -> str:
    facts = source.facts
    if source.options.get("untouched"):
        return f"CLIP `{source.backbone}`, untouched, for adapters that belong to it."
    counts, accuracy = facts.get("images") or {}, facts.get("accuracy")
    said = f"CLIP `{source.backbone}` adapted with [{facts['method']}]({URL}) by clipfit {__version__}."
    if facts["method"] != "CLIPFit":
        said = f"CLIP `{source.backbone}` adapted with {facts['method']} by clipfit {__version__}."
    if counts.get("trained"):
        said += f" It was trained on {counts['trained']:,} pictures"
        said += f" and is right on {accuracy:.1f} % of {counts['tested']:,} others." if accuracy else "."
    return said


def _prompts(source: Source) -> str:
    words = ", ".join(f"`{text}`" for text in source.templates)
    if len(source.templates) == 1:
        return f"**Prompt**: {words} with a class name in place of `{{}}`; other classes may be named."
    return (
        f"**Prompts**: {words}, with a class name in place of `{{}}`. The feature of a class is the mean of "
        "their unit features, as a unit vector."
    )
