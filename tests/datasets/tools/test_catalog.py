"""The catalog says what the loaders and the published splits say."""

import pytest

from dassl.data.datasets import DATASET_REGISTRY
from datasets.tools import catalog


def test_every_catalog_entry_describes_its_loader():
    for entry in catalog.ENTRIES:
        loader = DATASET_REGISTRY.get(entry.registry)
        assert (loader.__module__, loader.dataset_dir, loader.split_file) == (
            f"datasets.{entry.name}",
            entry.folder,
            entry.split,
        )
    assert len({entry.folder for entry in catalog.ENTRIES}) == 15


@pytest.mark.parametrize("file", ["real_splits_fewshot", "thirdparty_fewshot"])
def test_published_digests_are_those_of_the_reference(file, example):
    for registry, reference in example(file)["datasets"].items():
        published = catalog.find(registry).published
        assert published.get("split_sha256") == reference.get("split_sha256")
        assert published["classnames_sha256"] == reference["classnames_sha256"]
        assert published["fewshot"] == {
            f"{pick['num_shots']}-{pick['seed']}": [pick["train_sha256"], pick["val_sha256"]]
            for pick in reference["fewshot"]
        }
        entry = catalog.find(registry)
        assert (entry.folder, entry.classes) == (reference["directory"], reference["num_classes"])
        if "counts" in reference:
            assert {part: getattr(entry, part) for part in reference["counts"]} == reference["counts"]
