"""One run on two processes (torchrun, gloo): its numbers, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dassl.engine import TRAINER_REGISTRY
from launch.registered import methods

PROJECT = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
SETTINGS = ("DATASET.NUM_SHOTS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 7, "OPTIM.MAX_EPOCH", 1)
pytestmark = pytest.mark.slow


@pytest.fixture
def start(demo_root):
    """Start train.py on so many ranks."""

    def _start(ranks, folder, method, *words):
        launcher = [sys.executable] if ranks == 1 else [*TORCHRUN, str(ranks)]
        config = PROJECT / "configs/datasets/demo.yaml"
        flags = ("--root", demo_root, "--dataset-config-file", config, "--seed", 1, "--output-dir", folder)
        command = [*launcher, PROJECT / "train.py", "--trainer", method, *flags, *SETTINGS, *words]
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PROJECT
        )

    return _start


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def wait_for_steps(folder, process):
    """Wait until a run has done some steps."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if (folder / "metrics.jsonl").is_file() and len(metrics(folder)) > 5:
            return
        time.sleep(0.1)
    pytest.fail("the run has not begun")


def rank_1_of(torchrun):
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    return next(
        int(child) for child in children if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes()
    )


def test_two_ranks_equal_one_process(start, result, tmp_path):
    for method in methods():
        batch = ("DATALOADER.TRAIN_X.BATCH_SIZE", 2) if method == "CoCoOp" else ()
        folders = {ranks: tmp_path / f"{method}{ranks}" for ranks in (1, 2)}
        for ranks, folder in folders.items():
            process = start(ranks, folder, method, *batch)
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, f"{method}: {output[-2000:]}"
        one, two = (result(folder) for folder in folders.values())
        assert (one["ranks"], two["ranks"]) == (1, 2)
        assert one["config_digest"] == two["config_digest"]
        assert one["accuracy"] == pytest.approx(two["accuracy"], abs=1e-5), method
        if TRAINER_REGISTRY.get(method).trains:
            for a, b in zip(*map(metrics, folders.values()), strict=True):
                assert a == pytest.approx(b, abs=1e-5, rel=1e-5), method


def test_a_batch_smaller_than_the_ranks_is_refused_with_the_number_that_fits(start, tmp_path):
    process = start(2, tmp_path / "run", "CoOp", "DATALOADER.TRAIN_X.BATCH_SIZE", 1)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.count("error: DATALOADER.TRAIN_X.BATCH_SIZE is 1") == 1
    assert "--nproc-per-node 1" in output


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_rank_ends_the_run_and_another_number_of_ranks_resumes_it(start, result, tmp_path):
    folder, long = tmp_path / "run", ("OPTIM.MAX_EPOCH", 30)
    process = start(2, folder, "CLIPFit", *long)
    wait_for_steps(folder, process)
    os.kill(rank_1_of(process), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "rank 1 has ended" in output and "the same command resumes it" in output
    process = start(1, folder, "CLIPFit", *long)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-2000:]
    assert len(metrics(folder)) == 30 * 5 and result(folder)["starts"] == 2
