"""train.py and the scripts from the outside: protocols, folders, messages."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import train
from dassl.utils import close_logger, load_checkpoint

PROJECT = Path(__file__).parent.parent
FAST = ["OPTIM.MAX_EPOCH", "3", "VERBOSE", "False"]


def folder(kind, trainer, variant=""):
    found = list(Path("output/base2new", kind, "demo/shots_16", trainer).glob(f"*{variant}/seed1"))
    assert len(found) == 1, found
    return found[0]


def test_base_to_new_trains_tests_and_finds_its_own_model(run_train, result, capsys):
    for trainer in ("ZeroshotCLIP", "CLIPFit"):
        base = ["--trainer", trainer, "--protocol", "base2new", "--seed", 1]
        assert run_train(*base, *FAST) is None
        assert run_train(*base, "--eval-only", *FAST) is None

    zero_shot, clipfit = (result(folder("train_base", name)) for name in ("ZeroshotCLIP", "CLIPFit"))
    new = result(folder("test_new", "CLIPFit"))
    assert zero_shot["trainable_params"] == 0 and clipfit["trainable_params"] == 12 * 64 + 26 * 128
    assert clipfit["accuracy"] > zero_shot["accuracy"] > 15  # ten classes
    assert (clipfit["subsample_classes"], new["subsample_classes"]) == ("base", "new")
    assert new["model_dir"] == str(folder("train_base", "CLIPFit")) and new["epoch"] == 3
    assert new["model_digest"] == clipfit["config_digest"] != new["config_digest"]
    assert new["protocol"] == "base2new" and new["dataset_file"] == "demo"

    run = folder("train_base", "CLIPFit")
    names = {"config.yaml", "environment.json", "fewshot.json", "log.txt", "metrics.jsonl", "prompt_learner"}
    names |= {"predictions.jsonl", "starts.jsonl"}
    assert names | {"result.json", "tensorboard"} <= {path.name for path in run.iterdir()}
    assert f"accuracy: {clipfit['accuracy']:.2f}%" in (run / "log.txt").read_text()

    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    capsys.readouterr()
    assert run_train("--trainer", "CLIPFit", "--protocol", "base2new", "--seed", 1, *FAST) is None
    assert f"* accuracy: {clipfit['accuracy']:.2f}%" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_test_without_its_training_run_prints_the_command_that_makes_it(run_train):
    message = run_train("--trainer", "CLIPFit", "--protocol", "base2new", "--seed", 1, "--eval-only")
    assert "is not there or not finished; train it with" in message
    command = message.splitlines()[-1]
    assert "python train.py" in command and "--eval-only" not in command and "--protocol base2new" in command


@pytest.mark.slow
def test_transfer_protocols_load_the_sources_model_and_name_the_command_that_makes_it(run_train, result):
    shift = ["--trainer", "CLIPFit", "--protocol", "domain_shift", "--seed", 1, "--eval-only", *FAST]
    message = run_train(*shift, dataset="demo_v2")
    command = shlex.split(message.splitlines()[-1])
    assert command[command.index("--protocol") + 1] == "few_shot" and "demo.yaml" in message
    train.main(command[2:])
    close_logger()
    assert run_train(*shift, dataset="demo_v2") is None

    cross = ["--trainer", "CLIPFit", "--protocol", "cross_dataset", "--seed", 1]
    assert run_train(*cross, *FAST) is None
    assert run_train(*cross, "--eval-only", *FAST, dataset="demo_signs") is None
    tests = {
        path.parts[1]: result(path.parent) for path in Path("output").rglob("test/*/*/*/*/*/result.json")
    }
    assert tests["domain_shift"]["model_dir"].startswith("output/few_shot/demo/")
    assert tests["cross_dataset"]["model_dir"].startswith("output/cross_dataset/train/demo/")
    assert tests["cross_dataset"]["num_classes"] == 12 and tests["domain_shift"]["num_classes"] == 20


def test_an_epoch_that_was_not_saved_is_named_with_those_that_were(run_train):
    base = ["--trainer", "CLIPFit", "--protocol", "base2new", "--seed", 1]
    run_train(*base, *FAST)
    message = run_train(*base, "--eval-only", "--load-epoch", 7, *FAST)
    assert "no checkpoint of epoch 7" in message and "saved: 3" in message


def test_another_config_in_a_given_folder_is_refused(run_train):
    base = ["--trainer", "ZeroshotCLIP", "--seed", 1, "--output-dir", "mine"]
    assert run_train(*base) is None
    message = run_train(*base, "DATALOADER.TEST.BATCH_SIZE", 7)
    assert (
        "finished run of another experiment" in message
        and "DATALOADER.TEST.BATCH_SIZE: 100 there, 7 now" in message
    )


def test_no_train_builds_everything_and_leaves_no_trace(run_train, tmp_path):
    assert run_train("--trainer", "CLIPFit", "--seed", 1, "--no-train") is None
    assert not (tmp_path / "output").exists()


def test_errors_end_in_one_line_and_the_traceback_goes_to_the_log(run_train, tmp_path):
    dtd = ["--trainer", "ZeroshotCLIP", "--seed", 1, "--root", tmp_path / "nowhere", "--backbone", "demo"]
    message = run_train(*dtd, "--output-dir", "out", dataset="dtd")
    assert (
        message.startswith("error: ") and "nowhere/dtd does not exist" in message and "DATASETS.md" in message
    )
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()
    run_train(*dtd, "--output-dir", "there", dataset="dtd")
    assert "Traceback" in (tmp_path / "there/log.txt").read_text()
    (tmp_path / "hostile.pt").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    message = run_train("--trainer", "ZeroshotCLIP", "--seed", 1, "--backbone", tmp_path / "hostile.pt")
    assert "hostile.pt" in message and not (tmp_path / "pwned").exists()


def test_a_plugins_bare_error_says_whose_it_is_and_what_was_asked(run_train, tmp_path, monkeypatch):
    from trainers.clipfit import CLIPFit

    models = {"ViT-B/16": 1}
    monkeypatch.setattr(CLIPFit, "setup", lambda self: models["ViT-B/99"])
    message = run_train("--trainer", "CLIPFit", "--seed", 1, "--output-dir", "run")
    place = r"KeyError in tests/test_train.py, line \d+, called by trainers/base.py, line \d+"
    assert re.fullmatch(rf"error: {place} \(trainer CLIPFit\): a lookup of 'ViT-B/99' failed", message)
    assert "KeyError: 'ViT-B/99'" in (tmp_path / "run/log.txt").read_text()


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(run_train, result, monkeypatch, capsys):
    from trainers.clipfit import CLIPFit

    words = ["--trainer", "CLIPFit", "--seed", 1, "--output-dir", "run", "TRAIN.CHECKPOINT_FREQ", 1, *FAST]
    with monkeypatch.context() as patch:
        original = CLIPFit.before_epoch
        patch.setattr(
            CLIPFit, "before_epoch", lambda self: original(self) if self.epoch < 2 else _press_ctrl_c()
        )
        assert run_train(*words) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().out
    assert run_train(*words) is None
    assert "2 epochs are done" in capsys.readouterr().out and result("run")["epoch"] == 3


def _press_ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_signal_to_the_whole_group_stops_train_py_and_the_same_command_goes_on(demo_root, tmp_path, result):
    def command(folder):
        words = ["--trainer", "CLIPFit", "--seed", "1", "--shots", "2", "--root", str(demo_root)]
        words += ["--dataset-config-file", "configs/datasets/demo_garden.yaml", "--output-dir", folder, *FAST]
        words += ["DATALOADER.TRAIN_X.BATCH_SIZE", "4", "DATALOADER.NUM_WORKERS", "2", "TEST.NO_TEST", "True"]
        return [sys.executable, "train.py", *words]

    undisturbed, stopped = (str(tmp_path / name) for name in ("undisturbed", "stopped"))
    subprocess.run(command(undisturbed), cwd=PROJECT, check=True, capture_output=True)
    steps = Path(stopped, "metrics.jsonl")
    run = subprocess.Popen(
        command(stopped), cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (steps.is_file() and steps.read_bytes().count(b"\n") >= 2):
        assert run.poll() is None
    os.killpg(run.pid, signal.SIGTERM)
    printed = run.communicate()[0]
    assert run.returncode == 143
    words = printed.splitlines()[-1]
    assert re.fullmatch(r"SIGTERM: stopped after step \d+ of epoch \d; the same command goes on there", words)
    assert words in Path(stopped, "log.txt").read_text()
    subprocess.run(command(stopped), cwd=PROJECT, check=True, capture_output=True)
    assert steps.read_bytes() == Path(undisturbed, "metrics.jsonl").read_bytes()
    states = [
        load_checkpoint(Path(folder, "prompt_learner/model.pth.tar-3")) for folder in (undisturbed, stopped)
    ]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_resume_alone_goes_on_in_that_folder(run_train, result, monkeypatch):
    from trainers.clipfit import CLIPFit

    words = ["TRAIN.CHECKPOINT_FREQ", 1, *FAST]
    with monkeypatch.context() as patch:
        patch.setattr(CLIPFit, "before_epoch", lambda self: self.epoch < 2 or _press_ctrl_c())
        run_train("--trainer", "CLIPFit", "--seed", 1, "--output-dir", "mine", *words)
    assert run_train("--trainer", "CLIPFit", "--seed", 1, "--resume", "mine", *words) is None
    assert result("mine")["epoch"] == 3
    message = run_train("--trainer", "CLIPFit", "--seed", 1, "--resume", "mine", "OPTIM.LR", 1, *words)
    assert "OPTIM.LR: 0.002 there, 1 now" in message or "OPTIM.LR: 0.002 there, 1.0 now" in message


def test_a_hostile_checkpoint_is_refused_and_runs_nothing(run_train, tmp_path):
    folder = tmp_path / "evil/prompt_learner"
    folder.mkdir(parents=True)
    (folder / "model.pth.tar-1").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    message = run_train("--trainer", "CLIPFit", "--seed", 1, "--eval-only", "--model-dir", "evil")
    assert "model.pth.tar-1" in message and not (tmp_path / "pwned").exists()


def test_precision_and_threads_are_settled_before_the_trainer_is_built(run_train, tmp_path):
    before = torch.get_num_threads()
    try:
        run_train(
            "--trainer", "CLIPFit", "--seed", 1, "--output-dir", "run", "THREADS", 2, "OPTIM.MAX_EPOCH", 1
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["TRAINER"]["CLIPFIT"]["PREC"] == ("amp" if torch.cuda.is_available() else "fp32")
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["threads"] == 2
    assert environment["kernels"] == {
        "tf32": {"convolution": False, "matrix product": False},
        "attention": {"flash": True, "memory efficient": True, "cudnn": False, "math": True},
    }


def test_a_corrupt_image_is_named(tmp_path, monkeypatch):
    for name in ("banded", "dotted"):
        folder = tmp_path / "dtd/images" / name
        folder.mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (48, 48), (20 * number, 0, 0)).save(folder / f"{name}_{number}.jpg")
    for path in (tmp_path / "dtd/images/dotted").iterdir():
        path.write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    words = ["--trainer", "ZeroshotCLIP", "--backbone", "demo", "--seed", "1", "--root", str(tmp_path)]
    words += ["--dataset-config-file", str(PROJECT / "configs/datasets/dtd.yaml"), "--output-dir", "out"]
    with pytest.raises(SystemExit) as stop:
        train.main(words)
    close_logger()
    assert re.search(r"dotted_\d.jpg cannot be read as an image", stop.value.code)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, config", [("clipfit", "configs/ablations/bias_d.yaml"), ("clipfit", ""), ("zsclip", "")]
)
def test_the_scripts_run_unedited_from_anywhere(method, config, demo_root, tmp_path, result):
    script = PROJECT / "scripts" / method
    environment = {
        **os.environ,
        "VIRTUAL_ENV": sys.prefix,  # an active environment: the one that runs the tests
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATA": str(demo_root),
        "CONFIG": config,
        "EXTRA": f"OPTIM.MAX_EPOCH 1 OUTPUT_DIR {tmp_path}/run",
    }
    done = subprocess.run(
        ["bash", script / "base2new_train.sh", "demo", "2"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    record = result(tmp_path / "run")
    assert record["trainer"] == {"clipfit": "CLIPFit", "zsclip": "ZeroshotCLIP"}[method]
    assert record["seed"] == 2
    biases, norms = 12 * 64, 26 * 2 * 64  # of the embedded CLIP
    assert record["trainable_params"] == (0 if method == "zsclip" else biases if config else biases + norms)

    usage = subprocess.run(["bash", script / "base2new_train.sh"], capture_output=True, text=True)
    assert usage.returncode == 2 and "<data set> <seed>" in usage.stderr and "demo" in usage.stderr
