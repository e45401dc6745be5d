"""The print as it is: every number is there, and exactly the cells that the notes name contradict others.

The checks recompute what the paper could have: harmonic means, averages, gains, numbers given twice.
"""

import csv
import re
from itertools import product
from statistics import fmean

import pytest

from report.model import Printed
from report.paper import SHIPPED, Paper
from report.printed import read_print

PAPER = Paper.read(SHIPPED)
printed = PAPER.print_of
FOLDER = SHIPPED / "printed"
ELEVEN = PAPER.families[0].datasets
SHOTS = (1, 2, 4, 8, 16)
METRICS = ("base", "new", "hm")
BASE_TO_NEW = {"table01": 16, "table11": 4, "table12": 8}
TOLERANCE = 0.02 + 1e-9  # two decimals are printed
ROUNDING = 0.01 + 1e-9


def value(table, method, dataset="average", shots=None, metric="accuracy"):
    return printed(table).get(method, dataset, shots, metric).value


def methods(table):
    return list(dict.fromkeys(key[0] for key in printed(table).cells))


def marked(letter):
    """Cells (table, method, data set, metric) that notes.csv names under a letter."""
    with open(FOLDER / "notes.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["ref"].startswith(letter)]
    return {
        (row["table"], method, row["dataset"], metric)
        for row in rows
        for method, metric in product(row["methods"].split(), row["metrics"].split())
    }


@pytest.mark.parametrize(
    "table, numbers",
    {
        "table01": 12 * 7 * 3,
        "table02": 7 * 5,
        "table03": 8 * 4,
        "table04": 3 * 2 * 3 + 9,  # and the gains
        "table05": 4 * 4,
        "table06": 4 * 3,
        "table07": 5 * 5,
        "table09": 5 * 12,
        "table10": 7 * 5 * 12,
        "table11": 12 * 6 * 3,
        "table12": 12 * 6 * 3,
        "text_numbers": 34,
    }.items(),
)
def test_every_number_is_there(table, numbers):
    assert len(printed(table).cells) == numbers


def test_a_value_keeps_its_printed_decimals_and_suffix():
    assert printed("table04").get("KgCoOp gain", shots=16, metric="base").text == "1.40"
    assert printed("table10").get("CoOp", "oxford_pets", 1).text == "92.2"
    clipfit = printed("table07").get("CLIPFit", metric="params")
    assert (clipfit.text, clipfit.value) == ("44k", 44_000)
    assert (Printed("3.55M").value, Printed("67.6K").value) == (3_550_000, 67_600)


def test_what_cannot_be_read_has_no_value_but_a_note():
    assert [(cell.text, cell.value) for cell in _unreadable("table10")] == [("?", None)] * 4
    assert [(cell.text, cell.value) for cell in _unreadable("table07")] == [("2.1ds", None)]
    assert all(cell.note for table in ("table07", "table10") for cell in _unreadable(table))


def _unreadable(table):
    return [cell for cell in printed(table).cells.values() if cell.value is None]


def test_zero_shot_clip_has_no_shots_of_its_own():
    assert value("table03", "ZeroshotCLIP", "imagenetv2", 16) == 60.83


def test_data_sets_are_called_as_table_8_prints_them():
    with open(FOLDER / "table08.csv", newline="", encoding="utf-8") as file:
        assert PAPER.titles == {row["dataset"]: row["printed_name"] for row in csv.DictReader(file)}
    assert set(PAPER.titles) == set(PAPER.families[0].every)


# Contradictions -------------------------------------------------------------------------------------


def test_harmonic_means_disagree_in_the_cells_noted_under_a():
    found = set()
    for table, shots in BASE_TO_NEW.items():
        for method, dataset in product(methods(table), [*ELEVEN, "average"]):
            base, new, hm = (value(table, method, dataset, shots, metric) for metric in METRICS)
            if abs(hm - _harmonic(base, new)) > TOLERANCE:
                found.add((table, method, dataset, "hm"))
    assert found == {cell for cell in marked("A") if cell[3] == "hm"}
    assert len(found) == 12


@pytest.mark.parametrize(
    "method, dataset, implied",
    [
        ("CoCoOp", "stanford_cars", 73.60),
        ("CLIPAdapter", "stanford_cars", 68.86),
        ("CLIPAdapter", "caltech101", 93.69),
        ("KgCoOp", "caltech101", 94.40),
    ],
)
def test_the_suspicious_new_accuracies_of_table_1_are_those_whose_hm_implies_others(method, dataset, implied):
    base, new, hm = (value("table01", method, dataset, 16, metric) for metric in METRICS)
    assert hm * base / (2 * base - hm) == pytest.approx(implied, abs=0.01)
    assert abs(new - implied) > 0.4
    note = printed("table01").get(method, dataset, 16, "new").note
    assert re.match(r"A[1-4]: suspicious", note)


def test_average_rows_disagree_in_the_cells_noted_under_b():
    found = set()
    for table, shots in BASE_TO_NEW.items():
        for method, metric in product(methods(table), ("base", "new")):
            column = [value(table, method, dataset, shots, metric) for dataset in ELEVEN]
            if abs(value(table, method, "average", shots, metric) - fmean(column)) > TOLERANCE:
                found.add((table, method, "average", metric))
    for method, shots in product(methods("table10"), SHOTS):
        row = [value("table10", method, dataset, shots) for dataset in ELEVEN]
        average = value("table10", method, "average", shots)
        if average is not None and abs(average - fmean(row)) > ROUNDING:
            found.add(("table10", method, "average", "accuracy"))
    assert found == marked("B")


@pytest.mark.parametrize("table", ["table11", "table12"])
@pytest.mark.parametrize("method", ["CoOp", "ProGrad"])
def test_some_averages_leave_imagenet_out(table, method):
    for metric in METRICS:
        ten = [value(table, method, dataset, BASE_TO_NEW[table], metric) for dataset in ELEVEN[1:]]
        printed_average = value(table, method, "average", BASE_TO_NEW[table], metric)
        assert fmean(ten) == pytest.approx(printed_average, abs=ROUNDING)


def test_the_average_of_table_3_has_the_source_in_it_and_that_of_table_9_has_not():
    for method in methods("table03"):
        three = [value("table03", method, name, 16) for name in ("imagenet", "imagenetv2", "imagenet_sketch")]
        assert fmean(three) == pytest.approx(value("table03", method, "average", 16), abs=ROUNDING)
    for method in methods("table09"):
        ten = [value("table09", method, dataset, 16) for dataset in ELEVEN[1:]]
        assert fmean(ten) == pytest.approx(value("table09", method, "average", 16), abs=ROUNDING)


def test_hm_of_average_rows_elsewhere_is_the_hm_of_the_averages():
    for table, shots in (("table04", 16), ("table05", 16), ("table07", None)):
        for method in methods(table):
            if not method.endswith("gain"):
                base, new, hm = (value(table, method, "average", shots, metric) for metric in METRICS)
                assert hm == pytest.approx(_harmonic(base, new), abs=TOLERANCE)


def test_one_quantity_in_two_tables_is_the_same_number_but_where_noted():
    for method, shots in product(methods("table02"), SHOTS):
        if printed("table10").get(method, shots=shots).value is not None:
            assert value("table10", method, "average", shots) == value("table02", method, "average", shots)
    for method, metric in product(methods("table07"), METRICS):
        assert value("table07", method, metric=metric) == value("table01", method, "average", 16, metric)
    for shots in (1, 4, 16):
        full = value("table06", "projection_bias+kd+layernorm", "average", shots)
        assert full == value("table02", "CLIPFit", "average", shots)
    differ = {
        ("table04", method, "average", metric)
        for method, metric in product(("CoOp", "KgCoOp", "CLIPAdapter"), METRICS)
        if value("table04", method, "average", 16, metric) != value("table01", method, "average", 16, metric)
    }
    assert differ == {cell for cell in marked("C2") if cell[0] == "table04"}


def test_imagenet_with_16_shots_differs_between_tables_where_noted():
    differ = set()
    for method in methods("table10"):
        cells = {
            table: printed(table).get(method, "imagenet", 16) for table in ("table03", "table09", "table10")
        }
        if len({cell.value for cell in cells.values() if cell}) > 1:
            differ.add(method)
    assert differ == {method for letter in ("C3", "C4", "C5") for _, method, *_ in marked(letter)}


def test_gains_of_table_4_are_differences_of_its_rows():
    for method, metric in product(("CoOp", "KgCoOp", "CLIPAdapter"), METRICS):
        with_ul, without = (
            value("table04", name, shots=16, metric=metric) for name in (f"{method} +UL", method)
        )
        assert value("table04", f"{method} gain", shots=16, metric=metric) == pytest.approx(with_ul - without)


def test_ablation_gains_of_the_text_are_differences_of_table_6():
    added = {
        "kd": "projection_bias+kd",
        "ln": "projection_bias+layernorm",
        "both": "projection_bias+kd+layernorm",
    }
    for (name, configuration), shots in product(added.items(), (1, 4, 16)):
        gain = value("table06", configuration, shots=shots) - value("table06", "projection_bias", shots=shots)
        assert value("text_numbers", f"abl_{name}_{shots}") == pytest.approx(gain)


# Notes ----------------------------------------------------------------------------------------------


def test_every_letter_is_explained_and_every_cell_it_names_is_printed():
    explained = (FOLDER / "NOTES.md").read_text(encoding="utf-8")
    with open(FOLDER / "notes.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            heading = rf"^\| {row['ref']} \|" if row["ref"] != "F" else "^### F"
            assert re.search(heading, explained, re.MULTILINE), row
            shots = int(row["shots"]) if row["shots"] else None
            for method, metric in product(row["methods"].split(), row["metrics"].split()):
                assert (method, row["dataset"], shots, metric) in printed(row["table"]).cells, row


def test_a_note_begins_with_its_letters_and_says_more_than_these():
    cells = [
        cell for table in (*BASE_TO_NEW, "table10") for cell in printed(table).cells.values() if cell.note
    ]
    lettered = [cell for cell in cells if re.match(r"[A-F]\d*(, [A-F]\d*)*: .{20}", cell.note)]
    assert len(lettered) >= len(marked("A")) + len(marked("B"))
    assert not [cell for cell in cells if re.fullmatch(r"[A-F]\d*(, [A-F]\d*)*", cell.note)]


def _harmonic(base, new):
    return 2 * base * new / (base + new)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"method,dataset\n", "has no column accuracy or value"),
        (b"method,value,shots\nCLIPFit,1,x\n", "line 2: shots is 'x', no number"),
        (b"method,value\nCLIPFit\n", "line 2 has not as many values"),
        (b"method,value\nCLIPFit,1,2\n", "line 2 has not as many values"),
        (b"method,value\n\xff,1\n", "is no CSV in UTF-8"),
        (b'method,value\n"CLIPFit,1\n', "is no CSV in UTF-8"),
    ],
)
def test_a_damaged_csv_is_told_with_its_line(content, message, tmp_path):
    (tmp_path / "table1.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"table1\.csv,? {message}"):
        read_print(tmp_path, "table1")
