"""Classes and what they state, read without importing."""

import os

import pytest

from dassl.utils.plugin_files import lineage, own_file, own_files, read_classes, registered

CODE = """
from base import Above
class Above(object):
    version: int = 3
    first, second = 1, COMPUTED
class Below(module.Above):
    folder = "below"
@REG.register()
class Own(Below):
    version = 4
    defaults = dict(A=1, B=[2.0, "x"])
    contract = {"A": computed()}
"""


@pytest.fixture
def classes(tmp_path):
    def read(**files):
        for stem, code in files.items():
            (tmp_path / f"{stem}.py").write_text(code)
        return read_classes(tmp_path, "REG")

    return read


def test_a_class_states_its_literals_and_names_the_rest(classes):
    found = {source.name: source for source in classes(some=CODE)}
    assert found["Above"].constants == {"version": 3, "first": 1} and found["Above"].computed == {"second"}
    assert found["Own"].constants == {"version": 4, "defaults": {"A": 1, "B": [2.0, "x"]}}
    assert found["Own"].computed == {"contract"}
    assert [source.name for source in found.values() if source.registered] == ["Own"]


def test_bases_follow_a_class_and_those_of_its_own_file_are_meant(classes):
    found = classes(some=CODE, other="class Below(Far): ...\nclass Far: ...\n")
    (own,) = registered(found, "Own")
    above = [(source.name, source.file) for source in lineage(found, own)]
    assert above == [("Own", "some"), ("Below", "some"), ("Above", "some")]


def test_a_class_may_extend_one_of_its_own_name_elsewhere(classes):
    found = classes(
        some="@REG.register()\nclass Some: ...",
        theirs="import some\n@REG.register()\nclass Some(some.Some): ...",
    )
    ours, theirs = registered(found, "Some")
    assert list(lineage(found, theirs)) == [theirs, ours]


def test_a_name_belongs_to_the_file_that_is_called_like_it(classes, tmp_path):
    code = "@REG.register()\nclass FeatureScale: ..."
    found = classes(feature_scale=code, feature_scale_2=code)
    assert own_file(found, "FeatureScale") == "feature_scale"
    assert own_files(tmp_path, "REG", ["FeatureScale", "Unknown"]) == ("feature_scale",)
    assert own_file(classes(featurescale=code), "FeatureScale") == ""  # two are


def test_a_file_that_changes_is_read_again(classes, tmp_path):
    assert classes(some="class A: ...")[0].name == "A"
    (tmp_path / "some.py").write_text("class B: ...")
    os.utime(tmp_path / "some.py", ns=(1, 1))
    assert classes()[0].name == "B"
