"""ImageNet's remembered listing, its lazy lists, and the test sets made after it."""

import hashlib
import json
import os
import random
import time
from pathlib import Path

import pytest

from dassl.data.datasets import Datum
from dassl.data.datasets.base_dataset import ClassFolder, FolderImages, group_by_label, sample_per_label
from datasets import listing
from datasets.imagenet import ImageNet
from datasets.imagenet_a import ImageNetA
from datasets.imagenet_like import SHIPPED_CLASSNAMES, read_classnames
from datasets.imagenet_sketch import ImageNetSketch
from datasets.imagenetv2 import ImageNetV2


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
    """The user's cache folder of these tests."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def let_settle(folder):
    """Make the class folders look as if they had last changed a minute ago."""
    for number, name in enumerate(sorted(os.listdir(folder))):
        os.utime(folder / name, (time.time() - 60 - number,) * 2)


@pytest.fixture
def imagenet(example, lay_out, monkeypatch):
    """The worked example's folder, settled: nobody can set an inode's time back, so none counts as new."""
    monkeypatch.setattr(listing, "SETTLED", 0)
    root = lay_out(example("imagenet"))
    for part in ("train", "val"):
        let_settle(root / "imagenet" / "images" / part)
    return root


def count_listings(monkeypatch):
    """A list that grows by every class folder that is listed."""
    seen, files = [], listing._files

    def files_and_count(folder, name):
        seen.append(name)
        return files(folder, name)

    monkeypatch.setattr(listing, "_files", files_and_count)
    return seen


def test_folders_are_listed_once_and_again_only_where_something_changed(
    imagenet, config, entries, monkeypatch
):
    seen = count_listings(monkeypatch)
    first = entries(imagenet, ImageNet(config(imagenet)).train_x)
    assert len(seen) == 10
    assert entries(imagenet, ImageNet(config(imagenet)).train_x) == first
    assert len(seen) == 10

    folder = imagenet / "imagenet/images/train/n01443537"
    (folder / "n01443537_2.JPEG").rename(folder / "n01443537_9.JPEG")
    renamed = [path for path, _, _ in entries(imagenet, ImageNet(config(imagenet)).train_x)]
    assert seen[10:] == ["n01443537"]
    assert renamed[6:12] == [
        f"imagenet/images/train/n01443537/n01443537_{n}.JPEG" for n in (1, 3, 4, 5, 6, 9)
    ]


def test_a_folder_that_changed_just_now_is_not_trusted_yet(example, lay_out, config, monkeypatch):
    root = lay_out(example("imagenet"))
    seen = count_listings(monkeypatch)
    for number in (1, 2):
        ImageNet(config(root))
        assert len(seen) == 10 * number


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("n01443537_1.JPEG", "n01443537_7.JPEG"),  # does not fit the checksum
        lambda text: text.replace('"format": 2', '"format": 1'),
        lambda text: text.replace("\n", ""),
        lambda text: "",
    ],
)
def test_a_damaged_listing_is_made_again(damage, imagenet, config, entries):
    first = entries(imagenet, ImageNet(config(imagenet)).train_x)
    cache = imagenet / "imagenet" / "listing_train.jsonl"
    whole = cache.read_text()
    cache.write_text(damage(whole))
    assert entries(imagenet, ImageNet(config(imagenet)).train_x) == first
    assert cache.read_text() == whole


def test_a_moved_data_folder_keeps_its_listing(imagenet, config, tmp_path_factory, monkeypatch):
    ImageNet(config(imagenet))
    moved = tmp_path_factory.mktemp("moved")
    (imagenet / "imagenet").rename(moved / "imagenet")
    seen = count_listings(monkeypatch)
    dataset = ImageNet(config(moved))
    assert not seen and dataset.train_x[0].impath.startswith(str(moved))


def test_a_read_only_data_folder_has_its_listing_in_the_users_cache(
    imagenet, config, cache_home, monkeypatch, capsys
):
    write = listing.atomic_write

    def refuse_data_folder(path, mode="w"):
        if str(path).startswith(str(imagenet)):
            raise PermissionError(path)
        return write(path, mode)

    monkeypatch.setattr(listing, "atomic_write", refuse_data_folder)
    ImageNet(config(imagenet))
    assert len(list((cache_home / "clipfit").glob("listing-*.jsonl"))) == 2
    assert not list((imagenet / "imagenet").glob("listing*"))
    seen = count_listings(monkeypatch)
    ImageNet(config(imagenet))
    assert not seen

    monkeypatch.setattr(
        listing, "atomic_write", lambda path, mode="w": write(os.path.join(os.devnull, "no"), mode)
    )
    let_settle(imagenet / "imagenet/images/train")
    capsys.readouterr()
    os.utime(imagenet / "imagenet/images/val/n01443537", (1, 1))
    assert ImageNet(config(imagenet)).num_classes == 5
    assert "the listing cannot be kept, neither in" in capsys.readouterr().out


def test_the_pickle_of_coop_is_not_opened(imagenet, config):
    (imagenet / "imagenet" / "preprocessed.pkl").write_bytes(b"not even a pickle")
    ImageNet(config(imagenet, shots=2))


def test_val_is_the_test_list_and_that_is_said(imagenet, config, capsys):
    for subset in ("all", "base", "new"):
        dataset = ImageNet(config(imagenet, shots=1, subsample=subset))
        assert [item.impath for item in dataset.val] == [item.impath for item in dataset.test]
    assert "val is the test list" in capsys.readouterr().out


def test_training_and_test_folders_must_be_the_same_classes(imagenet, config):
    images = imagenet / "imagenet" / "images"
    (images / "val" / "n01443537").rename(images / "gone")
    with pytest.raises(ValueError, match="5 class folders and val 4; in only one of them: n01443537"):
        ImageNet(config(imagenet))
    (images / "gone").rename(images / "train" / "misc")
    with pytest.raises(ValueError, match=r"1 of 6 folders are no classes of classnames.txt \(misc\)"):
        ImageNet(config(imagenet))
    (images / "train" / "misc").rename(images / "gone")
    for file in (images / "train" / "n02012849").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="n02012849 holds no images"):
        ImageNet(config(imagenet))


def test_missing_folders_are_named(imagenet, config):
    images = imagenet / "imagenet" / "images"
    (images / "val").rename(images / "Val")
    with pytest.raises(FileNotFoundError, match=r"val does not exist \(but .*Val does: rename it\)"):
        ImageNet(config(imagenet))


def test_class_names_come_with_the_code_where_the_folder_has_none(imagenet, config):
    own = {item.label: item.classname for item in ImageNet(config(imagenet)).test}
    (imagenet / "imagenet" / "classnames.txt").unlink()
    shipped = {item.label: item.classname for item in ImageNet(config(imagenet)).test}
    assert shipped == own  # the worked example has OpenAI's names


def test_the_class_names_of_imagenet_are_openais():
    names = read_classnames(SHIPPED_CLASSNAMES)
    assert len(names) == 1000 and list(names) == sorted(names)
    twice = {wnid for wnid, name in names.items() if list(names.values()).count(name) > 1}
    assert twice == {"n03773504", "n04008634", "n04355933", "n04356056"}  # missile, sunglasses
    told_apart = {"n02012849": "crane bird", "n03126707": "construction crane"}
    assert told_apart.items() <= names.items()
    assert hashlib.sha256(Path(SHIPPED_CLASSNAMES).read_bytes()).hexdigest() == (
        "89e0b642c6697a3a43a06a2bb65f9fefb3ca295ccc5f4ba9ce385f1a3a58c629"
    )


def plain_and_lazy():
    folders = [
        ClassFolder(f"/data/{name}", files, label, name * 2)
        for name, files, label in [("c", "c1/c2/c3/c4", 2), ("a", "a1", 0), ("b", "b1/b2", 1)]
    ]
    plain = [
        Datum(f"/data/{f.folder[-1]}/{name}", f.label, 0, f.classname)
        for f in folders
        for name in f.files.split("/")
    ]
    return plain, FolderImages(folders)


def same(some, others):
    return list(map(repr, some)) == list(map(repr, others))


def test_a_lazy_list_is_the_list_of_its_items():
    plain, lazy = plain_and_lazy()
    assert len(lazy) == len(plain) == 7
    assert same(lazy, plain)
    assert same([lazy[position] for position in range(-7, 7)], [plain[position] for position in range(-7, 7)])
    assert same(lazy[1:6:2], plain[1:6:2]) and same(reversed(lazy), reversed(plain))
    for position in (7, -8):
        with pytest.raises(IndexError, match="of 7"):
            lazy[position]
    assert not FolderImages([])

    groups = group_by_label(lazy)
    assert list(groups) == list(group_by_label(plain)) == [2, 0, 1]
    assert all(same(group, group_by_label(plain)[label]) for label, group in groups.items())
    for shots in (1, 2, 3):
        picks = [sample_per_label(items, shots, random.Random(5)) for items in (lazy, plain)]
        assert same(*picks)


def test_few_shots_make_an_item_for_no_other_image(monkeypatch):
    lazy = FolderImages([ClassFolder("/data/a", "/".join(map(str, range(1300))), 0, "a")])
    plain = list(lazy)
    monkeypatch.delattr(ClassFolder, "items")  # by which all items of a folder are made
    assert same(sample_per_label(lazy, 16, random.Random(1)), sample_per_label(plain, 16, random.Random(1)))


# The test sets


def lay_out_v2(root):
    """ImageNetV2 with 12 classes, so that byte order (0, 1, 10, 11, 2) differs from the labels'."""
    names = [f"n{number:08d} name {number}" for number in range(12)]
    folder = root / "imagenetv2"
    for number in range(12):
        images = folder / "imagenetv2-matched-frequency-format-val" / str(number)
        images.mkdir(parents=True)
        for name in ("b.jpeg", "a.jpeg", ".hidden"):
            (images / name).touch()
    (folder / "classnames.txt").write_text("\n".join(names))
    return folder


def test_imagenetv2_takes_numbers_of_folders_as_labels_and_lines_as_names(tmp_path, config):
    lay_out_v2(tmp_path)
    dataset = ImageNetV2(config(tmp_path))
    assert dataset.num_classes == 12
    assert dataset.classnames == [f"name {number}" for number in range(12)]
    assert [dataset.relative_path(item) for item in dataset.test] == [
        f"{number}/{name}.jpeg" for number in range(12) for name in "ab"
    ]
    assert [item.label for item in dataset.test] == [number for number in range(12) for _ in "ab"]
    assert dataset.val is None and dataset.train_x == dataset.test


def test_imagenetv2_needs_all_folders_and_sorted_lines(tmp_path, config):
    folder = lay_out_v2(tmp_path)
    images = folder / "imagenetv2-matched-frequency-format-val"
    (images / "7").rename(tmp_path / "7")
    with pytest.raises(ValueError, match=r"1 of the folders 0 to 11 do not exist \(7\)"):
        ImageNetV2(config(tmp_path))
    lines = (folder / "classnames.txt").read_text().splitlines()
    (folder / "classnames.txt").write_text("\n".join(reversed(lines)))
    with pytest.raises(ValueError, match="must be sorted by WordNet id"):
        ImageNetV2(config(tmp_path))


def test_settings_without_effect_on_a_test_set_are_named_in_one_line(example, lay_out, config, capsys):
    root = lay_out(example("imagenet_a"))
    ImageNetA(config(root))
    assert not capsys.readouterr().out
    ImageNetA(config(root, shots=16, subsample="new"))
    assert capsys.readouterr().out == (
        "Warning: ImageNetA is a test set, used with all its classes and images: "
        "DATASET.NUM_SHOTS 16 and DATASET.SUBSAMPLE_CLASSES new have no effect\n"
    )


def test_a_line_without_a_name_is_an_error(example, lay_out, config):
    root = lay_out(example("imagenet_sketch"))
    path = Path(root, "imagenet-sketch", "classnames.txt")
    path.write_text(path.read_text() + "n09999999\n")
    with pytest.raises(ValueError, match="'n09999999' is no line like 'n01440764 tench'"):
        ImageNetSketch(config(root))


def test_the_listing_is_plain_json_of_relative_names(imagenet, config):
    ImageNet(config(imagenet))
    header, folders = map(json.loads, (imagenet / "imagenet" / "listing_val.jsonl").read_text().split("\n"))
    assert header["format"] == 2
    assert [files for _, files, _ in folders.values()] == [
        f"ILSVRC2012_val_00000{n}01.JPEG/ILSVRC2012_val_00000{n}02.JPEG" for n in range(5)
    ]
