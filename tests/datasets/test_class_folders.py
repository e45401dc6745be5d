"""What lies in class folders beside pictures, splits that are made of them, and lists from other systems."""

import json
import os
import random
import shutil

import pytest
from PIL import Image

from datasets import listing, splits
from datasets.dtd import DescribableTextures
from datasets.imagenet_like import read_classnames
from datasets.splits import is_made_here, note_path
from datasets.tools.doctor import examine
from datasets.tools.known import find

CLASSES = ("banded", "dotted", "lined")
SPLIT = "split_zhou_DescribableTextures.json"


def picture(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (number % 256, 40, 90)).save(path)


@pytest.fixture
def textures(tmp_path):
    """A folder in the layout of DTD without split file; returns the image folder."""
    images = tmp_path / "dtd/images"
    for label, name in enumerate(CLASSES):
        for number in range(10):
            picture(images / name / f"{number:02d}.png", 20 * label + number)
    return images


@pytest.fixture
def split(textures):
    return textures.parent / SPLIT


@pytest.fixture
def make(textures, config):
    return lambda **options: DescribableTextures(config(textures.parent.parent, **options))


def listed(split):
    return {path for entries in json.loads(split.read_text()).values() for path, _, _ in entries}


def litter(images):
    (images / "banded/Thumbs.db").write_bytes(b"x")
    (images / "dotted/notes.txt").write_text("x")
    (images / "dotted/.DS_Store").write_bytes(b"x")
    (images / "lined/old").mkdir()
    picture(images / "__MACOSX/banded/._00.png")


# Class folders --------------------------------------------------------------------------------------


def test_what_is_no_picture_is_left_out_of_a_made_split_and_named_in_one_line(textures, split, make, capsys):
    make()
    clean = split.read_bytes()
    split.unlink()
    litter(textures)
    capsys.readouterr()
    make()
    assert split.read_bytes() == clean
    lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(lines) == 1 and f"{textures}: 5 entries are no pictures" in lines[0]
    for name in ("banded/Thumbs.db", "dotted/notes.txt", "dotted/.DS_Store", "lined/old", "__MACOSX"):
        assert name in lines[0]


def test_a_remembered_listing_says_it_too(textures, tmp_path, capsys, monkeypatch):
    litter(textures)
    monkeypatch.setattr(listing, "SETTLED", 0)
    said = []
    for _ in range(2):
        found = listing.list_class_folders(str(textures), str(tmp_path / "cache.jsonl"))
        said.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")])
    assert list(found) == list(CLASSES) and found["banded"].count("/") == 9
    assert said[0] == said[1] and len(said[0]) == 1


def test_a_hidden_class_folder_is_named(textures, make, capsys):
    picture(textures / ".net/1.png")
    assert make().num_classes == 3
    assert (
        f"{textures}: .net is left out, because a name with a dot in front is hidden"
        in capsys.readouterr().out
    )


def test_a_class_folder_without_pictures_is_an_error(textures, make):
    (textures / "empty").mkdir()
    (textures / "empty/notes.txt").write_text("x")
    with pytest.raises(ValueError, match="images/empty holds no images"):
        make()


def test_nested_pictures_are_an_error_that_says_where_they_are(textures, make):
    picture(textures / "animals/cat/1.png")
    with pytest.raises(ValueError, match="images/animals holds no images itself, but its folder cat does"):
        make()


def test_a_listing_notices_a_file_whose_folder_had_its_time_set_back(textures, tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "SETTLED", 0)
    cache = str(tmp_path / "cache.jsonl")
    before = listing.list_class_folders(str(textures), cache)
    times = os.stat(textures / "lined")
    picture(textures / "lined/99.png")
    os.utime(textures / "lined", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert listing.list_class_folders(str(textures), cache)["lined"] == before["lined"] + "/99.png"


# Splits that were made here -------------------------------------------------------------------------


def test_a_made_split_says_so_in_a_note_beside_it(split, make):
    make()
    assert is_made_here(str(split))
    note = json.loads((split.parent / "split_zhou_DescribableTextures.made.json").read_text())
    assert note["seed"] == 1 and SPLIT in note["what"]


def test_a_split_from_elsewhere_is_not_taken_for_one_that_was_made_here(split, textures, make, capsys):
    make()
    content = json.loads(split.read_text())
    split.write_text(json.dumps(content))  # the same lists in other bytes
    assert not is_made_here(str(split))
    picture(textures / "lined/99.png")
    capsys.readouterr()
    make()
    assert "made from" not in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{", '{"sha256": 3}'])
def test_a_damaged_note_counts_as_none(content, split, make):
    make()
    with open(note_path(str(split)), "w") as file:
        file.write(content)
    make()
    assert not is_made_here(str(split))


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_no_split_is_made_of_pictures_that_cannot_be_opened(content, textures, split, make):
    (textures / "lined/03.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"the split is not made, because 1 of 30 images.*lined/03\.png"):
        make()
    assert not split.exists()
    (textures / "lined/03.png").unlink()  # what the message advises
    assert make().num_classes == 3


def test_new_pictures_and_classes_are_said_with_the_file_to_delete(textures, split, make, capsys):
    make()
    before = split.read_bytes()
    picture(textures / "lined/99.png")
    shutil.copytree(textures / "banded", textures / "woven")
    capsys.readouterr()
    make()
    printed = capsys.readouterr().out
    assert f"{textures} is not what {split} was made from (new images: 11 (lined/99.png, " in printed
    assert "new classes: 1 (woven)" in printed and "delete that file" in printed
    assert split.read_bytes() == before
    split.unlink()
    assert make().num_classes == 4
    capsys.readouterr()
    make()
    assert "made from" not in capsys.readouterr().out


def test_missing_pictures_of_a_made_split_are_an_error_with_the_file_to_delete(textures, split, make):
    make()
    (textures / "lined/03.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"1 of 30 images do not exist(?s:.*){SPLIT}.*delete that file"
    ):
        make()
    split.unlink()
    make()
    assert len(listed(split)) == 29


def test_a_class_that_is_gone_from_a_made_split_is_named(textures, make, capsys):
    make()
    shutil.rmtree(textures / "lined")
    with pytest.raises(FileNotFoundError):
        make()
    assert "missing classes: 1 (lined)" in capsys.readouterr().out


# Lists from other systems ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("\n", "\t \r\n"),
        lambda text: "# chosen by hand\n" + text + "\n#end\n",
        lambda text: "".join(f"./{line}\n" for line in text.splitlines()),
    ],
    ids=["byte order mark", "backslashes", "tabs", "comments", "points"],
)
def test_a_list_of_images_is_read_as_other_systems_write_it(change, make, tmp_path):
    sampled = make(shots=2)
    images = [sampled.relative_path(item) for item in sampled.train_x]
    path = tmp_path / "list.txt"
    path.write_bytes(change("\n".join(images)).encode())
    found = make(shots=2, fewshot_list=path)
    assert [found.relative_path(item) for item in found.train_x] == images

    path = tmp_path / "list.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([image.replace("/", "\\") for image in images]).encode())
    found = make(shots=2, fewshot_list=path)
    assert [found.relative_path(item) for item in found.train_x] == images


def test_a_list_that_is_no_utf8_is_refused_with_file_and_line(make, tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"banded/01.png\nb\xe4nder/02.png\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2 is not UTF-8 text"):
        make(fewshot_list=path)


def test_a_split_file_is_read_with_a_byte_order_mark_and_backslashes(split, make):
    before = [item.impath for item in make().train_x]
    content = {
        part: [[path.replace("/", "\\"), label, name] for path, label, name in entries]
        for part, entries in json.loads(split.read_text()).items()
    }
    split.write_text(json.dumps(content), encoding="utf-8-sig")
    assert [item.impath for item in make().train_x] == before


@pytest.mark.parametrize("path", ["\\a\\1.png", "..\\1.png"])
def test_backslashes_do_not_lead_out_of_the_image_folder(path, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": [[path, 0, "a"]], "val": [], "test": []}))
    with pytest.raises(ValueError, match=r"train\[0\]"):
        splits.read_split(str(tmp_path / "split.json"), str(tmp_path))


def test_class_names_are_read_as_other_systems_write_them(tmp_path):
    path = tmp_path / "classnames.txt"
    path.write_bytes("\ufeffn01\ttench\r\n# birds\r\nn02  great grey owl \r\n".encode())
    assert read_classnames(str(path)) == {"n01": "tench", "n02": "great grey owl"}
    path.write_text("n01 tench\nn01 owl\n")
    with pytest.raises(ValueError, match="n01 has two lines, 'tench' and 'owl'"):
        read_classnames(str(path))


def test_a_line_with_other_fields_is_refused_with_file_and_line():
    assert splits.fields("list.txt", "a\t1  2", "image class species") == ["a", "1", "2"]
    with pytest.raises(ValueError, match="list.txt: 'a 1' is no line of 'image class species'"):
        splits.fields("list.txt", "a 1", "image class species")


# The doctor -----------------------------------------------------------------------------------------


def findings(textures, deep=False):
    found = examine(find("dtd"), textures.parent.parent, deep)
    return [(finding.state, finding.subject, finding.text) for finding in found]


def test_the_doctor_says_what_it_did_not_open_and_what_is_left_out(textures, make):
    make()
    litter(textures)
    half = (textures / "lined/03.png").read_bytes()
    (textures / "lined/03.png").write_bytes(half[: len(half) // 2])
    shallow, deep = findings(textures), findings(textures, deep=True)
    assert any(s == "image files" and "was not looked at (--deep" in text for _, s, text in shallow)
    assert any(s == "said" and "5 entries are no pictures" in text for _, s, text in shallow)
    assert any(s == "split" and "was made here" in text for _, s, text in shallow)
    assert any(
        state == "WRONG" and s == "opened" and "lined/03.png cannot be read" in text
        for state, s, text in deep
    )
    assert not any("not looked at" in text for _, _, text in deep)


def test_shares_are_those_of_the_pictures_alone(textures):
    litter(textures)
    lists = splits.read_and_split_data(str(textures), rng=random.Random(1))
    assert list(map(len, lists)) == [15, 6, 9]
