"""What a run takes of pictures: their parts, their names, and what is left out."""

import csv
import io
import re
import shutil

import pytest

from datasets.pictures.found import LabelledPicture
from datasets.pictures.parts import position, settle_parts
from datasets.pictures.taken import take

MANY = [f"{kind}/{kind}{n}.jpg" for kind in ("cat", "dog") for n in range(40)]


def parts_of(taken):
    return {taken.found.shown(row.picture.path): row.part for row in taken.rows}


def test_about_the_share_is_tested_on(tmp_path, draw):
    draw(*MANY)
    parts = list(parts_of(take(tmp_path, 0.25)).values())
    assert 10 <= parts.count("test") <= 30 and parts.count("test") + parts.count("train") == 80


def test_pictures_that_are_added_move_no_other(tmp_path, draw):
    draw(*MANY[:30], *MANY[40:70])
    before = parts_of(take(tmp_path, 0.2))
    draw(*MANY, "okapi/o.jpg")
    after = parts_of(take(tmp_path, 0.2))
    assert before.items() <= after.items() and len(after) == 81


def test_a_corrected_label_moves_nothing(tmp_path, draw):
    draw(*MANY)
    before = parts_of(take(tmp_path, 0.2))
    moved = next(name for name, part in before.items() if part == "test" and name.startswith("cat"))
    (tmp_path / moved).rename(tmp_path / moved.replace("cat/", "dog/"))
    after = parts_of(take(tmp_path, 0.2))
    assert after.pop(moved.replace("cat/", "dog/")) == "test"
    assert after.items() <= before.items()


def test_the_folder_makes_no_difference_to_the_part(tmp_path):
    assert position("/a/b/c.jpg") == position("other/c.jpg") != position("/a/b/d.jpg")
    assert position("caf\u00e9.jpg") == position("cafe\u0301.jpg")  # as a Mac writes it


def test_a_share_that_keeps_some_is_named_where_chance_keeps_none(tmp_path, draw):
    names = [name for name in (f"{n}.jpg" for n in range(99)) if 0.3 < position(name) < 0.9][:5]
    draw(*(f"{kind}/{name}" for kind in ("cat", "dog") for name in names))
    assert not take(tmp_path, 0.2).part("test")
    (line, *_) = take(tmp_path, 0.2).summary()
    enough = float(re.search(r"--test-share ([\d.]+) keeps some", line)[1])
    assert len(take(tmp_path, enough).part("test")) >= 2


def test_a_class_that_would_have_nothing_keeps_its_highest():
    names = [name for name in (f"{n}.jpg" for n in range(100)) if position(name) < 0.5][:5]
    parts = settle_parts([LabelledPicture(name, "cat") for name in names], 0.5)
    highest = max(range(5), key=lambda n: position(names[n]))
    assert parts == ["train" if n == highest else "test" for n in range(5)]


@pytest.mark.parametrize("share", [-0.1, 1, 20])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="--test-share .* give a part of 1"):
        settle_parts([], share)


def test_no_share_keeps_everything_for_training(tmp_path, draw):
    draw(*MANY)
    assert set(parts_of(take(tmp_path, 0)).values()) == {"train"}


def test_classes_with_one_picture_train_and_are_said_not_to_be_tested(tmp_path, draw):
    draw(*MANY, "okapi/1.jpg")
    taken = take(tmp_path, 0.2)
    assert parts_of(taken)["okapi/1.jpg"] == "train"
    assert taken.not_tested() == {"okapi": 1}
    assert "trained on, but without a picture to test on: okapi (1)" in "\n".join(taken.summary())


def test_copies_across_parts_are_trained_on_only(tmp_path, draw):
    draw("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "test/cat/3.jpg", "test/dog/3.jpg")
    shutil.copy(tmp_path / "train/cat/1.jpg", tmp_path / "test/cat/9.jpg")
    shutil.copy(tmp_path / "test/cat/3.jpg", tmp_path / "val/cat/9.jpg")
    taken = take(tmp_path, 0.2)
    parts = parts_of(taken)
    assert parts["train/cat/1.jpg"] == "train" and parts["test/cat/9.jpg"] == parts["val/cat/9.jpg"] == ""
    assert parts["test/cat/3.jpg"] == "test"
    assert "copies of pictures in another part (2): test/cat/9.jpg, val/cat/9.jpg" in "\n".join(
        taken.summary()
    )


def test_copies_in_two_classes_are_told(tmp_path, draw):
    draw(*MANY)
    shutil.copy(tmp_path / MANY[0], tmp_path / "dog/cat0.jpg")
    assert "cat/cat0.jpg (cat) and dog/cat0.jpg (dog)" in "\n".join(take(tmp_path, 0.2).summary())


def test_unreadable_pictures_are_left_out_and_told(tmp_path, draw):
    draw(*MANY)
    whole = (tmp_path / MANY[0]).read_bytes()
    (tmp_path / "cat/cut.jpg").write_bytes(whole[: len(whole) - 40])
    (tmp_path / "cat/text.png").write_text("no picture")
    for _ in range(2):  # the second time it is remembered
        taken = take(tmp_path, 0.2)
        assert parts_of(taken)["cat/cut.jpg"] == parts_of(taken)["cat/text.png"] == ""
        assert "unreadable (2): cat/cut.jpg, cat/text.png" in "\n".join(taken.summary())


def test_nothing_is_left_when_all_of_a_class_is_unreadable(tmp_path, draw):
    draw("cat/1.jpg")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog/1.jpg").write_text("no picture")
    with pytest.raises(
        ValueError, match=r"one class only, 'cat'.*pictures that cannot be read \(1\): .*dog/1.jpg"
    ):
        take(tmp_path, 0.2)


def test_a_class_that_is_only_tested_is_an_error(tmp_path, draw):
    draw("train/cat/1.jpg", "train/dog/1.jpg", "test/okapi/1.jpg")
    with pytest.raises(ValueError, match=r"classes without pictures to train on \(1\): okapi"):
        take(tmp_path, 0.2)


def test_validation_pictures_are_tested_on_where_no_others_are(tmp_path, draw):
    draw("train/cat/1.jpg", "train/dog/1.jpg", "valid/cat/2.jpg")
    assert parts_of(take(tmp_path, 0.2))["valid/cat/2.jpg"] == "test"


def test_names_come_from_folders_with_their_case(tmp_path, draw):
    draw("Golden_retriever/1.jpg", "St-Bernard/1.jpg")
    names = {"Golden_retriever": "Golden retriever", "St-Bernard": "St Bernard"}
    assert take(tmp_path, 0.2).classes() == names


def test_names_of_a_list_stay_as_they_are(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    (tmp_path / "list.csv").write_text("path,label\n1.jpg,T-shirt\n2.jpg,dress\n")
    assert take(tmp_path / "list.csv", 0.2).classes() == {"T-shirt": "T-shirt", "dress": "dress"}


def test_names_may_come_from_a_file(tmp_path, draw):
    draw("n01/1.jpg", "n02/1.jpg")
    (tmp_path / "classes.csv").write_text("folder,name\nn01,Persian cat\n")
    taken = take(tmp_path, 0.2)
    assert taken.classes() == {"n01": "Persian cat", "n02": "n02"} and not taken.found.left_out
    (tmp_path / "classes.csv").write_text("folder,name\nn03,Persian cat\n")
    with pytest.raises(ValueError, match=r"classes.csv: .*'n03'.*n01"):
        take(tmp_path, 0.2)


def test_parts_csv_says_where_each_went(tmp_path, draw):
    draw("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg")
    shutil.copy(tmp_path / "train/cat/1.jpg", tmp_path / "test/cat/9.jpg")
    rows = list(csv.DictReader(io.StringIO(take(tmp_path, 0.2).parts_csv())))
    assert [(row["file_name"], row["label"], row["split"]) for row in rows] == [
        ("test/cat/2.jpg", "cat", "test"),
        ("test/cat/9.jpg", "cat", ""),
        ("train/cat/1.jpg", "cat", "train"),
        ("train/dog/1.jpg", "dog", "train"),
    ]
    assert rows[1]["note"] == "copies of pictures in another part: train/cat/1.jpg"
