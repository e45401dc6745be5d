"""One run on two processes (torchrun, gloo): its numbers, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from plugins import draw_images
from safetensors.torch import load_file

from launch.registered import methods

PROJECT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
IMAGES, BATCH = 40, 13  # of two shots; in each epoch a batch of one picture is left, which two ranks share
SETTINGS = ("DATASET.NUM_SHOTS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", BATCH, "OPTIM.MAX_EPOCH", 1)
LONG = ("DATASET.NUM_SHOTS", 16, "DATALOADER.TRAIN_X.BATCH_SIZE", 12, "OPTIM.MAX_EPOCH", 3)
LONG += ("TRAIN.CHECKPOINT_FREQ", 1)
STEPS = 26  # of an epoch of such a run
OWN = {
    "CoCoOp": ("DATALOADER.TRAIN_X.BATCH_SIZE", 2),
    "ProLIP": ("TRAINER.PROLIP.VIEWS", 3, "DATALOADER.TEST.BATCH_SIZE", BATCH),
    "TipAdapter": ("TRAINER.TIPADAPTER.AUGMENT_EPOCH", 2, "DATALOADER.TEST.BATCH_SIZE", BATCH),
}
PLUGINS = ("Linear", "TwoLinear", "AmpLinear")
TRAIN_NOTHING = ("ZeroshotCLIP", "ZeroshotCLIP2")
SCORES = ("accuracy", "macro_f1", "error_rate")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def words_of_run(demo_root):
    """A command line of train.py without its first words."""

    def words(folder, method, *more):
        config = PROJECT / "configs/datasets/demo.yaml"
        flags = ("--root", demo_root, "--dataset-config-file", config, "--seed", 1, "--output-dir", folder)
        return list(map(str, ["--trainer", method, *flags, *SETTINGS, *more]))

    return words


@pytest.fixture
def start(words_of_run):
    """Start train.py on so many ranks."""

    def _start(ranks, *words):
        launcher = [sys.executable] if ranks == 1 else [*TORCHRUN, str(ranks)]
        return begin([*launcher, "train.py", *words_of_run(*words)])

    return _start


@pytest.fixture(scope="module")
def runs(words_of_run, tmp_path_factory):
    """Folders of the same runs of all methods and some plugins, by the number of processes."""
    folders = {}
    for ranks in (1, 2):
        folder = folders[ranks] = tmp_path_factory.mktemp(f"ranks{ranks}")
        left = ("DATALOADER.TRAIN_X.DROP_LAST", False)
        todo = [words_of_run(folder / method, method, *left, *OWN.get(method, ())) for method in methods()]
        for trainer in PLUGINS:
            draw_images(folder / trainer / "data")
            plugin = {"folder": str(folder / trainer), "trainer": trainer, "OPTIM__LR": 0.1}
            loader = {"DATALOADER__TRAIN_X__BATCH_SIZE": 3, "DATALOADER__TRAIN_X__DROP_LAST": False}
            todo.append({**plugin, **loader})
        Path(folder, "runs.json").write_text(json.dumps(todo))
        launcher = [sys.executable] if ranks == 1 else [*TORCHRUN, str(ranks)]
        done(begin([*launcher, "-m", "tests.many_runs", folder / "runs.json"]))
    return folders


def begin(words, **variables):
    """Start a program in the project, with environment variables."""
    environment = os.environ | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(list(map(str, words)), text=True, cwd=PROJECT, env=environment, **pipes)


def done(process, status=0):
    """The output of a process that shall end with a status."""
    output, _ = process.communicate(timeout=150)
    assert process.returncode == status, output[-3000:]
    return output


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_near(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one == pytest.approx(other, abs=1e-5, rel=1e-5)


def wait_for_steps(folder, process, steps=5):
    """Wait until a run has done some steps."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if (folder / "metrics.jsonl").is_file() and len(metrics(folder)) > steps:
            return
        time.sleep(0.05)
    pytest.fail("the run has not begun")


def rank_1_of(torchrun):
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    return next(
        int(child) for child in children if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes()
    )


# Numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", methods())
def test_two_ranks_equal_one_process(runs, result, method):
    one, two = (result(runs[ranks] / method) for ranks in (1, 2))
    assert (one["ranks"], two["ranks"]) == (1, 2)
    differs = {"ranks", "seconds_train", "seconds_test", "peak_memory_mb", *SCORES}
    assert one.keys() == two.keys()
    assert not [key for key in one.keys() - differs if one[key] != two[key]]
    for score in SCORES:
        assert one[score] == pytest.approx(two[score], abs=1e-5)
    pictures = [[line["image"] for line in predictions(runs[ranks] / method)] for ranks in (1, 2)]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 600
    for before, after in zip(*(predictions(runs[ranks] / method) for ranks in (1, 2)), strict=True):
        assert before["p"][0] == pytest.approx(after["p"][0], abs=1e-4)
    if method not in TRAIN_NOTHING:
        assert_near(*(metrics(runs[ranks] / method) for ranks in (1, 2)))
        tensors = [load_file(runs[ranks] / method / "fit/model.safetensors") for ranks in (1, 2)]
        assert tensors[0].keys() == tensors[1].keys()
        for name, tensor in tensors[0].items():
            torch.testing.assert_close(tensors[1][name], tensor, atol=1e-4, rtol=1e-4)


def predictions(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()[1:]]


def test_a_last_batch_with_fewer_pictures_than_ranks_counts_as_in_one_process(runs):
    steps = [metrics(runs[ranks] / "CLIPFit") for ranks in (1, 2)]
    assert len(steps[0]) == IMAGES // BATCH + 1 and IMAGES % BATCH == 1
    assert_near([steps[0][-1]], [steps[1][-1]])


@pytest.mark.parametrize("plugin", ["Linear", "TwoLinear"])
def test_a_plugin_written_for_dassl_shares_the_batch_unchanged(runs, result, plugin):
    one, two = (runs[ranks] / plugin / "run" for ranks in (1, 2))
    assert_near(metrics(one), metrics(two))
    assert len(metrics(two)) == 3 * 4  # batches of 3, 3, 3 and 1 picture
    assert result(one)["accuracy"] == pytest.approx(result(two)["accuracy"], abs=1e-5)
    for path in one.glob("*/model.pth.tar-3"):
        states = [torch.load(file)["state_dict"] for file in (path, two / path.relative_to(one))]
        assert states[0].keys() == states[1].keys()
        for name, tensor in states[0].items():
            torch.testing.assert_close(states[1][name], tensor, atol=1e-6, rtol=1e-5)


def test_a_plugin_that_takes_its_loss_back_by_itself_is_refused(runs):
    assert (runs[1] / "AmpLinear/run/result.json").is_file()
    words = (runs[2] / "AmpLinear/run/error.txt").read_text()
    assert "AmpLinear takes its loss back by itself" in words and "model_backward_and_update" in words
    assert not (runs[2] / "AmpLinear/run/result.json").exists()


def test_a_batch_smaller_than_the_ranks_is_refused_with_the_number_that_fits(start, tmp_path):
    output = done(start(2, tmp_path / "run", "CoOp", "DATALOADER.TRAIN_X.BATCH_SIZE", 1), status=1)
    assert output.count("error: DATALOADER.TRAIN_X.BATCH_SIZE is 1") == 1
    assert "--nproc-per-node 1" in output


# Ends -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start_ranks(words_of_run):
    """Start the two ranks of a run, as torchrun does, which hides their exit statuses."""

    def _start(*words):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        command = [sys.executable, "train.py", *words_of_run(*words)]
        return [begin(command, **place, RANK=rank, LOCAL_RANK=rank) for rank in "01"]

    return _start


@pytest.fixture(scope="module")
def undisturbed(start_ranks, tmp_path_factory):
    """The folder of a run of two ranks that nothing has stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for process in start_ranks(folder, "CLIPFit", *LONG):
        done(process)
    assert len(metrics(folder)) == 3 * STEPS
    return folder


def test_ranks_that_a_signal_stops_in_an_epoch_go_on_to_the_same_numbers(start_ranks, undisturbed, tmp_path):
    folder = tmp_path / "run"
    processes = start_ranks(folder, "CLIPFit", *LONG)
    wait_for_steps(folder, processes[0], 2)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    outputs = [done(process, status=143) for process in processes]
    stopped = len(metrics(folder))
    assert f"SIGTERM: stopped after step {stopped} of epoch 1" in outputs[0] and stopped < STEPS
    assert not outputs[1].strip()
    assert (folder / "resume.pt").is_file()
    for process in start_ranks(folder, "CLIPFit", *LONG):
        done(process)
    assert metrics(folder) == metrics(undisturbed)  # in every bit


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_rank_ends_the_run_and_one_process_goes_on_with_it(start, undisturbed, result, tmp_path):
    folder = tmp_path / "run"
    process = start(2, folder, "CLIPFit", *LONG)
    wait_for_steps(folder, process, STEPS + 2)
    os.kill(rank_1_of(process), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "rank 1 has ended" in output and "the same command resumes it" in output
    assert len(metrics(folder)) < 3 * STEPS
    output = done(start(1, folder, "CLIPFit", *LONG))
    assert "Resuming from" in output and result(folder)["starts"] == 2
    assert_near(metrics(folder), metrics(undisturbed))
