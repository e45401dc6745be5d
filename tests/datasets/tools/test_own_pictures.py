"""The doctor on own pictures: `python -m datasets.doctor --images PATH`."""

import shutil

import pytest
from PIL import Image

from datasets.tools import doctor


@pytest.fixture
def photos(tmp_path):
    """Two classes of twelve pictures, each of its own colour."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number in range(12):
            picture = Image.new("RGB", (80, 100), (20 * number, 100 * label, 7))
            picture.save(tmp_path / name / f"{name}{number}.png")
    return tmp_path


@pytest.fixture
def told(photos, capsys):
    """Exit status and report."""

    def told(*words):
        status = doctor.main(["--images", str(photos), *words])
        return status, capsys.readouterr().out

    return told


def test_good_pictures_are_well(told):
    status, out = told()
    assert status == 0 and out.endswith("all is well\n")
    assert "all 24 pictures" in out and "2 with 12 to 12 pictures" in out and "80x100 to 80x100" in out


def test_unreadable_pictures_are_wrong(told, photos):
    (photos / "cat/x.jpg").write_text("no picture")
    status, out = told()
    assert status == 1 and "WRONG unreadable" in out and "cat/x.jpg" in out


def test_copies_within_and_between_parts_and_classes(told, photos):
    parts = {name: photos / name for name in ("train", "test")}
    for folder in parts.values():
        folder.mkdir()
        for name in ("cat", "dog"):
            shutil.copytree(photos / name, folder / name)
    for name in ("cat", "dog"):
        shutil.rmtree(photos / name)
    for number in range(1, 12):
        (parts["test"] / f"cat/cat{number}.png").unlink()
        (parts["test"] / f"dog/dog{number}.png").unlink()
    Image.new("RGB", (80, 100), "white").save(parts["test"] / "dog/new.png")
    shutil.copy(parts["train"] / "cat/cat3.png", parts["train"] / "dog/cat3.png")
    status, out = told()
    assert "copies of pictures in another part (2): test/cat/cat0.png of train/cat/cat0.png" in out
    assert status == 1 and "train/cat/cat3.png (cat) and train/dog/cat3.png (dog)" in out


def test_tiny_and_unbalanced_classes(told, photos):
    (photos / "okapi").mkdir()
    Image.new("RGB", (80, 80), "red").save(photos / "okapi/1.png")
    status, out = told()
    assert status == 0 and "classes with fewer than 5 pictures (1): okapi (1)" in out
    assert "has 12 pictures, okapi 1" in out and "not tested: okapi" in out


def test_names_that_lead_to_one_prompt(told, photos):
    (photos / "Cat").mkdir()
    Image.new("RGB", (80, 80), "red").save(photos / "Cat/1.png")
    status, out = told()
    assert status == 1 and "'Cat' (label 0) and 'cat' (label 1)" in out


def test_small_pictures(told, photos):
    Image.new("RGB", (20, 300), "red").save(photos / "cat/tiny.png")
    assert "20x300 to 80x100; with an edge below 64 pixels (1): tiny.png" in told()[1]


def test_nothing_to_test_on(told):
    assert "a run would report no accuracy" in told("--test-share", "0")[1]


def test_mistakes_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--images", str(tmp_path / "none")])
    assert str(stop.value).startswith("error: --images: ")
    with pytest.raises(SystemExit):
        doctor.main([])
    assert "name a data set, or give --images" in capsys.readouterr().err
