"""DescribableTextures against CoOp's own picks."""

import json
import random
from pathlib import Path

import pytest

from dassl.data.datasets import build_dataset
from datasets import splits
from datasets.dtd import DescribableTextures

FIXTURE = Path(__file__).parent.parent / "fixtures" / "dtd_fewshot.json"
CASES = json.loads(FIXTURE.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['num_shots']}-{case['seed']}-{case['subsample_classes']}"
)
def test_picks_are_those_of_coop(case, example, lay_out, config, entries):
    root = lay_out(example("dtd_fewshot"))
    cfg = config(root, case["num_shots"], case["seed"], case["subsample_classes"])
    random.seed(99)  # the global generator decides nothing
    state = random.getstate()

    dataset = DescribableTextures(cfg)

    assert dataset.num_classes == case["num_classes"]
    assert dataset.classnames == case["classnames"]
    assert entries(root, dataset.train_x) == case["train"]
    assert entries(root, dataset.val) == case["val"]
    assert entries(root, dataset.test) == case["test"]
    assert random.getstate() == state


def test_the_same_images_whether_the_split_was_made_in_this_run_or_before(example, lay_out, config, entries):
    root = lay_out(example("dtd_fewshot"))
    split_file = root / "dtd" / "split_zhou_DescribableTextures.json"
    split_file.unlink()

    first = DescribableTextures(config(root, shots=2, seed=3))
    written = split_file.read_bytes()
    second = DescribableTextures(config(root, shots=2, seed=3))

    assert entries(root, first.train_x) == entries(root, second.train_x)
    assert entries(root, first.val) == entries(root, second.val)
    assert split_file.read_bytes() == written
    note = "split_zhou_DescribableTextures.made.json"
    assert sorted(path.name for path in (root / "dtd").iterdir()) == ["images", split_file.name, note]


def test_is_found_by_name_and_offers_the_helper_that_plugins_use(example, lay_out, config):
    cfg = config(lay_out(example("dtd_fewshot")))
    cfg.DATASET.NAME = "DescribableTextures"
    assert isinstance(build_dataset(cfg), DescribableTextures)
    assert DescribableTextures.read_and_split_data is splits.read_and_split_data

    cfg.DATASET.NAME = "DescribableTexture"
    with pytest.raises(ValueError, match="did you mean 'DescribableTextures'"):
        build_dataset(cfg)


def test_a_missing_folder_names_itself_the_section_and_a_near_miss(tmp_path, config):
    with pytest.raises(
        FileNotFoundError, match="dtd does not exist; DATASETS.md, section DescribableTextures"
    ):
        DescribableTextures(config(tmp_path))
    (tmp_path / "DTD").mkdir()
    with pytest.raises(FileNotFoundError, match=r"\(but .*DTD does: rename it\)"):
        DescribableTextures(config(tmp_path))


def test_missing_images_are_counted_and_named(example, lay_out, config):
    root = lay_out(example("dtd_fewshot"))
    for path in (root / "dtd/images/echo").glob("*_001?.jpg"):  # one for validation, two for test
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)3 of 60 images do not exist.*echo_0010.jpg.*--root"):
        DescribableTextures(config(root))
