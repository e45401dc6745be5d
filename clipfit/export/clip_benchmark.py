"""--to clip_benchmark: what CLIP_benchmark's command takes.

DIR/
  model.pt          a state dict with OpenAI's names, for --pretrained
  classnames.json   {dataset: [...]}, for --custom_classname_file
  templates.json    {dataset: ["a photo of a {c}."]}, for --custom_template_file

The dataset is the name that its --dataset gets. Architectures without a name in open_clip cannot be named in
the command line of CLIP_benchmark.
"""

from __future__ import annotations

from pathlib import Path

from clipfit.architectures import ARCHITECTURES, architecture_arguments
from clipfit.export import openai
from clipfit.export.merged import MergedFit
from clipfit.io.checkpoints import save_whole
from clipfit.io.files import write_json

CLASSES, TEMPLATES = "classnames.json", "templates.json"
DATASET = "custom"  # where nobody says another name


def write(fit: MergedFit, folder: Path) -> list[str]:
    dataset, name = fit.options.get("dataset") or DATASET, open_clip_name(fit)
    save_whole(fit.state(), folder / openai.WEIGHTS)
    write_json({dataset: fit.labels}, folder / CLASSES)
    write_json({dataset: [text.replace("{}", "{c}") for text in fit.templates]}, folder / TEMPLATES)
    return [
        "import open_clip",
        f"model, _, preprocess = open_clip.create_model_and_transforms({name!r}, "
        f"pretrained={str(folder / openai.WEIGHTS)!r})",
        f"tokenizer = open_clip.get_tokenizer({name!r})",
    ]


def open_clip_name(fit: MergedFit) -> str:
    """Such as "ViT-B-16-quickgelu", found by the shapes of the weights.

    Raises: ValueError for an architecture that has no name there
    """
    known = fit.architecture()
    for name in ARCHITECTURES:
        if all(known.get(key) == value for key, value in architecture_arguments(name).items()):
            return name.removesuffix("px").replace("/", "-").replace("@", "-") + "-quickgelu"
    raise ValueError(
        f"--to clip_benchmark: CLIP_benchmark takes architectures by their name in open_clip, and that of "
        f"{fit.backbone} has none; --to open_clip writes a folder that describes it"
    )
