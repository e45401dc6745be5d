"""A method that learns no prompts has, in the paper's tables, the one prompt per data set of Table 8."""

import csv

import pytest

from clipfit.prompts import choose_template
from launch.registered import data_set
from report.definitions import load
from report.paper import SHIPPED, Paper

PAPER = Paper.read(SHIPPED)
PROMPT_LEARNERS = {"CoOp", "CoCoOp", "ProGrad", "KgCoOp", "MaPLe"}
METHODS = {row.trainer for table in load(PAPER).values() for row in table.rows} - PROMPT_LEARNERS
CODE_DECIDES = {("CLIPFit", "dtd"): "a photo of a {}, a type of texture."}  # DATASETS.md, Prompts
with open(SHIPPED / "printed/table08.csv", newline="", encoding="utf-8") as file:
    TABLE_8 = {row["dataset"]: row["prompt"].replace("[CLASS]", "{}") for row in csv.DictReader(file)}


def prompt_of(trainer, dataset, trained_on):
    """What a built trainer has on a data set (stem), with what the paper sets for the one trained on."""
    given = PAPER.overrides(trainer.cfg.TRAINER.NAME, trained_on, 16).get("DATASET.PROMPT_TEMPLATE", "")
    trainer.cfg.DATASET.NAME, trainer.cfg.DATASET.PROMPT_TEMPLATE = data_set(dataset).name, given
    templates = data_set(dataset).facts.templates
    trainer.template = choose_template(templates, trainer.template_column, given)
    trainer.setup()
    return trainer.template


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_without_learned_prompts_has_the_printed_prompt(method, build, small_clip):
    trainer = build(method, f"--backbone={small_clip}", "DATASET.NUM_SHOTS", 1)
    trainer.cfg.defrost()
    for dataset, printed in TABLE_8.items():
        trained_on = "imagenet" if dataset.startswith("imagenet") else dataset
        expected = CODE_DECIDES.get((method, dataset), printed)
        assert prompt_of(trainer, dataset, trained_on) == expected


def test_outside_of_the_paper_tip_adapter_has_the_seven_prompts_of_its_release(build, small_clip):
    trainer = build("TipAdapter", f"--backbone={small_clip}", "DATASET.NUM_SHOTS", 1)
    trainer.cfg.defrost()
    trainer.cfg.DATASET.NAME = "ImageNet"
    trainer.setup()
    assert len(trainer.templates) == 7 and "a photo of a {}." not in trainer.templates
