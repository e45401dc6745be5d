"""Every loader against the worked examples: lists, labels, names, picks and written splits are CoOp's."""

import hashlib
import json
from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import list_digest
from datasets import imagenet_like, splits
from datasets.fgvc_aircraft import FGVCAircraft
from datasets.imagenet import ImageNet
from datasets.oxford_pets import OxfordPets
from datasets.stanford_cars import year_first
from datasets.sun397 import SUN397, place
from datasets.ucf101 import UCF101, spaced

FIXTURES = Path(__file__).parent.parent / "fixtures"
MAKE_A_SPLIT = [
    "caltech101_nosplit",
    "eurosat_nosplit",
    "food101_nosplit",
    "oxford_flowers_nosplit",
    "oxford_pets_nosplit",
    "stanford_cars_nosplit",
    "sun397_nosplit",
    "ucf101_nosplit",
]
WITHOUT_SPLIT = ["fgvc_aircraft", "imagenet", "imagenet_a", "imagenet_r", "imagenet_sketch"]


def cases(names):
    """Parameters (example name, case): every case of every example."""
    parameters = []
    for name in names:
        for case in json.loads((FIXTURES / f"{name}.json").read_text())["cases"]:
            shots, seed, subset = case["num_shots"], case["seed"], case["subsample_classes"]
            state = "second run" if "written by" in case["state"] else "first run"
            parameters.append(pytest.param(name, case, id=f"{name}-{shots}-{seed}-{subset}-{state}"))
    return parameters


def build(example, cfg):
    cfg.DATASET.NAME = example["dataset"]
    return build_dataset(cfg)


def assert_is(dataset, case, root, entries, lists=("train", "val", "test")):
    assert dataset.num_classes == case["num_classes"]
    assert dataset.classnames == case["classnames"]
    for name, items in zip(
        ("train", "val", "test"), (dataset.train_x, dataset.val, dataset.test), strict=True
    ):
        if name in lists:
            assert (items and entries(root, items)) == case[name]


@pytest.mark.parametrize("name", MAKE_A_SPLIT)
def test_a_missing_split_is_made_as_coop_makes_it_byte_for_byte(name, example, lay_out, config):
    content = example(name)
    root = lay_out(content)
    written = [case for case in content["cases"] if "written_split" in case]
    assert written
    for case in written:
        path = root / case["written_split"]["path"]
        path.unlink(missing_ok=True)
        build(content, config(root, case["num_shots"], case["seed"]))
        assert json.loads(path.read_text()) == case["written_split"]["value"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == case["written_split"]["sha256"]


@pytest.mark.parametrize("name, case", cases(MAKE_A_SPLIT))
def test_lists_are_those_of_coop_with_the_split_it_wrote(name, case, example, lay_out, config, entries):
    """Few shots of CoOp's first run continue the generator that split: there, whole lists are compared."""
    content = example(name)
    root = lay_out(content)
    first_run = "split json absent" in case["state"]
    dataset = build(content, config(root, case["num_shots"], case["seed"], case["subsample_classes"]))
    sampled = first_run and case["num_shots"] > 0
    assert_is(dataset, case, root, entries, lists=["test"] if sampled else ["train", "val", "test"])
    assert not (Path(dataset.dataset_dir) / "split_fewshot").exists()


@pytest.mark.parametrize("name, case", cases(WITHOUT_SPLIT))
def test_lists_without_a_split_file_are_those_of_coop(name, case, example, lay_out, config, entries):
    content = example(name)
    root = lay_out(content)
    dataset = build(content, config(root, case["num_shots"], case["seed"], case["subsample_classes"]))
    assert_is(dataset, case, root, entries)


@pytest.mark.parametrize("name", MAKE_A_SPLIT)
def test_a_split_file_is_taken_as_it_is(name, example, lay_out, config, entries):
    """With a split file nothing is derived from folders or annotations, nor renamed."""
    content = example(name)
    root = lay_out(content | {"files": [file for file in content["files"] if file["kind"] == "image"]})
    dataset = DATASET_REGISTRY.get(content["dataset"])
    folder = Path(dataset.dataset_dir, dataset.image_folder)
    images = [Path(file["path"]) for file in content["files"] if file["kind"] == "image"]
    paths = [image.relative_to(folder).as_posix() for image in images]
    split = {
        "train": [[paths[4], 1, "One_b"], [paths[0], 0, "zero a"], [paths[1], 0, "zero a"]],
        "val": [[paths[2], 0, "zero a"]],
        "test": [[paths[3], 1, "One_b"]],
    }
    (root / dataset.dataset_dir / dataset.split_file).write_text(json.dumps(split))

    built = build(content, config(root))
    assert built.classnames == ["zero a", "One_b"]
    for name, items in zip(splits.LISTS, (built.train_x, built.val, built.test), strict=True):
        assert [[built.relative_path(i), i.label, i.classname] for i in items] == split[name]


@pytest.mark.parametrize("name", [*MAKE_A_SPLIT, "dtd_fewshot", "fgvc_aircraft", "imagenet"])
def test_a_recorded_list_of_images_replaces_sampling(name, example, lay_out, config, entries, tmp_path):
    content = example(name)
    root = lay_out(content)
    build(content, config(root, seed=1))  # makes the split
    sampled = build(content, config(root, shots=2, seed=2))
    record = tmp_path / "fewshot.json"
    images = [sampled.relative_path(item) for item in sampled.train_x]
    record.write_text(json.dumps({"images": images, "digest": list_digest(images)}))

    listed = build(content, config(root, shots=2, seed=1, fewshot_list=record))
    assert entries(root, listed.train_x) == entries(root, sampled.train_x)
    with pytest.raises(ValueError, match="'elsewhere/1.jpg' is not in the training split"):
        record.write_text(json.dumps([*images, "elsewhere/1.jpg"]))
        build(content, config(root, fewshot_list=record))


@pytest.mark.parametrize("name", [*MAKE_A_SPLIT, "fgvc_aircraft"])
def test_a_missing_annotation_file_is_named_with_what_would_do_instead(name, example, lay_out, config):
    content = example(name)
    kinds = {file["path"]: file["kind"] for file in content["files"]}
    root = lay_out(content)
    for path in [path for path, kind in kinds.items() if kind != "image"]:
        (root / path).rename(root / "moved")
        with pytest.raises(
            FileNotFoundError, match=rf"{path} does not exist.*DATASETS\.md, section {content['dataset']}"
        ):
            build(content, config(root))
        (root / "moved").rename(root / path)


def test_names_are_derived_from_annotations_as_in_coop():
    assert year_first("Ram C/V Cargo Van Minivan 2012") == "2012 Ram C/V Cargo Van Minivan"
    assert place("c/church/indoor") == "indoor church"
    assert place("a/airplane_cabin") == "airplane_cabin"
    assert [spaced(name) for name in ("YoYo", "TaiChi", "Archery")] == ["Yo_Yo", "Tai_Chi", "Archery"]


def test_plugins_find_the_helpers_where_coop_has_them():
    assert OxfordPets.read_split is splits.read_split
    assert OxfordPets.save_split is splits.save_split
    assert OxfordPets.split_trainval is splits.split_trainval
    assert OxfordPets.subsample_classes is splits.subsample_classes
    assert ImageNet.read_classnames is imagenet_like.read_classnames


def test_every_data_set_has_a_yaml_that_only_names_it():
    folder = Path(__file__).parent.parent.parent / "configs" / "datasets"
    for module in [
        *(name.removesuffix("_nosplit") for name in [*MAKE_A_SPLIT, *WITHOUT_SPLIT]),
        "imagenetv2",
    ]:
        name = (
            (folder / f"{module}.yaml").read_text().strip().removeprefix("DATASET: {NAME: ").removesuffix("}")
        )
        assert DATASET_REGISTRY.get(name).__module__ == f"datasets.{module}"


def test_annotations_that_contradict_each_other_are_named(example, lay_out, config):
    for name, file, line, dataset in [
        ("fgvc_aircraft", "fgvc_aircraft/images_variant_val.txt", "0034007 Concorde", FGVCAircraft),
        ("sun397_nosplit", "sun397/Training_01.txt", "/z/zoo/sun_a001.jpg", SUN397),
        (
            "ucf101_nosplit",
            "ucf101/ucfTrainTestlist/testlist01.txt",
            "Sleeping/v_Sleeping_g01_c01.avi",
            UCF101,
        ),
    ]:
        root = lay_out(example(name))
        with open(root / file, "a") as annotation:
            annotation.write(f"{line}\n")
        with pytest.raises(ValueError, match=line):
            dataset(config(root))


def test_class_names_made_from_the_folders_have_the_published_digest(example, lay_out, config):
    """EuroSAT's example has all ten real folder names, so its class names are those of the real data set."""
    root = lay_out(example("eurosat_nosplit"))
    cfg = config(root)
    cfg.DATASET.NAME = "EuroSAT"
    published = json.loads((FIXTURES / "real_splits_fewshot.json").read_text())["datasets"]["EuroSAT"]
    assert list_digest(build_dataset(cfg).classnames) == published["classnames_sha256"]
