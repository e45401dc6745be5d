"""What is known of the shipped data sets is what their loaders and the published splits say."""

import pytest

from datasets.tools import known


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
