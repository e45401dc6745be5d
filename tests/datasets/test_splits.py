"""Split files, the making of splits, base and new classes, few-shot lists."""

import hashlib
import json
import multiprocessing
import random
import sys

import pytest

import datasets.splits as splits
from dassl.data.datasets import Datum
from dassl.data.datasets.base_dataset import check_files
from datasets.dtd import DescribableTextures

EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


class FolderPerClass(splits.SplitDataset):
    """EuroSAT in two lines: enough to run its worked example through the shared code."""

    dataset_dir = "eurosat"
    image_folder = "2750"
    split_file = "split_zhou_EuroSAT.json"

    def make_split(self, rng):
        return splits.read_and_split_data(self.image_dir, new_cnames=EUROSAT_NAMES, rng=rng)


def split_is_present(case):
    return "written by the previous case present" in case["state"]


def test_a_split_is_made_as_coop_makes_it_byte_for_byte(example, lay_out, config):
    eurosat = example("eurosat_nosplit")
    root = lay_out(eurosat)
    written = {case["seed"]: case["written_split"] for case in eurosat["cases"] if "written_split" in case}
    assert len(written) > 1
    for seed, split in written.items():
        path = root / split["path"]
        path.unlink(missing_ok=True)
        FolderPerClass(config(root, seed=seed))
        assert json.loads(path.read_text()) == split["value"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == split["sha256"]


def test_picks_from_a_split_just_made_are_those_of_coops_second_run(example, lay_out, config, entries):
    eurosat = example("eurosat_nosplit")
    root = lay_out(eurosat)
    second_runs = [case for case in eurosat["cases"] if split_is_present(case)]
    assert second_runs
    for case in second_runs:
        (root / "eurosat/split_zhou_EuroSAT.json").unlink(missing_ok=True)
        dataset = FolderPerClass(config(root, case["num_shots"], case["seed"], case["subsample_classes"]))
        assert entries(root, dataset.train_x) == case["train"]
        assert entries(root, dataset.val) == case["val"]
        assert entries(root, dataset.test) == case["test"]


@pytest.mark.parametrize("count, sizes", [(9, (4, 2, 3)), (11, (6, 2, 3)), (13, (6, 3, 4))])
def test_shares_round_halves_to_even(count, sizes, tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(count):
        (tmp_path / "a" / f"{number}.jpg").touch()
    lists = splits.read_and_split_data(str(tmp_path), rng=random.Random(1))
    assert tuple(map(len, lists)) == sizes


def test_a_fifth_of_every_class_is_split_off_for_validation():
    items = [Datum(f"{number}.jpg", label=number % 2) for number in range(20)]
    train, val = splits.split_trainval(items, rng=random.Random(5))

    rng, expected_train, expected_val = random.Random(5), [], []
    for label in (0, 1):
        positions = list(range(label, 20, 2))
        rng.shuffle(positions)
        expected_val += positions[:2]
        expected_train += positions[2:]
    assert [item.impath for item in val] == [f"{position}.jpg" for position in expected_val]
    assert [item.impath for item in train] == [f"{position}.jpg" for position in expected_train]

    with pytest.raises(ValueError, match="'tiny' has 2 images"):
        splits.split_trainval([Datum(label=0, classname="tiny")] * 2)


def test_new_classes_are_the_second_half_relabelled_from_zero():
    items = [Datum(f"{label}.jpg", label, domain=3, classname=f"c{label}") for label in (4, 0, 3, 1, 2)]
    (base,) = splits.subsample_classes(items, subsample="base")
    (new,) = splits.subsample_classes(items, subsample="new")
    assert [(item.label, item.classname, item.domain) for item in base] == [
        (0, "c0", 0),
        (1, "c1", 0),
        (2, "c2", 0),
    ]
    assert [(item.label, item.classname, item.domain) for item in new] == [(1, "c4", 0), (0, "c3", 0)]
    assert splits.subsample_classes(items, subsample="all") == (items,)
    with pytest.raises(ValueError, match="SUBSAMPLE_CLASSES is 'bass'; choose 'all', 'base' or 'new'"):
        splits.subsample_classes(items, subsample="bass")


GOOD = {"train": [["a/1.jpg", 0, "a"], ["b/1.jpg", 1, "b"]], "val": [["a/2.jpg", 0, "a"]], "test": []}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"val": None}, "must hold the lists train, val, test"),
        ({"val": [["a/2.jpg", "0", "a"]]}, r"val\[0\] is \['a/2.jpg', '0', 'a'\]; it must be"),
        ({"val": [["a/2.jpg", True, "a"]]}, r"val\[0\].*it must be"),
        ({"test": [["/a/2.jpg", 0, "a"]]}, r"test\[0\]: '/a/2.jpg' is absolute"),
        ({"test": [["a/../../2.jpg", 0, "a"]]}, r"test\[0\].*contains '..'"),
        (
            {"test": [["a/3.jpg", 0, "a"], ["c/1.jpg", 2, "c"]]},
            r"test\[1\]: class 'c' \(label 2\) has no training",
        ),
        ({"test": [["a/3.jpg", 0, "A"]]}, r"test\[0\]: label 0 is called 'A', but 'a' before"),
        ({"train": [["a/1.jpg", 0, "a"], ["b/1.jpg", 2, "b"]]}, "there is 2, but no 1"),
    ],
)
def test_a_faulty_split_file_is_named_with_its_entry(change, message, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(ValueError, match=message) as caught:
        splits.read_split(str(path), "images")
    assert str(path) in str(caught.value)


def test_a_saved_split_reads_back_and_stays_inside_its_folder(tmp_path):
    path = str(tmp_path / "split.json")
    lists = tuple(
        [Datum(str(tmp_path / file), label, classname=name) for file, label, name in GOOD[key]]
        for key in GOOD
    )
    splits.save_split(*lists, path, str(tmp_path))
    assert json.loads((tmp_path / "split.json").read_text()) == GOOD
    assert [item.impath for item in splits.read_split(path, str(tmp_path))[0]] == [
        item.impath for item in lists[0]
    ]
    with pytest.raises(ValueError, match="outside the image folder"):
        splits.save_split(*lists, path, str(tmp_path / "a"))


def build_with_seed(cfg):
    return [item.impath for item in FolderPerClass(cfg).test]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_processes_that_start_together_use_one_split(example, lay_out, config):
    root = lay_out(example("eurosat_nosplit"))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        tests = pool.map(build_with_seed, [config(root, seed=seed) for seed in range(1, 5)], chunksize=1)
    assert all(test == tests[0] for test in tests)
    assert len(list((root / "eurosat").iterdir())) == 3  # the images, one split file and its note


def test_a_folder_that_cannot_be_written_is_used_all_the_same(
    example, lay_out, config, entries, monkeypatch, capsys
):
    root = lay_out(example("eurosat_nosplit"))

    def refuse(obj, path):
        raise PermissionError(f"read-only: {path}")

    with monkeypatch.context() as patch:
        patch.setattr(splits, "write_json", refuse)
        unwritten = FolderPerClass(config(root, shots=2))
    assert "cannot be kept: read-only" in capsys.readouterr().out
    assert entries(root, unwritten.train_x) == entries(root, FolderPerClass(config(root, shots=2)).train_x)


def test_a_data_set_that_cannot_make_its_split_asks_for_the_file(tmp_path, config):
    class OnlyRead(splits.SplitDataset):
        dataset_dir = "only_read"
        split_file = "split_zhou_OnlyRead.json"

    (tmp_path / "only_read/images").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="split_zhou_OnlyRead.json does not exist"):
        OnlyRead(config(tmp_path))


def test_a_class_with_fewer_images_than_shots_is_mentioned(example, lay_out, config, capsys):
    DescribableTextures(config(lay_out(example("dtd_fewshot")), shots=8))
    line = "5 classes have fewer than 8 training images and give all they have: alpha (7), bravo (7)"
    assert line in capsys.readouterr().out


def test_a_negative_seed_samples_by_chance(example, lay_out, config):
    cfg = config(lay_out(example("dtd_fewshot")), shots=4, seed=-1)
    picks = {tuple(item.impath for item in DescribableTextures(cfg).train_x) for _ in range(5)}
    assert len(picks) > 1


def test_digest_is_that_of_the_lines():
    assert splits.list_digest(["a/1.jpg", "b/2.jpg"]) == hashlib.sha256(b"a/1.jpg\nb/2.jpg").hexdigest()


# DATASET.FEWSHOT_LIST


@pytest.mark.parametrize("form", ["record", "list", "text", "below the data set's folder"])
def test_a_list_replaces_sampling_and_leaves_validation_alone(
    form, example, lay_out, config, entries, tmp_path
):
    root = lay_out(example("dtd_fewshot"))
    sampled = DescribableTextures(config(root, shots=2, seed=2))
    images = [sampled.relative_path(item) for item in sampled.train_x]
    assert images[0] == "alpha/alpha_0007.jpg"  # as in the split file
    path = tmp_path / ("list.txt" if form == "text" else "list.json")
    content = {
        "record": json.dumps({"images": images, "digest": splits.list_digest(images)}),
        "list": json.dumps(images),
        "text": "\n".join(images) + "\n",
        "below the data set's folder": json.dumps([f"images/{image}" for image in images]),
    }
    path.write_text(content[form])

    listed = DescribableTextures(config(root, shots=2, seed=1, fewshot_list=path))
    assert entries(root, listed.train_x) == entries(root, sampled.train_x)
    assert entries(root, listed.val) == entries(root, DescribableTextures(config(root, shots=2, seed=1)).val)


def test_a_list_of_base_classes_trains_base(example, lay_out, config, entries, tmp_path):
    root = lay_out(example("dtd_fewshot"))
    base = DescribableTextures(config(root, shots=2, subsample="base"))
    path = tmp_path / "list.txt"
    path.write_text("\n".join(base.relative_path(item) for item in base.train_x))

    listed = DescribableTextures(config(root, shots=2, subsample="base", fewshot_list=path))
    assert entries(root, listed.train_x) == entries(root, base.train_x)
    with pytest.raises(ValueError, match="names no image of 2 classes: delta, echo"):
        DescribableTextures(config(root, shots=2, fewshot_list=path))


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "list.txt",
            "alpha/alpha_0001.jpg\nalpha/alpha_0008.jpg",
            "'alpha/alpha_0008.jpg' is not in the training",
        ),
        ("list.json", '{"pictures": []}', "neither"),
        ("list.json", '{"images": ["alpha/alpha_0001.jpg"], "digest": "0"}', "digest"),
    ],
)
def test_a_faulty_list_is_an_error(name, content, message, example, lay_out, config, tmp_path):
    root = lay_out(example("dtd_fewshot"))
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        DescribableTextures(config(root, fewshot_list=tmp_path / name))
    with pytest.raises(FileNotFoundError, match="no_such_list"):
        DescribableTextures(config(root, fewshot_list=tmp_path / "no_such_list"))


def test_a_file_dropped_into_the_folder_is_imported(tmp_path, monkeypatch):
    package = tmp_path / "dropped"
    package.mkdir()
    with open(splits.__file__.replace("splits.py", "__init__.py"), encoding="utf-8") as source:
        (package / "__init__.py").write_text(source.read())
    (package / "mine.py").write_text("FOUND = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    import dropped

    assert dropped.mine.FOUND


def test_a_damaged_file_of_matlab_is_named(tmp_path):
    for content in (b"", b"not of MATLAB" * 20, b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"\xff" * 20):
        (tmp_path / "labels.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"labels\.mat is no MATLAB file with the variable labels"):
            splits.read_mat(str(tmp_path / "labels.mat"), "labels")


def test_the_name_of_a_missing_image_does_not_reach_the_terminal_as_it_is():
    with pytest.raises(FileNotFoundError) as error:
        check_files("Own", [Datum(impath="/data/\x1b[2J.png")], advice="look")
    assert "\x1b" not in str(error.value) and "/data/?[2J.png" in str(error.value)


def test_half_a_character_in_a_list_is_refused_with_the_file(tmp_path):
    (tmp_path / "list.json").write_text('["a/\\ud800.png"]')
    with pytest.raises(ValueError, match=r"list\.json is neither"):
        splits.read_image_list(str(tmp_path / "list.json"))
