"""Damaged and hostile files of every kind: refused with words that name the file, or rightly accepted.

`python -m tests.fuzz` prints the counts; a failing test says how to try its input again.
"""

import pytest

from tests.fuzz.kinds import KINDS
from tests.fuzz.running import OUTCOMES, counts


@pytest.mark.parametrize("part", ["a tenth", pytest.param("the rest", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_with_words_or_rightly_accepted(kind, part, record_property):
    table, faults = counts([kind], tenth=part == "a tenth")
    for what in OUTCOMES:
        record_property(what, table[kind][what])
    assert not faults, "\n".join(map(str, faults))


def test_there_are_two_thousand_inputs():
    assert sum(kind.inputs for kind in KINDS.values()) >= 2_000
