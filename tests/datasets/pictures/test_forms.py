"""Every form in which own pictures come, as its tool exports it, and what is wrong with them in words."""

import json
import sys

import pytest

from datasets.pictures.forms import read_pictures

CATS_AND_DOGS = ("cat/1.jpg", "cat/2.JPG", "dog/1.png", "dog/3.webp")


def labels(found):
    return {found.shown(one.path): one.label for one in found.pictures}


def parts(found):
    return {found.shown(one.path): one.part for one in found.pictures}


# Folders --------------------------------------------------------------------------------------------


def test_a_folder_per_class(tmp_path, draw):
    draw(*CATS_AND_DOGS, ".hidden/1.jpg", "__MACOSX/1.jpg")
    (tmp_path / "cat/notes.txt").write_text("mine")
    (tmp_path / "Thumbs.db").touch()
    found = read_pictures(tmp_path)
    assert labels(found) == {name: name.split("/")[0] for name in CATS_AND_DOGS}
    assert set(parts(found).values()) == {""}
    assert [found.shown(path) for path in found.left_out["not pictures"]] == ["cat/notes.txt", "Thumbs.db"]


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_parts_with_a_folder_per_class(tmp_path, draw, val):
    draw("train/cat/1.jpg", "train/dog/1.jpg", f"{val}/cat/2.jpg", "test/dog/2.jpg")
    found = read_pictures(tmp_path)
    assert parts(found) == {
        "train/cat/1.jpg": "train",
        "train/dog/1.jpg": "train",
        f"{val}/cat/2.jpg": "val",
        "test/dog/2.jpg": "test",
    }


def test_a_single_part_says_nothing_about_testing(tmp_path, draw):
    draw("train/cat/1.jpg", "train/dog/1.jpg")
    assert set(parts(read_pictures(tmp_path)).values()) == {""}


def test_a_class_called_test_beside_others_is_a_class(tmp_path, draw):
    draw("test/1.jpg", "final/1.jpg")
    assert set(labels(read_pictures(tmp_path)).values()) == {"test", "final"}


# Lists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "list.csv",
            "file_name,label,split\npics/1.jpg,cat,train\npics/2.jpg,dog,validation\npics/3.jpg,cat,\n",
        ),
        (
            "list.csv",
            "\ufeffPath;Class;Split\r\npics\\1.jpg;cat;train\r\npics\\2.jpg;dog;val\r\npics/3.jpg;cat;\r\n",
        ),
        (
            "list.tsv",
            "image\tclass\tsplit\npics/1.jpg\tcat\ttrain\npics/2.jpg\tdog\tVALID\npics/3.jpg\tcat\t\n",
        ),
        (
            "list.jsonl",
            '{"path": "pics/1.jpg", "label": "cat", "split": "train"}\n'
            '{"path": "pics/2.jpg", "label": "dog", "split": "val"}\n\n'
            '{"path": "pics/3.jpg", "label": "cat"}\n',
        ),
        (
            "list.json",
            '[{"image": "pics/1.jpg", "label": "cat", "split": "train"}, '
            '{"image": "pics/2.jpg", "label": "dog", "split": "val"}, '
            '{"image": "pics/3.jpg", "label": "cat", "split": null}]',
        ),
    ],
    ids=["csv", "spreadsheet", "tsv", "jsonl", "json"],
)
def test_lists(tmp_path, draw, name, text):
    draw("pics/1.jpg", "pics/2.jpg", "pics/3.jpg")
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    found = read_pictures(tmp_path / name)
    assert labels(found) == {"pics/1.jpg": "cat", "pics/2.jpg": "dog", "pics/3.jpg": "cat"}
    assert parts(found) == {"pics/1.jpg": "train", "pics/2.jpg": "val", "pics/3.jpg": ""}


def test_a_list_of_predictions_is_a_training_list(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    (tmp_path / "out.csv").write_text(
        "file_name,label,score,label_2,score_2\n1.jpg,cat,0.9,dog,0.1\n2.jpg,dog,0.8,cat,0.2\n"
    )
    assert labels(read_pictures(tmp_path / "out.csv")) == {"1.jpg": "cat", "2.jpg": "dog"}


def test_parquet(tmp_path, draw):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    draw("1.jpg", "2.jpg")
    table = arrow.table({"file_name": ["1.jpg", "2.jpg"], "label": [3, 4]})
    parquet.write_table(table, tmp_path / "list.parquet")
    assert labels(read_pictures(tmp_path / "list.parquet")) == {"1.jpg": "3", "2.jpg": "4"}


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "list.parquet").touch()
    with pytest.raises(RuntimeError, match="python -m pip install pyarrow"):
        read_pictures(tmp_path / "list.parquet")


def test_metadata_of_hugging_face_counts_instead_of_folders(tmp_path, draw):
    draw("a/1.jpg", "a/2.jpg", "a/3.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label,text\na/1.jpg,cat,x\na/2.jpg,dog,y\na/3.jpg,,z\n")
    found = read_pictures(tmp_path)
    assert labels(found) == {"a/1.jpg": "cat", "a/2.jpg": "dog"}
    assert [found.shown(path) for path in found.left_out["without a label"]] == ["a/3.jpg"]


def test_metadata_in_every_part(tmp_path, draw):
    for part in ("train", "test"):
        draw(f"{part}/1.jpg", f"{part}/2.jpg")
        (tmp_path / part / "metadata.jsonl").write_text(
            '{"file_name": "1.jpg", "label": "cat"}\n{"file_name": "2.jpg", "label": "dog"}\n'
        )
    found = read_pictures(tmp_path)
    assert parts(found) == {f"{part}/{n}.jpg": part for part in ("train", "test") for n in (1, 2)}


# FiftyOne -------------------------------------------------------------------------------------------


def test_fiftyone_export(tmp_path, draw):
    draw("data/a.jpg", "data/deep/b.png", "data/c.jpg", "data/d.jpg")
    content = {
        "classes": ["cat", "dog"],
        "labels": {"a": 0, "deep/b": {"label": 1, "confidence": 0.9}, "c": None},
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    for path in (tmp_path, tmp_path / "labels.json"):
        found = read_pictures(path)
        assert labels(found) == {"data/a.jpg": "cat", "data/deep/b.png": "dog"}
        assert len(found.left_out["without a label"]) == 2  # one that says null, one that is not named


def test_fiftyone_export_without_a_list_of_classes(tmp_path, draw):
    draw("data/a.jpg", "data/b.jpg")
    (tmp_path / "labels.json").write_text(json.dumps({"classes": None, "labels": {"a": "cat", "b": "dog"}}))
    assert labels(read_pictures(tmp_path)) == {"data/a.jpg": "cat", "data/b.jpg": "dog"}


def test_fiftyone_directory_tree(tmp_path, draw):
    draw(*CATS_AND_DOGS, "_unlabeled/9.jpg")
    found = read_pictures(tmp_path)
    assert set(labels(found).values()) == {"cat", "dog"}
    assert [found.shown(path) for path in found.left_out["without a label"]] == ["_unlabeled/9.jpg"]


# Label Studio ---------------------------------------------------------------------------------------


def task(image, choice, cancelled=False, id=1):
    result = {
        "id": "x1",
        "type": "choices",
        "value": {"choices": [choice]},
        "origin": "manual",
        "to_name": "image",
        "from_name": "choice",
    }
    annotation = {
        "id": id,
        "completed_by": 1,
        "result": [result],
        "was_cancelled": cancelled,
        "lead_time": 3.2,
    }
    return {
        "id": id,
        "annotations": [annotation],
        "file_upload": image.rsplit("/")[-1],
        "predictions": [],
        "data": {"image": image},
        "meta": {},
        "project": 1,
    }


def test_label_studio_json(tmp_path, draw):
    draw("pics/my photo.jpg", "upload/0a1b2c3d-dog.jpg", "pics/far/b.jpg", "pics/near/b.jpg")
    tasks = [
        task("/data/upload/1/8f3a9c21-my%20photo.jpg", "cat"),
        task("/data/upload/1/0a1b2c3d-dog.jpg", "dog", id=2),
        task("/data/local-files/?d=pics/far/b.jpg", "cat", id=3),
        task("/data/upload/1/77777777-gone.jpg", "cat", cancelled=True, id=4),
    ]
    (tmp_path / "project-1.json").write_text(json.dumps(tasks))
    found = read_pictures(tmp_path / "project-1.json")
    assert "Label Studio (JSON)" in found.form
    assert labels(found) == {
        "pics/my photo.jpg": "cat",
        "upload/0a1b2c3d-dog.jpg": "dog",
        "pics/far/b.jpg": "cat",
    }


def test_label_studio_json_min(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    rows = [
        {
            "image": f"/data/upload/3/8f3a9c2{n}-{n}.jpg",
            "id": n,
            "animal": choice,
            "annotator": 1,
            "annotation_id": n,
            "created_at": "2024-05-02T10:00:00Z",
            "updated_at": "2024-05-02T10:00:00Z",
            "lead_time": 4.1,
        }
        for n, choice in ((1, "cat"), (2, "dog"))
    ]
    (tmp_path / "min.json").write_text(json.dumps(rows))
    found = read_pictures(tmp_path / "min.json")
    assert "JSON-MIN" in found.form and labels(found) == {"1.jpg": "cat", "2.jpg": "dog"}


def test_label_studio_csv(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    (tmp_path / "out.csv").write_text(
        "annotation_id,annotator,choice,created_at,id,image,lead_time,updated_at\n"
        "1,1,cat,2024-05-02,1,/data/upload/3/8f3a9c21-1.jpg,4.1,2024-05-02\n"
        "2,1,dog,2024-05-02,2,/data/upload/3/8f3a9c22-2.jpg,3.0,2024-05-02\n"
    )
    found = read_pictures(tmp_path / "out.csv")
    assert "Label Studio (CSV)" in found.form and labels(found) == {"1.jpg": "cat", "2.jpg": "dog"}


def test_label_studio_names_the_first_pictures_that_are_not_there(tmp_path):
    tasks = [task(f"/data/upload/1/8f3a9c21-{n}.jpg", "cat") for n in range(5)]
    (tmp_path / "p.json").write_text(json.dumps(tasks))
    with pytest.raises(
        FileNotFoundError, match=r"names 5 pictures that are not in .*8f3a9c21-0.jpg.* and 2 more"
    ):
        read_pictures(tmp_path / "p.json")


def test_two_annotators_who_disagree_are_named(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    both = task("/data/upload/1/8f3a9c21-1.jpg", "cat")
    both["annotations"] += task("", "dog")["annotations"]
    (tmp_path / "p.json").write_text(json.dumps([both, task("/data/upload/1/8f3a9c21-2.jpg", "dog")]))
    with pytest.raises(ValueError, match=r"1.jpg \(cat and dog\) two labels"):
        read_pictures(tmp_path / "p.json")


# What is wrong --------------------------------------------------------------------------------------


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.txt").touch()
    with pytest.raises(ValueError, match=r"has no labelled pictures \(left out: not pictures \(1\)\).*\.jpg"):
        read_pictures(tmp_path)


def test_pictures_without_folders_and_a_list_beside_them(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    (tmp_path / "labels.csv").touch()
    with pytest.raises(ValueError, match=r"pictures \(2: .* no folders with pictures.*--images .*labels.csv"):
        read_pictures(tmp_path)


def test_one_class(tmp_path, draw):
    draw("cat/1.jpg", "cat/2.jpg")
    with pytest.raises(ValueError, match="one class only, 'cat'"):
        read_pictures(tmp_path)


def test_classes_one_level_too_deep(tmp_path, draw):
    draw("animals/cat/1.jpg", "animals/dog/1.jpg")
    with pytest.raises(ValueError, match=r"--images .*/animals"):
        read_pictures(tmp_path)


def test_a_folder_that_is_not_there_names_the_nearest(tmp_path, draw):
    draw("photos/cat/1.jpg")
    with pytest.raises(FileNotFoundError, match="did you mean .*/photos?"):
        read_pictures(tmp_path / "photo")


def test_a_file_that_is_no_list(tmp_path, draw):
    (path,) = draw("1.jpg")
    with pytest.raises(ValueError, match="is no list of pictures; give a folder, or a file called .csv"):
        read_pictures(path)


def test_a_list_that_names_missing_pictures(tmp_path, draw):
    draw("0.jpg")
    lines = [f"{n}.jpg,{'cat' if n % 2 else 'dog'}" for n in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    with pytest.raises(
        FileNotFoundError, match=r"5 of 6 pictures that are not there: 1.jpg, 2.jpg, 3.jpg and 2 more"
    ):
        read_pictures(tmp_path / "list.csv")


@pytest.mark.parametrize("header", ["file_name,labels", "file,label"])
def test_a_list_that_lacks_a_column_says_those_that_are_there(tmp_path, header):
    (tmp_path / "list.csv").write_text(f"{header},text\n1.jpg,cat,x\n")
    with pytest.raises(ValueError, match=rf"there is: {header.replace(',', ', ')}, text"):
        read_pictures(tmp_path / "list.csv")


def test_a_picture_with_two_labels(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    (tmp_path / "list.csv").write_text("path,label\n1.jpg,cat\n./1.jpg,dog\n2.jpg,dog\n")
    with pytest.raises(ValueError, match=r"gives 1.jpg \(cat and dog\) two labels"):
        read_pictures(tmp_path / "list.csv")


def test_an_unknown_split(tmp_path, draw):
    draw("1.jpg")
    (tmp_path / "list.csv").write_text("path,label,split\n1.jpg,cat,tset\n")
    with pytest.raises(ValueError, match=r"entry 1: .*'tset'.*test"):
        read_pictures(tmp_path / "list.csv")


def test_text_with_line_breaks_in_a_list(tmp_path, draw):
    draw("1.jpg", "2.jpg")
    (tmp_path / "list.csv").write_text(
        'path,text,label\n1.jpg,"a\nb\u2028c",cat\n2.jpg,,dog\n', encoding="utf-8"
    )
    assert labels(read_pictures(tmp_path / "list.csv")) == {"1.jpg": "cat", "2.jpg": "dog"}


def test_a_damaged_list_names_its_line(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\n" + "x" * 200_000 + ",cat\n")
    with pytest.raises(ValueError, match="list.csv is not CSV after line 1"):
        read_pictures(tmp_path / "list.csv")


def test_damaged_json_names_its_line(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"path": "1.jpg", "label": "cat"}\n{"path"\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read_pictures(tmp_path / "list.jsonl")
