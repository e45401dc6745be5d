"""How cells read."""

import pytest

from report.formats.cells import best_cells, blocks, heading, number, p_value, read, short_name, signed, tally
from report.model import Cell, Head, Printed, Score, Table


def one_cell(cell, column=None, seeds=(1, 2, 3)):
    """The reading of a table's only cell, and the table's footnotes."""
    column = column or Head("HM")
    view = read(Table("table1", "A table", (Head("CLIPFit"),), (column,), {(0, 0): cell}, seeds=seeds))
    return view.readings[0, 0], view.footnotes


def test_ours_print_and_difference():
    reading, notes = one_cell(Cell(Score(83.836, 0.2149, (1, 2, 3)), Printed("83.72")))
    assert (reading.mean, reading.sd, reading.printed, reading.difference) == (
        "83.84",
        "0.21",
        "83.72",
        "+0.12",
    )
    assert notes == ()


@pytest.mark.parametrize(
    "mean, sd, verdict",
    [(80.5, 0.0, "agrees"), (80.75, 0.25, "differs"), (80.75, 0.375, "agrees"), (79.0, None, "differs")],
)
def test_the_band_is_half_a_point_or_two_standard_deviations(mean, sd, verdict):
    reading, _ = one_cell(Cell(Score(mean, sd, (1, 2, 3)), Printed("80.00")))
    assert reading.verdict == verdict


def test_the_band_says_nothing_about_times_and_counts():
    time, _ = one_cell(Cell(Score(0.5, 0.0, (1, 2, 3)), Printed("0.44")), Head("Time", unit="ms"))
    count, _ = one_cell(
        Cell(Score(46080, 0.0, (1, 2, 3)), Printed("44000")), Head("Parameters", unit="params")
    )
    assert (time.verdict, time.difference) == ("", "+0.06")
    assert (count.verdict, count.mean, count.sd, count.printed) == ("", "46,080", "", "44,000")
    assert count.difference == "+2,080"


@pytest.mark.parametrize(
    "text, shown, difference", [("44k", "44k", "+2,080"), ("2048", "2,048", "+44,032"), ("?", "?", "")]
)
def test_the_print_of_a_count_is_shown_as_printed(text, shown, difference):
    reading, _ = one_cell(Cell(Score(46080, 0.0), Printed(text)), Head("Parameters", unit="params"))
    assert (reading.printed, reading.difference) == (shown, difference)


def test_a_single_seed_has_no_deviation():
    reading, notes = one_cell(Cell(Score(83.8, None, (1,)), Printed("83.72")), seeds=(1,))
    assert (reading.mean, reading.sd, notes) == ("83.80", "", ())


def test_missing_seeds_are_told():
    _, notes = one_cell(Cell(Score(83.8, 0.1, (1, 3), "seed 2 failed")))
    assert notes == ("2 of 3 seeds (1, 3): seed 2 failed",)


@pytest.mark.parametrize("reason", ["not run", "data missing"])
def test_a_short_reason_stands_in_the_empty_cell(reason):
    reading, notes = one_cell(Cell(Score(reason=reason), Printed("83.72")))
    assert (reading.absence, reading.printed, reading.difference, notes) == (reason, "83.72", "", ())


def test_a_long_reason_is_a_footnote():
    reading, notes = one_cell(Cell(Score(reason="seed 2 diverged after 3 epochs")))
    assert (reading.absence, reading.notes) == ("–", (1,))
    assert notes == ("seed 2 diverged after 3 epochs",)


def test_no_cell_is_left_without_a_word():
    view = read(Table("table1", "A table", (Head("CoOp"),), (Head("Base"), Head("New")), {(0, 0): Cell()}))
    assert [view.readings[0, c].absence for c in (0, 1)] == ["no number", "not defined"]


def test_a_doubtful_print_is_marked_and_explained():
    reading, notes = one_cell(Cell(Score(73.5, 0.1, (1, 2, 3)), Printed("68.87", "hm implies 73.60")))
    assert reading.doubt == "!" and reading.printed_notes == (1,)
    assert notes == ("print: hm implies 73.60",)


def test_help_is_told():
    _, notes = one_cell(Cell(Score(73.5, 0.1, (1, 2, 3)), help=("val search", "prompt ensemble")))
    assert notes == ("used beside the training images: val search, prompt ensemble",)


def test_equal_footnotes_are_one():
    cell = Cell(Score(reason="data/dtd is not there"))
    view = read(
        Table("t", "A table", (Head("CoOp"),), (Head("Base"), Head("New")), {(0, 0): cell, (0, 1): cell})
    )
    assert view.footnotes == ("data/dtd is not there",)
    assert view.readings[0, 0].notes == view.readings[0, 1].notes == (1,)


def scores(rows, columns, means, **more):
    cells = {(r, c): Cell(Score(m, 0.1)) for r, line in enumerate(means) for c, m in enumerate(line) if m}
    return Table("t", "A table", rows, columns, cells, **more)


def test_best_among_columns_with_ties_as_displayed():
    table = scores((Head("HM"),), tuple(map(Head, "abc")), [[70.0, 80.001, 80.004]], best_among="columns")
    assert best_cells(table) == {(0, 1), (0, 2)}


def test_best_among_the_rows_of_a_group():
    rows = (
        Head("CoOp", "1 shot"),
        Head("CLIPFit", "1 shot"),
        Head("CoOp", "2 shots"),
        Head("CLIPFit", "2 shots"),
    )
    table = scores(rows, (Head("DTD"),), [[40.0], [50.0], [70.0], [60.0]], best_among="rows")
    assert best_cells(table) == {(1, 0), (2, 0)}


def test_best_is_least_where_less_is_better(efficiency_table):
    assert best_cells(efficiency_table) == {(0, 0), (0, 1), (1, 2)}


def test_a_lone_number_is_not_best():
    table = scores((Head("HM"),), tuple(map(Head, "abc")), [[None, 80.0, None]], best_among="columns")
    assert best_cells(table) == set()


def test_tally(table):
    assert [*vars(tally(read(table))).values()] == [8, 6, 5, 3]  # cells, filled, judged, agreeing


def test_an_embedded_table_has_its_own_key(table, embedded_table):
    assert (read(table).key, read(embedded_table).key) == ("table1", "table1-embedded")


def test_numbers():
    assert number(1234.567, "MB") == "1,235"
    assert (signed(0.004), signed(-0.004), signed(-1.5)) == ("+0.00", "+0.00", "−1.50")
    assert (p_value(0.00049), p_value(0.0117), p_value(None)) == ("< 0.001", "0.012", "–")


def test_names():
    assert short_name("table07", "Efficiency") == "Table 7"
    assert short_name("figure11a", "Gradient") == "Figure 11a"
    assert short_name("layers", "Which layers need to move, few-shot") == "Which layers need to move"
    assert heading("layers", "Which layers need to move, few-shot") == "Which layers need to move, few-shot"
    assert heading("table7", "Efficiency") == "Table 7: Efficiency"


def test_blocks_are_nearly_equal():
    assert blocks(12, 2) == [list(range(6)), list(range(6, 12))]
    assert sorted(len(block) for block in blocks(11, 3)) == [3, 4, 4]
    assert sum(blocks(11, 3), []) == list(range(11))
