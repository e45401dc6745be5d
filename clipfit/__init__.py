"""CLIP as the trainers see it: loading, text encoding, prompts and parameter groups.

Nothing here knows a trainer or a data set. The modules have OpenAI's parameter names (clipfit/modules/).
Importing this package imports neither torch nor torchvision.
"""

__version__ = "0.1.0"


def load(folder, device="cpu", backbone=""):
    """A trained model from its folder fit/, or from the run folder that holds it (clipfit/fit/model.py)."""
    from clipfit.fit.model import load as load_fit

    return load_fit(folder, device=device, backbone=backbone)
