"""Images and classes that are listed more than once, under whatever name."""

import os
import shutil

import pytest
from PIL import Image

from dassl.data.datasets import DatasetBase, Datum
from dassl.data.datasets.same_images import (
    same_files,
    warnings_of_copies,
    warnings_of_lists,
    warnings_of_names,
)


@pytest.fixture
def image(tmp_path):
    """Save pictures of one colour; returns their paths."""

    def save(name, grey=0):
        Image.new("RGB", (4, 4), (grey,) * 3).save(tmp_path / name)
        return str(tmp_path / name)

    return save


def point(path):
    return f"{os.path.dirname(path)}/./{os.path.basename(path)}"


def link(path):
    os.symlink(path, f"{path}.link.png")
    return f"{path}.link.png"


def hard_link(path):
    os.link(path, f"{path}.hard.png")
    return f"{path}.hard.png"


@pytest.mark.parametrize("otherwise", [str, point, link, hard_link])
def test_one_file_by_another_path_is_the_same_image(otherwise, image):
    path = image("a.png")
    other = otherwise(path)
    assert same_files([Datum(path), Datum(image("b.png"))], [Datum(other), Datum(image("c.png"))]) == {
        path: other
    }


def test_files_that_do_not_exist_are_no_images(tmp_path):
    assert same_files([Datum(f"{tmp_path}/a.png")], [Datum(f"{tmp_path}/b.png")]) == {}


def test_copies_among_the_test_images_are_named(image, tmp_path):
    path = image("a.png", 5)
    copied = shutil.copy(path, tmp_path / "copy.png")
    others = [Datum(image("other.png", 6)), Datum(image("b.png", 7))]
    (line,) = warnings_of_copies([Datum(path)], [*others, Datum(str(copied))])
    assert (
        line.startswith("test images that are copies of images trained on") and f"{copied} of {path}" in line
    )
    assert list(warnings_of_copies([Datum(path)], others)) == []


def test_copies_of_another_class_are_named(image):
    items = [
        Datum(image("a.png"), 0, 0, "cat"),
        Datum(image("b.png"), 1, 0, "dog"),
        Datum(image("c.png", 9), 1),
    ]
    (line,) = warnings_of_copies(items, [])
    assert "a.png (cat) and" in line and "b.png (dog)" in line and "c.png" not in line


def test_an_image_that_is_listed_twice_or_has_two_labels_is_named():
    a, b = Datum("a.png", 0, 0, "cat"), Datum("b.png", 1, 0, "dog")
    assert list(warnings_of_lists({"train": [a, b], "val": None, "test": [Datum("c.png")]})) == []
    assert list(warnings_of_lists({"train": [a, Datum("./a.png", 0, 0, "cat")]})) == [
        "images listed twice in train (1): a.png"
    ]
    assert list(warnings_of_lists({"train": [a, b], "test": [Datum("x/../a.png", 1, 0, "dog")]})) == [
        "images with two labels (1): a.png (cat and dog)"
    ]


@pytest.mark.parametrize("names", [("Cat", "cat"), ("x y", "x_y"), ("x  y", "x y ")])
def test_classes_with_one_prompt_are_named(names):
    (line,) = warnings_of_names({0: names[0], 1: "dog", 2: names[1]})
    assert f"{names[0]!r} (label 0) and {names[1]!r} (label 2)" in line
    assert list(warnings_of_names({0: "cat", 1: "cats"})) == []


def test_a_data_set_says_so_when_it_is_made(image, capsys):
    items = [Datum(image("a.png"), 0, 0, "Cat"), Datum(image("b.png"), 1, 0, "cat")]
    DatasetBase(train_x=[*items, items[0]], test=[items[1]])
    printed = capsys.readouterr().out
    assert (
        "Warning: DatasetBase: classes with one prompt" in printed and "'Cat' (label 0) and 'cat'" in printed
    )
    assert "Warning: DatasetBase: images listed twice in train (1): " in printed
