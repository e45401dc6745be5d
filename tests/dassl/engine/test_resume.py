"""A run killed at any moment and started again ends in the same bits as one left alone."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from plugins import make_cfg

from dassl.engine.resume import read_resume_point, restore
from dassl.utils import load_checkpoint, save_checkpoint, save_whole

WORKER = Path(__file__).with_name("kill_worker.py")

MOMENTS = [
    "step:1",  # before anything was saved
    "step:5",  # in the middle of an epoch
    "resume.pt:1",  # the first resume point is written, but not in its place
    "resume.pt:3",  # a later one
    "model.pth.tar-2:1",  # the resume point of epoch 2 is there, its checkpoint is not
    "checkpoint:2",  # the checkpoint is there, its pointer is not
    "model-best.pth.tar:1",  # between validation and saving the best model
    "model.pth.tar-5:1",  # at the end of training
    "result.json:1",  # everything is done but the record of it
]
UNREPEATABLE = {"seconds_train", "seconds_test", "peak_memory_mb", "config_digest", "starts"}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["TwoLinear", "Overflowing", "Averaging"])
def test_killed_and_resumed_runs_end_in_the_same_bits(trainer, folder):
    worker = subprocess.run(
        [sys.executable, str(WORKER), str(folder), trainer, *MOMENTS], capture_output=True, text=True
    )
    assert worker.returncode == 0, worker.stderr
    undisturbed = folder / "undisturbed"
    for moment in MOMENTS:
        resumed = folder / moment.replace(":", "-")
        assert (resumed / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text(), moment
        for file in undisturbed.glob("*/model*.pth.tar*"):
            other = resumed / file.relative_to(undisturbed)
            assert same(load_checkpoint(file), load_checkpoint(other)), (moment, file.name)
        results = [json.loads((run / "result.json").read_text()) for run in (undisturbed, resumed)]
        assert same(*({k: v for k, v in r.items() if k not in UNREPEATABLE} for r in results)), moment
        assert not (resumed / "resume.pt").exists()
        assert results[0]["skipped_steps"] == (3 if trainer == "Overflowing" else 0)


def test_a_run_without_a_gpu_leaves_cuda_alone(folder, build, interrupt, monkeypatch):
    def refuse():
        raise AssertionError("CUDA is initialised")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
    cfg = make_cfg(folder, USE_CUDA=False)
    interrupt(cfg, epoch=2)
    trainer = build(cfg)
    trainer.train()
    assert trainer.start_epoch == 2 and trainer.device.type == "cpu"


def test_the_learning_rate_goes_on_where_it_stopped(folder, build):
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=10)
    trainer = build(cfg)
    trainer.resume_interval = 0.0
    stopped = trainer.before_epoch

    def stop_in_epoch_5():
        if trainer.epoch == 4:
            raise KeyboardInterrupt
        stopped()

    trainer.before_epoch = stop_in_epoch_5
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    build(cfg).train()
    rates = {}
    for line in Path(cfg.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines():
        step = json.loads(line)
        rates[step["epoch"]] = step["lr"]
    cosine = [0.001 * (1 + torch.cos(torch.tensor(torch.pi * (e - 1) / 10))).item() for e in range(1, 10)]
    assert list(rates.values()) == pytest.approx([1e-5, *cosine], rel=1e-6)


def test_an_explicit_resume_needs_a_run_to_resume(folder, build):
    trainer = build(make_cfg(folder, RESUME=f"{folder}/nothing"))
    with pytest.raises(FileNotFoundError, match="--resume .*nothing.*leave --resume out"):
        trainer.train()


@pytest.mark.parametrize("again", [False, True])
def test_a_run_resumed_into_another_folder_takes_its_past_along(again, folder, build, interrupt):
    """Also when it is interrupted there and started again with the same command."""
    settings = {"OPTIM__MAX_EPOCH": 5, "TEST__FINAL_MODEL": "best_val"}
    undisturbed = make_cfg(folder, OUTPUT_DIR=f"{folder}/undisturbed", **settings)
    build(undisturbed).train()

    interrupt(make_cfg(folder, OUTPUT_DIR=f"{folder}/first", **settings), epoch=2)
    second = make_cfg(folder, OUTPUT_DIR=f"{folder}/second", RESUME=f"{folder}/first", **settings)
    if again:
        interrupt(second, epoch=4)
    trainer = build(second)
    trainer.train()
    assert trainer.start_epoch == (4 if again else 2)
    for name in ("metrics.jsonl", "result.json"):
        assert Path(second.OUTPUT_DIR, name).is_file()
    runs = [Path(cfg.OUTPUT_DIR) for cfg in (undisturbed, second)]
    assert (runs[0] / "metrics.jsonl").read_text() == (runs[1] / "metrics.jsonl").read_text()
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    assert (results[0]["epoch"], results[0]["accuracy"]) == (results[1]["epoch"], results[1]["accuracy"])


def test_models_that_stopped_at_different_epochs_are_refused(folder, build):
    cfg = make_cfg(folder, "TwoLinear")
    trainer = build(cfg)
    for name, epoch in (("linear", 2), ("second", 1)):
        state = {"state_dict": trainer._models[name].state_dict(), "epoch": epoch, "optimizer": None}
        save_checkpoint(state, f"{cfg.OUTPUT_DIR}/{name}")
    with pytest.raises(ValueError, match="different epochs"):
        trainer.train()


def test_a_resume_point_of_other_models_is_refused(folder, build):
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=2)
    trainer = build(cfg)
    trainer.save_result = lambda: None  # leaves the resume point where it is
    trainer.train()
    with pytest.raises(ValueError, match="holds the models \\['linear'\\].*delete"):
        build(make_cfg(folder, "TwoLinear")).train()


def test_the_checkpoints_of_an_older_run_are_resumed_without_a_resume_point(folder, build, capsys):
    cfg = make_cfg(folder, TRAIN__CHECKPOINT_FREQ=1)
    build(cfg).train()
    for epoch in (2, 3):
        Path(cfg.OUTPUT_DIR, f"linear/model.pth.tar-{epoch}").unlink()
    capsys.readouterr()
    trainer = build(cfg)
    trainer.train()
    assert trainer.start_epoch == 1 and "Resuming after epoch 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "part, value",
    [
        ("epoch", -1),
        ("epoch", True),
        ("epoch", "3"),
        ("models", []),
        ("random", None),
        ("position", {"steps": -2}),
    ],
)
def test_a_resume_point_that_cannot_be_is_named_with_its_cure(part, value, tmp_path):
    state = {"epoch": 1, "position": None, "models": {}, "optimizers": {}, "schedulers": {}, "random": {}}
    save_whole(state, tmp_path / "resume.pt")
    trainer = SimpleNamespace(_models={})
    assert read_resume_point(trainer, tmp_path)["epoch"] == 1
    save_whole({**state, part: value}, tmp_path / "resume.pt")
    with pytest.raises(ValueError, match=r"resume\.pt is no resume point; delete it to go on"):
        read_resume_point(trainer, tmp_path)


def test_half_a_resume_point_is_named_with_its_cure(tmp_path):
    path = tmp_path / "resume.pt"
    save_whole({"epoch": 1, "models": {"m": {"w": torch.zeros(999)}}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"resume\.pt is not a readable checkpoint .*cut short.*remove it"):
        read_resume_point(SimpleNamespace(_models={}), tmp_path)


def _reshape_model(state):
    state["models"]["linear"]["weight"] = torch.zeros(7, 3)
    return "weight of linear", (7, 3)


def _reshape_optimizer(state):
    state["optimizers"]["linear"]["state"][0]["momentum_buffer"] = torch.zeros(7, 3)
    return "momentum_buffer of parameter 0 in the optimizer of linear", (7, 3)


def _reshape_random(state):
    state["random"]["torch"] = torch.zeros(5, dtype=torch.uint8)
    return "the state of torch's random generator", (5,)


@pytest.mark.parametrize("change", [_reshape_model, _reshape_optimizer, _reshape_random])
def test_a_tensor_of_another_shape_is_named_with_file_shapes_and_cure(folder, build, interrupt, change):
    cfg = make_cfg(folder, TRAIN__CHECKPOINT_FREQ=1)
    interrupt(cfg, epoch=2)
    path = Path(cfg.OUTPUT_DIR, "resume.pt")
    state = load_checkpoint(path)
    key, shape = change(state)
    save_whole(state, path)
    held = {file: file.read_bytes() for file in Path(cfg.OUTPUT_DIR).rglob("*.pt*")}

    with pytest.raises(ValueError) as caught:
        build(cfg).train()
    message = str(caught.value)
    assert message.startswith(f"{path} does not fit this run: {key} has shape {shape} there, (")
    assert "remove that file" in message and "--redo" in message and "\n" not in message
    assert {file: file.read_bytes() for file in held} == held

    path.unlink()
    trainer = build(cfg)
    trainer.train()
    assert trainer.start_epoch == 2


def test_a_resume_point_without_a_tensor_is_named_with_its_cure(folder, build, interrupt):
    cfg = make_cfg(folder)
    interrupt(cfg, epoch=1)
    path = Path(cfg.OUTPUT_DIR, "resume.pt")
    state = load_checkpoint(path)
    del state["models"]["linear"]["weight"]
    save_whole(state, path)
    with pytest.raises(ValueError, match=r'resume\.pt does not fit this run: .*"weight".*remove that file'):
        build(cfg).train()


@pytest.mark.parametrize(
    "wrong",
    [
        {"best_result": "high"},
        {"seconds_train": None},
        {"skipped_steps": ""},
        {"memory_gb": "much"},
        {"optimizers": {"unknown": {}}},
        {"scaler": {"scale": 1.0}},
        {"random": {"python": 1}},
    ],
)
def test_a_part_of_a_resume_point_that_does_not_fit_is_told_with_the_file(wrong, tmp_path):
    parts = ("models", "optimizers", "schedulers")
    state = {**{part: {} for part in parts}, "scaler": None, "best_result": 1.0, "seconds_train": 1.0}
    state |= {"skipped_steps": 0, "plugin": {}, "record": None, "position": None, "random": {}}
    trainer = SimpleNamespace(_models={}, _optims={}, _scheds={}, scaler=None, recorder=None, device=None)
    trainer.load_extra_state = lambda state: None
    with pytest.raises(ValueError, match=r"resume\.pt does not fit this run: .*remove that file"):
        restore(trainer, {**state, **wrong}, tmp_path)
