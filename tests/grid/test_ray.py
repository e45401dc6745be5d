"""A real Ray cluster of two nodes on this machine: one dies in the middle of a grid, and no bit changes."""

import json
import sys

import pytest

ray = pytest.importorskip("ray", reason="Ray is optional: pip install -r requirements-ray.txt")

from grid import scheduler  # noqa: E402
from grid.executors import ray as ray_executor  # noqa: E402
from grid.executors.local import LocalExecutor  # noqa: E402
from grid.executors.ray import RayExecutor, _places  # noqa: E402

SEEDS = range(1, 9)
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
EPOCHS = 24  # long enough that both nodes are at work before the last run begins


@pytest.fixture
def cluster(monkeypatch):
    """One node for one run at a time."""
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(ray_executor, "HEARTBEAT", 0.02)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def at_work(planned) -> bool:
    """Whether the run has begun and most of it is still to do: a dying node may finish what it nearly has."""
    metrics = planned.folder / "metrics.jsonl"
    if not metrics.is_file():
        return False
    lines = metrics.read_text().splitlines()
    return len(lines) > 1 and json.loads(lines[-2])["epoch"] < EPOCHS / 3


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_of_a_grid_changes_no_bit(
    tmp_path, cluster, short_runs, progress, equal_bits
):
    second = cluster.add_node(**NODE)
    runs = short_runs(tmp_path / "ray", SEEDS, EPOCHS)
    killed = []

    def show(counts):
        if not killed and counts.done and sum(map(at_work, runs)) == 2:
            cluster.remove_node(second, allow_graceful=False)
            killed.append(counts)

    progress.show = show
    summary = scheduler.run(runs, RayExecutor(cluster.address), progress)
    assert killed and set(summary.done) == set(runs)
    assert any("lost its machine" in line for line in progress.said), progress.said

    undisturbed = short_runs(tmp_path / "local", SEEDS, EPOCHS)
    assert len(scheduler.run(undisturbed, LocalExecutor(), progress).done) == len(runs)
    for disturbed, other in zip(runs, undisturbed, strict=True):
        equal_bits(disturbed.folder, other.folder)


@pytest.mark.parametrize(
    "cpus, gpus, places",
    [(1, 0, 16), (4, 0, 4), (4, 1, 2), (4, 0.5, 4), (1, 0.1, 16), (1, 4, 0), (32, 0, 0)],
)
def test_a_node_holds_as_many_runs_as_its_scarcest_resource(cpus, gpus, places):
    assert _places({"CPU": 16.0, "GPU": 2.0}, cpus, gpus) == places


def test_without_a_cluster_the_error_says_how_to_begin_one(progress, monkeypatch):
    def refuse(**options):
        raise ConnectionError(f"nobody answers at {options['address']}")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConnectionError, match="no Ray cluster at 'auto'; begin one with `ray start --head`"):
        scheduler.run([], RayExecutor("auto"), progress)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match="pip install -r requirements-ray.txt"):
        RayExecutor()


def test_a_run_on_a_gpu_has_a_process_of_its_own(tmp_path, monkeypatch, short_runs):
    """A CUDA error of one cannot spoil the next."""

    def portable():
        def execute_on_node(*_):
            import os

            return {"error": str(os.getpid()), "out_of_memory": True, "elsewhere": False}

        return execute_on_node

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(ray_executor, "_portable", portable)
    runs = short_runs(tmp_path, [1, 2])
    executor = RayExecutor("local", cpus_per_run=1, gpus_per_run=0.5)
    monkeypatch.setattr(
        ray, "init", lambda init=ray.init, **how: init(num_cpus=1, num_gpus=1, include_dashboard=False, **how)
    )
    errors = []
    try:
        executor.open(runs)
        for planned in runs:
            executor.start(planned)
            while not (outcomes := executor.wait()):
                pass
            errors.append(outcomes[0].error)
    finally:
        executor.close()
    assert len(set(errors)) == len(runs)
    assert all("--gpus-per-run 1" in error for error in errors)
