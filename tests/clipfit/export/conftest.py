"""Fits of every kind, each made once; an export of one, loaded by the Python that the command prints."""

import os

import pytest
import torch

import clipfit
from clipfit.cli import main
from tests.clipfit.export.fits import make_fit

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # whoever looks for a file on the hub is told at once


@pytest.fixture(scope="session")
def fit_of(tmp_path_factory):
    """Kind -> folder of a fit."""
    made = {}

    def fit(kind, backbone=""):
        if (kind, backbone) not in made:
            made[kind, backbone] = make_fit(tmp_path_factory.mktemp("fit") / "run/fit", kind, backbone)
        return made[kind, backbone]

    return fit


@pytest.fixture
def loaded(tmp_path, capsys):
    """Export a fit and run the printed lines. Returns: what they define, the folder as `folder`"""

    def export(fit, to, *flags, folder="export", lines=3):
        capsys.readouterr()
        assert main(["export", str(fit), "--to", to, str(tmp_path / folder), *map(str, flags)]) == 0
        printed = capsys.readouterr().out.split("\n\n")[1]
        assert len(printed.strip().splitlines()) == lines
        names = {"folder": tmp_path / folder}
        exec(printed, names)
        return names

    return export


@pytest.fixture
def pixels_of():
    """Fit -> pixels (5, 3, H, W), of which the first is also tested alone."""

    def pixels(fit):
        size = clipfit.load(fit).facts["input"]["size"]
        return torch.randn(5, 3, *size, generator=torch.Generator().manual_seed(2))

    return pixels


@pytest.fixture
def check(pixels_of):
    """Compare logits of an export with the fit's, at batch 1 and 5. Returns: the largest difference"""

    def check_logits(fit, logits, tolerance=1e-5):
        pixels, model = pixels_of(fit), clipfit.load(fit)
        with torch.no_grad():
            expected = model.facts["logit_scale"] * model.encode_image(pixels) @ model.class_features.T
            differences = [
                (torch.as_tensor(logits(pixels[:count])) - expected[:count]).abs().max() for count in (1, 5)
            ]
        found = max(differences).item() / expected.abs().max().item()
        assert found < tolerance
        return found

    return check_logits
