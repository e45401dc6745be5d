"""DATASETS.md says what the loaders, the catalog and the templates say."""

import re
from pathlib import Path

import pytest

from clipfit.prompts import PLAIN, TEMPLATES
from dassl.data.datasets import DATASET_REGISTRY
from datasets import demo
from datasets.tools import catalog

TEXT = (Path(__file__).parent.parent.parent / "DATASETS.md").read_text(encoding="utf-8")


def table(header):
    """Rows of the table whose first column is called `header`, as lists of cells without backquotes."""
    rows = TEXT[TEXT.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.replace("`", "").strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda entry: entry.name)
def test_every_data_set_has_a_section_with_its_layout_and_command(entry):
    section = re.search(rf"\n## {entry.registry}\n(.*?)(\n## |$)", TEXT, re.DOTALL)[1]
    loader = DATASET_REGISTRY.get(entry.registry)
    assert f"\ndata/{loader.dataset_dir}/" in section
    assert f"python -m datasets.prepare {entry.name}`" in section
    for file in (loader.split_file, *entry.files):
        assert file in section


def test_counts_in_the_table_are_the_published_ones():
    rows = {row[0]: row[1:] for row in table("name")}
    for entry in catalog.ENTRIES:
        registry, folder, classes, train, val, test = rows[entry.name][:6]
        assert (registry, folder) == (entry.registry, entry.folder)
        for shown, count in [
            (classes, entry.classes),
            (train, entry.train),
            (val, entry.val),
            (test, entry.test),
        ]:
            assert shown in ("= test", "none") if count is None else shown == f"{count:,}"
    for names, registries, _, classes, *counts in table("name")[len(catalog.ENTRIES) :]:
        loaders = [DATASET_REGISTRY.get(registry) for registry in registries.split(", ")]
        assert [loader.dataset_dir for loader in loaders] == names.split(", ")
        assert {len(loader.classes) for loader in loaders} == {int(classes)}
        assert [int(count) for count in counts[:3]] == [int(classes) * n for n in demo.PER_CLASS.values()]


def test_templates_are_those_in_use():
    shown = dict(table("data set"))
    assert shown.pop("all others") == PLAIN
    texture = f"{TEMPLATES['default']['DescribableTextures']}; CLIPFit and KgCoOp: "
    expected = TEMPLATES["default"] | {
        "DescribableTextures": texture + TEMPLATES["kgcoop"]["DescribableTextures"]
    }
    assert shown == expected
