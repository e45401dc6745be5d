"""What is kept of a failed run."""

import json

import pytest

from grid.failures import Failure

GOOD = {"command": ["python"], "error": "it broke", "log": ["a", "b"]}


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        1,
        {},
        {**GOOD, "more": 1},
        {**GOOD, "log": "a"},
        {**GOOD, "error": 1},
        {**GOOD, "command": [1]},
    ],
)
def test_a_record_of_another_version_is_told_with_its_file(content, tmp_path):
    path = Failure.path(tmp_path, "seed1")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"seed1\.json is no record of a failed run.*remove it"):
        Failure.read(tmp_path, "seed1")
    path.write_text(json.dumps(GOOD))
    assert Failure.read(tmp_path, "seed1") == Failure(**GOOD)
