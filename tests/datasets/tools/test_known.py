"""What is known of the shipped data sets is what their loaders and the published splits say."""

import pytest

from clipfit.prompts import PLAIN
from dassl.config.facts import OWN, TEMPLATE_COLUMNS, Facts
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from datasets.tools import known
from datasets.tools.sources import read_sources
from launch.registered import data_sets

SHIPPED = data_sets()


@pytest.mark.parametrize("one", SHIPPED, ids=lambda one: one.stem)
def test_shipped_facts_describe_their_loader(one):
    loader = DATASET_REGISTRY.get(one.name)
    assert one.facts.path is not None and one.config is not None
    assert loader.__module__ == f"datasets.{one.file.stem}"
    assert one.facts.folder == loader.dataset_dir
    assert loader.templates == one.facts.templates
    assert one.facts.split in (loader.split_file, "")  # what is drawn has its own
    inside = [name for name in one.facts.images if loader.image_folder == name.partition("/")[0]]
    assert inside == list(one.facts.images) or loader.image_folder == ""  # StanfordCars has two


def test_shipped_data_sets_share_no_folder_and_a_family_has_one_source():
    assert len({one.facts.folder for one in SHIPPED}) == len(SHIPPED)
    sources = [one.facts.family for one in SHIPPED if one.facts.role == "source"]
    assert len(sources) == len(set(sources))
    assert all(one.facts.family != OWN for one in SHIPPED)


def test_every_trainer_takes_a_column_of_templates_that_facts_may_have():
    import trainers  # noqa: F401 - registers

    for name in TRAINER_REGISTRY.registered_names():
        assert getattr(TRAINER_REGISTRY.get(name), "template_column", "default") in TEMPLATE_COLUMNS


def test_the_template_of_a_trainer_is_what_the_data_set_declares(demo_root):
    import trainers  # noqa: F401 - registers
    from dassl.engine import build_trainer
    from launch.arguments import parse_args
    from launch.resolve import resolve
    from launch.runtime import settle_precision

    def template(trainer):
        words = ["--trainer", trainer, "--dataset", "demo_signs", "--root", str(demo_root), "--seed", "1"]
        cfg = resolve(parse_args([*words, "VERBOSE", "False"])).cfg
        settle_precision(cfg)
        return build_trainer(cfg).template

    signs = DATASET_REGISTRY.get("DemoSigns")
    assert template("ZeroshotCLIP") == PLAIN
    declared = signs.templates
    try:
        signs.templates = {"default": "a {} seen.", "kgcoop": "a {} of a kind."}
        assert (template("ZeroshotCLIP"), template("CLIPFit")) == ("a {} seen.", "a {} of a kind.")
    finally:
        signs.templates = declared


@pytest.mark.parametrize(
    "source, error, message",
    [
        ({"fil": "a.zip"}, KeyError, "unknown key 'fil'; did you mean 'file'"),
        ({"take": "a"}, ValueError, "lacks file"),
        ({"file": "a.zip", "from": "https://a"}, ValueError, "from: 'https://a' is no list"),
        ({"file": "a.zip", "from": ["https://a"]}, ValueError, "has neither a url nor a drive id, or both"),
        ({"file": "a.zip", "from": [{"url": "https://a", "drive": "1"}]}, ValueError, "or both"),
        ({"file": "a.zip", "from": [{"url": "https://a", "mirrors": ""}]}, KeyError, "did you mean 'mirror'"),
        ({"file": "a.zip", "md5": "0"}, ValueError, "md5: '0' has not 32 hexadecimal digits"),
        ({"file": "a.zip", "size": "big"}, ValueError, "size: 'big' is no number"),
        ({"file": "a.zip", "gives": "images"}, ValueError, "gives: 'images' is no list"),
        ({"file": "a.zip", "optional": "yes"}, ValueError, "optional: 'yes' is no true or false"),
    ],
)
def test_a_broken_source_is_named_with_its_file_and_place(source, error, message):
    facts = Facts("Birds", sources=({"file": "fine"}, source), path="birds.yaml")
    with pytest.raises(error, match=rf"birds.yaml, sources\[1\].*{message}"):
        read_sources(facts)


@pytest.mark.parametrize("file", ["real_splits_fewshot", "thirdparty_fewshot"])
def test_published_digests_are_those_of_the_reference(file, example):
    for registry, reference in example(file)["datasets"].items():
        published = known.find(registry).published
        assert published.get("split_sha256") == reference.get("split_sha256")
        assert published["classnames_sha256"] == reference["classnames_sha256"]
        assert published["fewshot"] == {
            f"{pick['num_shots']}-{pick['seed']}": [pick["train_sha256"], pick["val_sha256"]]
            for pick in reference["fewshot"]
        }
        entry = known.find(registry)
        assert (entry.folder, entry.classes) == (reference["directory"], reference["num_classes"])
        if "counts" in reference:
            assert {part: getattr(entry, part) for part in reference["counts"]} == reference["counts"]
