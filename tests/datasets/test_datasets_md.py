"""DATASETS.md says what the loaders and the facts say."""

import re
from pathlib import Path

import pytest

from clipfit.prompts import PLAIN
from dassl.data.datasets import DATASET_REGISTRY
from datasets import demo
from datasets.tools.sources import read_sources
from launch.registered import data_sets

PUBLISHED = [one for one in data_sets() if one.facts.family != "demo"]
TEXT = (Path(__file__).parent.parent.parent / "DATASETS.md").read_text(encoding="utf-8")


def table(header):
    """Rows of the table whose first column is called `header`, as lists of cells without backquotes."""
    rows = TEXT[TEXT.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.replace("`", "").strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.stem)
def test_every_data_set_has_a_section_with_its_layout_and_command(one):
    section = re.search(rf"\n## {one.name}\n(.*?)(\n## |$)", TEXT, re.DOTALL)[1]
    assert f"\ndata/{one.facts.folder}/" in section
    assert f"python -m datasets.prepare {one.stem}`" in section
    for file in (one.facts.split, *one.facts.files):
        assert file in section
    words = " ".join(section.replace("<", "").replace(">", "").split())
    assert f"Terms: {one.facts.terms}" in words


SIZES = {"GB": 1e9, "MB": 1e6}


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.stem)
def test_sizes_are_those_of_the_first_files_where_they_are_published(one):
    (row,) = [row for row in table("name") if row[0] == one.stem]
    number, unit = row[7].split()
    sources = [source for source in read_sources(one.facts) if not source.optional and source.gives]
    if all(source.size for source in sources):
        size = sum(source.size for source in sources)
        assert size == pytest.approx(float(number) * SIZES[unit], rel=0.03)


def test_counts_in_the_table_are_those_of_the_facts():
    rows = {row[0]: row[1:] for row in table("name")}
    for one in PUBLISHED:
        facts = one.facts
        registry, folder, classes, *counts = rows.pop(one.stem)[:6]
        assert (registry, folder, classes) == (one.name, facts.folder, f"{facts.classes:,}")
        for shown, count in zip(counts, (facts.train, facts.val, facts.test), strict=True):
            assert shown == f"{count:,}" if count else shown in ("= test", "none")
    for names, (registries, _, classes, *counts) in rows.items():
        loaders = [DATASET_REGISTRY.get(registry) for registry in registries.split(", ")]
        assert [loader.dataset_dir for loader in loaders] == names.split(", ")
        assert {len(loader.classes) for loader in loaders} == {int(classes)}
        assert [int(count) for count in counts[:3]] == [int(classes) * n for n in demo.PER_CLASS.values()]


def test_templates_are_those_in_use():
    shown = dict(table("data set"))
    assert shown.pop("all others") == PLAIN
    templates = {one.name: one.facts.templates for one in data_sets()}
    assert set(shown) == {name for name, of in templates.items() if "default" in of}
    for name, text in shown.items():
        default, *other = text.split("; CLIPFit and KgCoOp: ")
        assert (default, *other) == tuple(filter(None, map(templates[name].get, ("default", "kgcoop"))))
