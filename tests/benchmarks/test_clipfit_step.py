"""What the benchmark compares computes the same, in whatever sizes."""

import pytest

from benchmarks import clipfit_step as benchmark

LITTLE = 0.004  # GB: several micro-batches and chunks of the embedded backbone


@pytest.mark.parametrize("words", [[], ["--long"], ["--memory-gb", str(LITTLE)]])
@pytest.mark.parametrize("what", benchmark.PARTS)
def test_a_trainers_step_is_the_plain_step(what, words):
    few = ["--backbone", "demo", "--classes", "6", "--images", "5", "--threads", "1"]
    steps = benchmark.build_steps(what, benchmark.parse_arguments([*few, *words]))
    plain, here = steps["plain"](), steps["here"]()
    assert abs(here["loss"] / plain["loss"] - 1) <= 1e-6
    assert max(benchmark.relative_differences(here, plain).values()) <= 3e-5
