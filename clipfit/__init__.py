"""CLIP as the trainers see it: loading, text encoding, prompts and parameter groups.

Nothing here knows a trainer or a data set. Modules and tokenizer are those of the `clip` package; the forward
pass through the text encoder is ours (clipfit/text.py). Importing this package imports neither torch nor
torchvision.
"""

__version__ = "0.1.0"


def load(folder, device="cpu", backbone=""):
    """A trained model from its folder fit/, or from the run folder that holds it (clipfit/fit/model.py)."""
    from clipfit.fit.model import load as load_fit

    return load_fit(folder, device=device, backbone=backbone)
