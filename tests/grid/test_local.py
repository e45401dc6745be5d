"""Real runs in warm processes: equal bits, whatever happens to a process."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grid import scheduler
from grid.executors import local
from grid.executors.local import LocalExecutor
from grid.failures import Failure
from grid.plan import plan
from grid.spec import Spec
from launch.resolve import PROJECT

EPOCHS = 8


@pytest.fixture(scope="session")
def alone(tmp_path_factory, demo_root):
    """Folder of a run by a fresh ``python train.py``: the truth for one that was disturbed."""
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(local, "HEARTBEAT", 0.02)


@pytest.fixture
def undisturbed(alone, short_runs):
    """The run of a seed, by a fresh ``python train.py``; once per session."""

    def undisturbed(seed):
        (planned,) = short_runs(alone, [seed], EPOCHS)
        if planned.state != "done":
            subprocess.run([sys.executable, *planned.command[1:]], check=True, capture_output=True)
        return planned.folder

    return undisturbed


def steps(planned) -> int:
    """Training steps that the run has recorded so far."""
    path = planned.folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


@pytest.mark.slow
def test_a_run_in_a_used_process_equals_one_in_a_fresh_process(
    tmp_path, demo_root, short_runs, undisturbed, progress, equal_bits
):
    """The runs before it differ in method, data, threads, kernels, and one ends in an error."""
    common = ("THREADS", "2", "DETERMINISTIC", "True", "DATALOADER.NUM_WORKERS", "2")
    diverging = ("OPTIM.MAX_EPOCH", "4", "OPTIM.LR", "1e30", "OPTIM.WARMUP_EPOCH", "0")
    first = Spec("CoOp", "few_shot", "demo_signs", 1, 5, pairs=(*common, "OPTIM.MAX_EPOCH", "1"))
    broken = Spec("CLIPFit", "few_shot", "demo_signs", 1, 5, pairs=(*common, *diverging))
    before = plan([(first, ()), (broken, ())], tmp_path, str(demo_root))
    (last,) = short_runs(tmp_path, [1], EPOCHS)
    summary = scheduler.run([*before.values(), last], LocalExecutor(jobs=1), progress)
    assert (summary.done, summary.failed) == ([before[first], last], [before[broken]])
    equal_bits(last.folder, undisturbed(1))

    failure = Failure.read(tmp_path, before[broken].name)
    assert "the loss is nan" in failure.error and any("FloatingPointError" in line for line in failure.log)
    assert not torch_is_deterministic_in(last.folder)


def torch_is_deterministic_in(folder: Path) -> bool:
    return '"deterministic": true' in (folder / "environment.json").read_text()


@pytest.mark.slow
def test_the_run_of_a_killed_process_goes_on_in_another(
    tmp_path, short_runs, undisturbed, progress, equal_bits
):
    (planned,) = short_runs(tmp_path, [1], EPOCHS)
    executor = LocalExecutor(jobs=1)
    killed = []

    def show(counts):
        if not killed and steps(planned) > 2:
            killed.append(executor._slots[0].process.pid)
            os.kill(killed[0], signal.SIGKILL)

    progress.show = show
    summary = scheduler.run([planned], executor, progress)
    assert summary.done == [planned] and killed
    assert "killed by SIGKILL; out of memory?" in progress.said[0]
    assert "epochs are done" in (planned.folder / "log.txt").read_text()  # it did not begin anew
    equal_bits(planned.folder, undisturbed(1))


GRID = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
from grid import scheduler
from grid.executors.local import LocalExecutor
from grid.plan import plan
from grid.display import Display
from grid.spec import Spec
spec = Spec("CLIPFit", "few_shot", "demo_garden", 1, 1, pairs=tuple(sys.argv[3:]))
planned = plan([(spec, ())], sys.argv[1], sys.argv[2])
executor = LocalExecutor(jobs=1)
summary = scheduler.run(planned.values(), executor, Display())
print(executor._slots[0].process.pid, summary.interrupted, len(summary.done), planned[spec].state)
"""


@pytest.mark.slow
def test_ctrl_c_ends_every_process_and_the_grid_goes_on_later(
    tmp_path, demo_root, short_runs, undisturbed, progress, equal_bits
):
    (planned,) = short_runs(tmp_path, [1], EPOCHS)
    grid = subprocess.Popen(
        [sys.executable, "-c", GRID, str(tmp_path), str(demo_root), *planned.spec.pairs],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while steps(planned) <= 2:
        assert grid.poll() is None
    os.killpg(grid.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    pid, *told = grid.communicate()[0].split()
    assert told == ["True", "0", "unfinished"]
    with pytest.raises(ProcessLookupError):
        os.killpg(int(pid), 0)

    planned.refresh()
    assert scheduler.run([planned], LocalExecutor(jobs=1), progress).done == [planned]
    equal_bits(planned.folder, undisturbed(1))


def test_a_worker_ends_with_its_parent(tmp_path):
    code = (
        "import subprocess, sys; worker = subprocess.Popen([sys.executable, '-m', 'grid.worker'], "
        "stdin=subprocess.PIPE, start_new_session=True); print(worker.pid, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    worker = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    with os.fdopen(worker):
        assert select.select([worker], [], [], 60)[0]  # a pidfd is readable once the process has ended
