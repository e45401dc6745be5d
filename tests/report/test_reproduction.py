"""docs/reproduction.md: its counts are those of the tables, its letters those of the notes on the print."""

import csv
import math
import re
from dataclasses import replace
from functools import cache

import pytest

from grid.plan import plan
from launch.resolve import PROJECT, load_recipe, trained_alike
from report.definitions import load
from report.paper import SHIPPED, Paper, registered_name
from report.selection import Selection

PAGE = (PROJECT / "docs/reproduction.md").read_text(encoding="utf-8")
PAPER = Paper.read(SHIPPED)
FOLDER = SHIPPED / "printed"
TABLES = load(PAPER)
with open(FOLDER / "table08.csv", newline="", encoding="utf-8") as file:
    CLASSES = {row["dataset"]: int(row["classes"]) for row in csv.DictReader(file)}


def counts_of_the_page():
    """Table -> (runs, million training images); "" holds those of all tables together."""
    rows = re.findall(r"^\|(?: (`\w+`))? \| [^|]+ \| ([\d,]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    return {name.strip("`"): (int(runs.replace(",", "")), float(images)) for name, runs, images in rows}


def runs_of(*tables, datasets=("paper",), seeds=(1, 2, 3)):
    wanted = (spec for table in tables for spec, _ in table.specs(Selection(PAPER, datasets, seeds=seeds)))
    return {spec if spec.eval_only else replace(spec, protocol=_protocol(spec)) for spec in wanted}


def _protocol(spec):
    """Under which a training that several protocols share is counted."""
    return _first(spec.trainer, spec.protocol, registered_name(spec.dataset), spec.shots)


@cache
def _first(*training):
    return trained_alike(*training)[0]


def training_images(spec):
    """Images times epochs of a training run."""
    if spec.eval_only or spec.trainer == "ZeroshotCLIP":
        return 0
    recipe, _ = load_recipe(spec.trainer, spec.protocol, registered_name(spec.dataset), spec.shots)
    given = dict(zip(spec.pairs[::2], spec.pairs[1::2], strict=True))
    epochs = int(given.get("OPTIM.MAX_EPOCH", recipe["OPTIM.MAX_EPOCH"]))
    classes = CLASSES[spec.dataset]
    return spec.shots * epochs * (math.ceil(classes / 2) if spec.protocol == "base2new" else classes)


@pytest.mark.parametrize("name", ["", *TABLES])
def test_runs_and_training_images_are_those_of_the_tables(name):
    wanted = runs_of(*([TABLES[name]] if name else TABLES.values()))
    images = sum(map(training_images, wanted)) / 1e6
    assert counts_of_the_page()[name] == (len(wanted), round(images, 1))


def test_the_page_lists_every_table():
    assert set(counts_of_the_page()) == {"", *TABLES}


def test_the_tests_of_a_table_load_no_run_that_is_not_counted(tmp_path):
    for name in ("table3", "table9"):
        wanted = runs_of(TABLES[name], seeds=(1,))
        planned = plan([(spec, ()) for spec in wanted], tmp_path, "data")
        assert {planned[spec] for spec in wanted} == set(planned.values())


def test_the_embedded_data_take_as_many_runs_as_the_page_says():
    (count,) = re.findall(r"embedded data sets take\s+(\d+) runs for one seed", PAGE)
    assert int(count) == len(runs_of(*TABLES.values(), datasets=("demo",), seeds=(1,)))


def test_every_letter_of_the_page_is_a_note_on_the_print():
    notes = (FOLDER / "NOTES.md").read_text(encoding="utf-8")
    letters = set(re.findall(r"\b([A-E]\d+)\b", PAGE[PAGE.index("## Which printed numbers") :]))
    assert letters >= {"A1", "B4", "C2"}
    assert all(f"| {letter} |" in notes for letter in letters)


def test_files_that_the_page_links_to_exist():
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (PROJECT / "docs" / target).is_file()
