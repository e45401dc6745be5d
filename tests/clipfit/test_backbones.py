"""Backbone names: sizes, folder names, and what is said about a wrong one."""

import subprocess
import sys

import pytest
import torch

from clipfit import architectures, backbones
from clipfit.families import openai
from clipfit.families.facts import MEMORY
from clipfit.published import OPENAI_INPUT_SIZES


def test_names_are_resolved_without_torch():
    code = "import sys, clipfit.backbones as b; b.input_of('random:RN50x4'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_two_tables_name_the_same_architectures():
    assert list(architectures.ARCHITECTURES) == list(OPENAI_INPUT_SIZES)


@pytest.mark.parametrize(
    "name, size, slug",
    [
        ("ViT-B/16", 224, "vit_b16"),
        ("ViT-L/14@336px", 336, "vit_l14_336"),
        ("RN50x64", 448, "rn50x64"),
        ("random:ViT-B/16", 224, "random_vit_b16"),
        ("demo", openai.DEMO_INPUT_SIZE, "demo"),
    ],
)
def test_size_and_folder_name(name, size, slug):
    backbones.check_name(name)
    assert backbones.input_of(name).size == size
    assert backbones.slug(name) == slug


def test_a_file_is_named_by_its_stem_and_tells_its_own_size(tiny_model, tmp_path):
    path = str(tmp_path / "my-clip.pt")
    torch.save(tiny_model.state_dict(), path)
    backbones.check_name(path)
    assert backbones.input_of(path).size == 32
    assert backbones.slug(path) == "my-clip"


def test_the_size_of_a_known_file_is_told_without_torch(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [tmp_path / "my-clip.pt", tmp_path / "moved.pt"]
    torch.save(tiny_model.state_dict(), paths[0])
    assert backbones.input_of(str(paths[0])).size == 32
    paths[0].rename(paths[1])
    code = "import sys; from clipfit import backbones; print(backbones.input_of(sys.argv[1]).size)"
    code += "; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, paths[1]], capture_output=True, timeout=60, text=True)
    assert (done.returncode, done.stdout) == (0, "32\n"), done.stderr
    (memory,) = (tmp_path / "cache").rglob(MEMORY)
    for damage in ("[1]", "{", '{"a": null}'):
        memory.write_text(damage)
        assert backbones.input_of(str(paths[1])).size == 32


@pytest.mark.parametrize(
    "name, nearest",
    [("ViT-B/61", "ViT-B/16"), ("vit-b/16", "ViT-B/16"), ("random:RN5", "random:RN50"), ("dmo", "demo")],
)
def test_a_misspelt_name_gets_the_nearest_one(name, nearest):
    with pytest.raises(ValueError, match=f"{name}.*did you mean '{nearest}'"):
        backbones.check_name(name)


@pytest.mark.parametrize("name", ["missing.pt", "./weights", "/nowhere/clip.bin"])
def test_a_path_without_a_file_is_reported_as_such(name):
    with pytest.raises(FileNotFoundError, match=name):
        backbones.check_name(name)
