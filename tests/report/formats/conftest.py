"""Small reports made by hand: every number in them is meant to be checked by eye."""

import pytest
from PIL import Image

from report.model import (
    Cell,
    Comparison,
    Figure,
    Head,
    Printed,
    Report,
    ReportedRun,
    Score,
    Statistics,
    Table,
)

SEEDS = (1, 2, 3)


def scored(mean, sd=0.1, printed=None, **more):
    return Cell(Score(mean, sd, SEEDS), Printed(printed) if printed else None, **more)


@pytest.fixture
def table():
    """Two methods on two data sets: an agreement, a difference, a doubtful print, a cell not run."""
    rows = (Head("Base", "DTD"), Head("New", "DTD"), Head("Base", "EuroSAT"), Head("New", "EuroSAT"))
    cells = {
        (0, 0): scored(79.5, 0.25, "79.44"),
        (0, 1): scored(82.125, 0.25, "81.00"),
        (1, 0): Cell(Score(41.25, 0.5, SEEDS), Printed("41.18", "hm implies 42.00")),
        (1, 1): Cell(Score(reason="not run"), Printed("63.50")),
        (2, 0): Cell(Score(92.0, 0.5, (1, 2), "seed 3 failed"), Printed("92.19")),
        (2, 1): scored(90.75, 0.5, "92.33", help=("val search",)),
        (3, 0): Cell(Score(reason="seed 2 diverged after 3 epochs"), Printed("54.74")),
        (3, 1): scored(54.0, 0.5),
    }
    columns = (Head("CoOp"), Head("CLIPFit"))
    notes = ("The average HM is the harmonic mean of averages.",)
    return Table("table1", "Base-to-new", rows, columns, cells, False, SEEDS, "columns", notes, "section 4.2")


@pytest.fixture
def embedded_table():
    rows, columns = (Head("CoOp"), Head("CLIPFit")), (Head("Base"), Head("New"))
    cells = {(r, c): scored(60.0 + 10 * r + c) for r in range(2) for c in range(2)}
    return Table("table1", "Base-to-new", rows, columns, cells, True, SEEDS, "rows")


@pytest.fixture
def wide_table():
    """Five methods on twelve data sets, in groups of columns."""
    columns = (Head("ImageNet", "Source"), *(Head(f"DataSet{n}", "Target") for n in range(1, 12)))
    rows = tuple(map(Head, ("CoOp", "CoCoOp", "ProGrad", "KgCoOp", "CLIPFit")))
    cells = {(r, c): scored(50.0 + r + c, 0.1, "55.00") for r in range(5) for c in range(12)}
    return Table("table9", f"Transfer{12 * ' to another'}", rows, columns, cells, False, SEEDS, "rows")


@pytest.fixture
def efficiency_table():
    columns = (
        Head("Parameters", unit="params", lower_is_better=True),
        Head("Time per image", unit="ms", lower_is_better=True),
        Head("HM"),
    )
    cells = {
        (0, 0): scored(2048.0, 0.0, "2048"),
        (0, 1): scored(0.75, 0.02, "0.44"),
        (0, 2): scored(71.5, 0.2, "71.66"),
        (1, 0): scored(46080.0, 0.0, "44000"),
        (1, 1): scored(1.25, 0.02, "0.96"),
        (1, 2): scored(79.0, 0.2, "79.03"),
    }
    return Table(
        "table7", "Efficiency", (Head("CoOp"), Head("CLIPFit")), columns, cells, False, SEEDS, "rows"
    )


@pytest.fixture
def figures(tmp_path):
    png = tmp_path / "figures/figure3.png"
    png.parent.mkdir()
    Image.new("RGB", (1200, 300), "white").save(png)
    return (
        Figure("figure3", "Change per layer", "Four shots.", embedded=True, png=png),
        Figure("figure5", "t-SNE", "EuroSAT.", reason="data/eurosat is not there"),
    )


@pytest.fixture
def runs():
    environment = {
        "packages": {"torch": "2.9.1"},
        "commit": "0123456789ab+changes",
        "device": "cpu",
        "threads": 2,
    }
    result = {
        "dataset_file": "dtd",
        "accuracy": 63.125,
        "trainable_params": 46080,
        "seconds_train": 94.0,
        "train_images": 188,
        "max_epoch": 100,
        "peak_memory_mb": 1024.0,
        "precision": "amp",
        "backbone": "ViT-B/16",
        "extras": ["val search"],
    }
    lists = {"lists": {"test": {"images": 7, "digest": "f00d"}}}
    return (
        ReportedRun("few_shot/dtd/seed1", "done", "python train.py --seed 1", result, (environment,)),
        ReportedRun(
            "few_shot/dtd/seed2", "done", "python train.py --seed 2", result, ({**environment, **lists},)
        ),
        ReportedRun(
            "few_shot/demo_signs/seed1",
            "todo",
            "python train.py --seed 1",
            reason="waits for training",
            embedded=True,
        ),
    )


@pytest.fixture
def report(table, embedded_table, wide_table, efficiency_table, figures, runs):
    statistics = (
        Statistics(
            "table1",
            "HM over 4 data sets",
            {"CoOp": 1.75, "CLIPFit": 1.25},
            (Comparison("CLIPFit", "CoOp", 4, 2.5, None, "too few data sets: 4, at least 6 are needed"),),
            embedded=True,
        ),
        Statistics(
            "table1",
            "HM over 11 data sets",
            {"CoOp": 2.0, "CLIPFit": 1.0},
            (Comparison("CLIPFit", "CoOp", 11, 7.3, 0.00049),),
        ),
    )
    return Report(
        "Reproduction", (table, embedded_table, wide_table, efficiency_table), statistics, figures, runs
    )
