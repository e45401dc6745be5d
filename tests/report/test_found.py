"""The table of the base-to-new runs that are there: scripts/base2new_table.py, the end of `make demo`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from report.formats import terminal
from report.found import base_to_new
from scripts import base2new_table

PROJECT = Path(__file__).parents[2]
COSTS = {
    "ZeroshotCLIP": {"trainable_params": 0, "max_epoch": 30, "seconds_train": None},
    "CLIPFit": {"trainable_params": 46_080, "max_epoch": 10, "seconds_train": 4.0},
}


@pytest.fixture
def run(tmp_path):
    """Make a finished run, with a config.yaml of these settings of CLIPFit where any are given."""

    def make(method, half, seed, accuracy, config="demo", text=None, **settings):
        folder = tmp_path / f"base2new/{half}/demo/shots_16/{method}/{config}/seed{seed}"
        folder.mkdir(parents=True)
        result = {"accuracy": accuracy, "train_images": 160, "peak_memory_mb": 1_000.0 * seed}
        (folder / "result.json").write_text(text or json.dumps(result | COSTS.get(method, {})))
        if settings:
            (folder / "config.yaml").write_text(yaml.safe_dump({"TRAINER": {"CLIPFIT": settings}}))

    return make


@pytest.fixture
def three_methods(run):
    scores = {
        "ZeroshotCLIP": ([50, 50], [60, 60]),
        "CLIPFit": ([80, 90], [70, 70]),
        "Unfinished": ([99], []),
    }
    for method, halves in scores.items():
        for half, values in zip(("train_base", "test_new"), halves, strict=True):
            for seed, value in enumerate(values, start=1):
                run(method, half, seed, value)


def row(table, name):
    """Column -> cell."""
    (number,) = (r for r, head in enumerate(table.rows) if head.label == name)
    return {head.label: table.cells[number, c] for c, head in enumerate(table.columns)}


def test_the_table_shows_means_over_seeds_gains_over_zero_shot_and_cost(three_methods, tmp_path):
    table = base_to_new(tmp_path, "demo", 16)
    zero_shot, clipfit = 2 * 50 * 60 / 110, 2 * 85 * 70 / 155
    assert [head.label for head in table.rows] == ["ZeroshotCLIP", "CLIPFit", "Unfinished"]
    assert (table.seeds, table.embedded) == ((1, 2), True)
    means = {label: cell.ours.mean for label, cell in row(table, "CLIPFit").items()}
    assert means == pytest.approx(
        {
            **{"base": 85, "new": 70, "HM": clipfit, "gain": clipfit - zero_shot},
            **{"parameters": 46_080, "time per image": 2.5, "memory": 1_500},  # 4 s, 10 epochs of 160 images
        }
    )
    assert row(table, "CLIPFit")["base"].ours.sd == 5
    untrained = row(table, "ZeroshotCLIP")
    assert untrained["HM"].ours.mean == pytest.approx(zero_shot) and untrained["HM"].ours.sd is None
    assert untrained["time per image"].ours.reason == "not defined"


def test_it_says_which_seeds_there_are_and_which_lack(three_methods, tmp_path):
    text = terminal(base_to_new(tmp_path, "demo", 16))
    assert "Mean ± standard deviation over seeds 1, 2." in text
    assert "1 of 2 seeds (1): seed 2: not run" in text
    assert base_to_new(tmp_path, "demo", 16, [2]).seeds == (2,)


def test_one_zero_shot_run_stands_for_all_seeds(run, tmp_path):
    for half in ("train_base", "test_new"):
        run("ZeroshotCLIP", half, 1, 50)
        run("CLIPFit", half, 2, 80)
    table = base_to_new(tmp_path, "demo", 16)
    assert row(table, "ZeroshotCLIP")["HM"].ours.seeds == (1, 2)
    assert row(table, "CLIPFit")["gain"].ours.mean == pytest.approx(30)


def test_a_variant_is_named_by_what_it_sets_otherwise_than_the_run_beside_it(run, tmp_path):
    run("CLIPFit", "train_base", 1, 80, BETA=8.0, REGULARIZER="kd", PREC="fp32")
    run("CLIPFit", "train_base", 1, 80, "demo-0123abcd", BETA=2.0, REGULARIZER="kd", PREC="fp32")
    run("CLIPFit", "train_base", 1, 80, "demo-89efabcd", BETA=0.5, REGULARIZER="mse", PREC="fp32")
    run("CLIPFit", "train_base", 1, 80, "demo-00000000")  # it does not say
    names = [head.label for head in base_to_new(tmp_path, "demo", 16).rows]
    assert names == [
        "CLIPFit",
        "CLIPFit, BETA 0.5, REGULARIZER mse",
        "CLIPFit, BETA 2",
        "CLIPFit, demo-00000000",
    ]


def test_a_variant_alone_is_named_by_what_it_sets_otherwise_than_the_recipe(run, tmp_path):
    run("CLIPFit", "train_base", 1, 80, "demo-0123abcd", BETA=2.0, PREC="fp32")  # the recipe says 8, auto
    assert base_to_new(tmp_path, "demo", 16).rows[0].label == "CLIPFit, BETA 2"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[]", "it holds [], no result"),
        ('{"accuracy": NaN}', "accuracy is nan, no number"),
        ('{"accuracy": 150}', "accuracy is 150, which cannot be"),
        ('{"accuracy": 90, "total": 4, "correct": 3}', "3 correct images of 4 are 75.00 %"),
        ('{"accuracy": 9', "is not valid JSON"),
    ],
)
def test_a_damaged_result_costs_its_own_cells(text, reason, run, three_methods, tmp_path):
    run("CoOp", "train_base", 1, 80)
    run("CoOp", "test_new", 1, 0, text=text)
    table = base_to_new(tmp_path, "demo", 16, [1])
    damaged = row(table, "CoOp")
    assert damaged["base"].ours.mean == 80
    assert reason in damaged["new"].ours.reason and reason in damaged["HM"].ours.reason
    assert row(table, "CLIPFit")["HM"].ours.mean == pytest.approx(2 * 80 * 70 / 150)


def test_the_script_prints_it_or_says_what_is_not_there(three_methods, tmp_path, capsys):
    base2new_table.main(["demo", "--output", str(tmp_path)])
    assert "Base-to-new, demo, 16 shots [embedded data]" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no base-to-new runs of dtd"):
        base2new_table.main(["dtd", "--output", str(tmp_path)])


def test_the_script_needs_no_package_of_the_report():
    missing = ["jinja2", "markupsafe", "matplotlib", "sklearn", "torch"]
    code = f"import sys; sys.modules |= dict.fromkeys({missing}); import scripts.base2new_table"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)
