"""Facts of a data set: every key but the name may be left out, and what is wrong is named with its file."""

import pytest

from dassl.config.facts import Facts, read_facts, read_folder


def write(tmp_path, text, name="birds.yaml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_name_is_enough(tmp_path):
    path = write(tmp_path, "name: Birds\n")
    assert read_facts(path) == Facts("Birds", path=path)
    assert read_facts(path).family == "own"


def test_all_keys_are_read(tmp_path):
    path = write(
        tmp_path,
        "name: Birds\nfolder: birds\nimages: [a, b]\nclasses: 3\ntrain: 0\ntemplates: {default: '{} bird.'}\n"
        "family: birds\nrole: source\nsources: [{file: birds.zip}]\n",
    )
    facts = read_facts(path)
    assert (facts.images, facts.classes, facts.train, facts.val) == (("a", "b"), 3, 0, None)
    assert (facts.templates, facts.role) == ({"default": "{} bird."}, "source")
    assert facts.sources == ({"file": "birds.zip"},)


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("name: Birds\nclases: 3", KeyError, "unknown key 'clases'; did you mean 'classes'"),
        ("folder: birds", ValueError, "lacks name"),
        ("name: [Birds]", ValueError, r"name: \['Birds'\] is no text"),
        ("name: Birds\nclasses: many", ValueError, "classes: 'many' is no number of classes"),
        ("name: Birds\ntrain: -1", ValueError, "train: -1 is no number of images"),
        ("name: Birds\ntest: true", ValueError, "test: True is no number of images"),
        ("name: Birds\nimages: pictures", ValueError, "images: 'pictures' is no list of names"),
        ("name: Birds\nimages: [2750]", ValueError, r"images: \[2750\] is no list of names"),
        ("name: Birds\nrole: target", ValueError, "role: unknown role 'target'"),
        ("name: Birds\nsources: https://a", ValueError, "sources: 'https://a' is no list of files"),
        ("name: Birds\ntemplates: a {}.", ValueError, "templates: 'a {}.'; give them by column"),
        ("name: Birds\ntemplates: {defualt: '{}'}", ValueError, "did you mean 'default'"),
        (
            "name: Birds\ntemplates: {default: bird}",
            ValueError,
            "templates, default: 'bird' needs exactly one",
        ),
    ],
)
def test_a_wrong_key_or_type_is_named_with_its_file(tmp_path, text, error, message):
    with pytest.raises(error, match=f"birds.yaml.*{message}"):
        read_facts(write(tmp_path, text))


def test_two_files_about_one_data_set_are_named(tmp_path):
    write(tmp_path, "name: Birds")
    assert list(read_folder(tmp_path)) == ["birds"]
    write(tmp_path, "name: Birds", "vogels.yaml")
    with pytest.raises(ValueError, match="birds.yaml and .*vogels.yaml are both about Birds"):
        read_folder(tmp_path)
