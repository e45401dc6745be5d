"""SIGTERM and SIGUSR1 end a training between two steps; the same command goes on there in the same bits."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from plugins import Linear, make_cfg
from stopping import LONG_EPOCHS, assert_same_run, run, send, signal_in

from dassl.data import DatasetWrapper
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.resume import read_resume_point
from dassl.run_folder import RECORD_FILES
from dassl.utils import stop_signals
from dassl.utils.stop_signals import STATUS, Stopped, obeyed

WORKER = Path(__file__).with_name("kill_worker.py")
pytestmark = pytest.mark.usefixtures("handlers_are_restored")


@TRAINER_REGISTRY.register()
class Accumulating(Linear):
    """Steps once for every two batches: gradients add up in between."""

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        loss = torch.nn.functional.cross_entropy(self.model(image.flatten(1)), label)
        loss.backward()
        if self.batch_idx % 2:
            self.optim.step()
            self.optim.zero_grad()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss}


@TRAINER_REGISTRY.register()
class FromScratch(Linear):
    """Sets its tensors before a training from scratch, and draws random numbers before every training."""

    def before_train(self):
        super().before_train()
        torch.rand(3)
        if self.start_epoch == 0:
            self.model.weight.data.zero_()

    def forward_backward(self, batch):
        batch["img"] = batch["img"] + 0.1 * torch.randn_like(batch["img"])
        return super().forward_backward(batch)


@pytest.mark.parametrize(
    "trainer", ["TwoLinear", "Overflowing", "Averaging", "Accumulating", "FromScratch", "AmpLinear"]
)
def test_a_stopped_run_goes_on_in_the_middle_of_the_epoch_in_the_same_bits(trainer, folder, build):
    undisturbed, stopped = (
        make_cfg(folder, trainer, OUTPUT_DIR=f"{folder}/{name}", **LONG_EPOCHS)
        for name in ("undisturbed", "stopped")
    )
    scalars, averages = [], []

    def built(cfg, written):
        made = build(cfg)
        made.write_scalar = lambda *scalar: written.append(scalar)
        return made

    assert run(built(undisturbed, scalars)) is None
    places = ["after step 1 of epoch 1", "after step 4 of epoch 2", "after step 5 of epoch 2"]
    for moment, place in zip((1, 8, 1), places, strict=True):
        made = built(stopped, averages)
        signal_in(made, "forward_backward", moment)
        assert run(made) == f"SIGTERM: stopped {place}; the same command goes on there"
    assert run(built(stopped, averages)) is None
    assert averages == scalars
    assert_same_run(undisturbed.OUTPUT_DIR, stopped.OUTPUT_DIR)
    assert not Path(stopped.OUTPUT_DIR, "resume.pt").exists()


@pytest.mark.slow
def test_a_run_stopped_fifty_times_with_its_workers_ends_in_the_same_bits(folder):
    worker = subprocess.run(
        [sys.executable, str(WORKER), "--stop", "50", str(folder), "Averaging"],
        capture_output=True,
        text=True,
    )
    assert worker.returncode == 0, worker.stderr
    assert_same_run(folder / "undisturbed", folder / "stopped")
    assert worker.stdout.count("of epoch") >= 45  # stopped behind a step, and not before training


def test_what_a_killed_run_did_behind_its_point_is_cut_off(folder, build):
    """Stopped in the middle of an epoch, started again, killed two steps later."""
    undisturbed, stopped = (
        make_cfg(folder, OUTPUT_DIR=f"{folder}/{name}", **LONG_EPOCHS) for name in ("undisturbed", "stopped")
    )
    run(build(undisturbed))
    made = build(stopped)
    signal_in(made, "forward_backward", 7)
    run(made)
    killed = build(stopped)
    original = killed.forward_backward

    def forward_backward(batch):
        if killed.batch_idx == 4:
            raise KeyboardInterrupt
        return original(batch)

    killed.forward_backward = forward_backward
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    assert len(Path(stopped.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines()) == 9
    run(build(stopped))
    for name in ("metrics.jsonl", *RECORD_FILES.values()):
        files = [Path(cfg.OUTPUT_DIR, name).read_bytes() for cfg in (undisturbed, stopped)]
        assert files[0] == files[1], name


def test_a_stopped_run_goes_on_in_another_folder_too(folder, build):
    """Stopped in its first epoch: there is no finished epoch, but a past."""
    undisturbed, first = (
        make_cfg(folder, OUTPUT_DIR=f"{folder}/{name}", **LONG_EPOCHS) for name in ("undisturbed", "first")
    )
    run(build(undisturbed))
    made = build(first)
    signal_in(made, "forward_backward", 2)
    run(made)
    second = make_cfg(folder, OUTPUT_DIR=f"{folder}/second", RESUME=first.OUTPUT_DIR, **LONG_EPOCHS)
    assert run(build(second)) is None
    for name in ("metrics.jsonl", *RECORD_FILES.values()):
        files = [Path(cfg.OUTPUT_DIR, name).read_bytes() for cfg in (undisturbed, second)]
        assert files[0] == files[1], name


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_were_trained_on_are_not_loaded_again(workers, folder, build, monkeypatch):
    cfg = make_cfg(folder, OPTIM__MAX_EPOCH=1, DATALOADER__NUM_WORKERS=workers, **LONG_EPOCHS)
    reading, log = DatasetWrapper._read, folder / "read"

    def read(self, path):
        with open(log, "a") as file:  # workers are other processes
            file.write(f"{self.is_train} {path}\n")
        return reading(self, path)

    monkeypatch.setattr(DatasetWrapper, "_read", read)
    made = build(cfg)
    signal_in(made, "forward_backward", 3)
    run(made)
    if workers:
        made.train_loader_x._iterator._shutdown_workers()  # collected as garbage, they take ten seconds
    log.unlink()
    run(build(cfg))
    assert len([line for line in log.read_text().splitlines() if line.startswith("True")]) == 4


def test_the_point_holds_what_the_run_read(folder, build):
    cfg = make_cfg(folder, **LONG_EPOCHS)
    made = build(cfg)
    made.inputs = {"backbone": "ab12", "model": None}
    signal_in(made, "forward_backward", 2, signal.SIGUSR1)
    assert run(made).startswith("SIGUSR1: stopped after step 2 of epoch 1")
    point = read_resume_point(build(cfg), cfg.OUTPUT_DIR)
    assert point["inputs"] == {"backbone": "ab12", "model": None} and point["position"]["steps"] == 2


# Where else a signal may come -----------------------------------------------------------------------


def test_a_signal_between_epochs_stops_behind_the_epoch(folder, build):
    cfg = make_cfg(folder)
    made = build(cfg)
    signal_in(made, "after_epoch", 2)
    assert run(made) == "SIGTERM: stopped after epoch 2; the same command goes on there"
    again = build(cfg)
    assert run(again) is None and again.start_epoch == 2


@pytest.mark.parametrize(
    "settings, moment, then",
    [
        ({"TEST__FINAL_MODEL": "best_val"}, 2, "goes on after epoch 1"),  # validation of epoch 2
        ({}, 1, "goes on after epoch 3"),  # the final test
    ],
)
def test_a_signal_in_a_test_ends_the_run_at_once(settings, moment, then, folder, build):
    cfg = make_cfg(folder, **settings)
    made = build(cfg)
    made.resume_interval = 0.0
    signal_in(made, "model_inference", moment)
    assert run(made) == f"SIGTERM: stopped; the same command {then}"
    assert not Path(cfg.OUTPUT_DIR, "result.json").exists()
    again = build(cfg)
    assert run(again) is None and again.start_epoch == int(then[-1])


def test_a_signal_before_training_ends_the_run_at_once(folder, build):
    made = build(make_cfg(folder))
    signal_in(made, "before_train", 1)
    assert run(made) == "SIGTERM: stopped; the same command goes on from what is saved"


def test_an_error_that_the_signal_led_to_is_no_error():
    with pytest.raises(Stopped, match="143"), obeyed(), stop_signals.deferred():
        send()
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated")


def test_a_second_signal_ends_at_once_but_one_that_comes_twice_is_one(monkeypatch):
    """`timeout` and SLURM send theirs to a process and to its group."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(Stopped), obeyed(), stop_signals.deferred():
        send()
        send()
        assert stop_signals.requested() == "SIGTERM" and not ended
        monkeypatch.setattr(stop_signals, "ONE_SIGNAL", -1.0)
        send(signal.SIGUSR1)
        assert ended == [STATUS]
    assert signal.getsignal(signal.SIGTERM) is stop_signals._take  # until the process has ended


def test_a_run_that_ends_by_itself_gives_the_handlers_back():
    before = [signal.getsignal(number) for number in stop_signals.SIGNALS]
    with obeyed():
        assert signal.getsignal(signal.SIGTERM) is stop_signals._take
    with pytest.raises(ValueError), obeyed():
        raise ValueError
    assert [signal.getsignal(number) for number in stop_signals.SIGNALS] == before


def test_outside_the_main_thread_no_handler_is_set():
    found, before = [], signal.getsignal(signal.SIGTERM)

    def main():
        with obeyed():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    assert found == [before]


def test_loader_workers_ignore_the_signals_but_not_their_parent(folder, build):
    loader = build(make_cfg(folder, DATALOADER__NUM_WORKERS=2)).train_loader_x
    batches = iter(loader)
    workers = loader._iterator._workers
    for name in ("TERM", "USR1"):
        subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
    assert len(list(batches)) == len(loader) == len(list(loader))
    assert all(worker.is_alive() for worker in workers)
    workers[0].terminate()
    workers[0].join()
    assert workers[0].exitcode == 0


# Plugins that override the loop's hooks -------------------------------------------------------------


def own_epochs(calls_super: bool):
    """A trainer whose ``run_epoch`` and ``after_epoch`` are its own, as in files of CoOp's family."""

    class OwnEpochs(Linear):
        def run_epoch(self):
            self.set_model_mode("train")
            self.num_batches = len(self.train_loader_x)
            for self.batch_idx, batch in enumerate(self.train_loader_x):
                self.forward_backward(batch)

        def after_epoch(self):
            if calls_super:
                super().after_epoch()
            self.model.bias.data.mul_(0.5)  # belongs to the epoch, wherever its point is written

    TRAINER_REGISTRY.register(OwnEpochs, force=True)
    return "OwnEpochs"


@pytest.mark.parametrize("calls_super", [False, True])
def test_a_plugin_with_its_own_hooks_loses_neither_checkpoints_nor_points_nor_records(
    calls_super, folder, build, monkeypatch
):
    name = own_epochs(calls_super)
    settings = LONG_EPOCHS | {"TRAIN__CHECKPOINT_FREQ": 1, "OPTIM__MAX_EPOCH": 4}
    undisturbed, stopped = (
        make_cfg(folder, name, OUTPUT_DIR=f"{folder}/{place}", **settings)
        for place in ("undisturbed", "stopped")
    )
    validations = []
    original = Linear.test

    def test(self, split=None):
        validations.append(split)
        return original(self, split)

    monkeypatch.setattr(Linear, "test", test)
    assert run(build(undisturbed)) is None
    assert validations == ["val"] * 4 + [None]
    saved = sorted(path.name for path in Path(undisturbed.OUTPUT_DIR, "linear").iterdir())
    numbered = [f"model.pth.tar-{epoch}" for epoch in (1, 2, 3, 4)]
    assert saved == ["checkpoint", "model-best.pth.tar", *numbered]
    steps = list(map(json.loads, Path(undisturbed.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines()))
    assert [(s["epoch"], s["batch"]) for s in steps] == [(e, b) for e in (1, 2, 3, 4) for b in range(1, 6)]
    assert set(steps[0]) == {"epoch", "batch", "lr", "loss", "acc"}

    made = build(stopped)
    signal_in(made, "forward_backward", 13)
    where = "in epoch 3, which the trainer runs by itself"
    assert run(made) == f"SIGTERM: stopped {where}; the same command goes on after epoch 2"
    assert run(build(stopped)) is None
    assert_same_run(undisturbed.OUTPUT_DIR, stopped.OUTPUT_DIR)


def test_a_plugin_may_choose_its_best_model_itself(folder, build):
    class OwnChoice(Linear):
        def after_epoch(self):
            self.save_model(self.epoch, self.output_dir, model_name="model-best.pth.tar")

        def test(self, split=None):
            assert split != "val"
            return super().test(split)

    TRAINER_REGISTRY.register(OwnChoice, force=True)
    cfg = make_cfg(folder, "OwnChoice", TEST__FINAL_MODEL="best_val")
    assert run(build(cfg)) is None
    assert json.loads(Path(cfg.OUTPUT_DIR, "result.json").read_text())["epoch"] == 3


def test_a_plugin_without_any_of_the_engines_hooks_has_records_and_a_result(folder, build):
    class Alone(Linear):
        def before_train(self):
            pass

        def after_epoch(self):
            pass

        def after_train(self):
            self.final_test()
            self.save_result()

    TRAINER_REGISTRY.register(Alone, force=True)
    cfg = make_cfg(folder, "Alone", **LONG_EPOCHS)
    made = build(cfg)
    signal_in(made, "forward_backward", 8)
    assert run(made) == "SIGTERM: stopped after step 3 of epoch 2; the same command goes on there"
    assert run(build(cfg)) is None
    assert len(Path(cfg.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines()) == 15
    assert Path(cfg.OUTPUT_DIR, "linear/model.pth.tar-3").is_file()


def test_a_point_within_an_epoch_is_refused_by_a_plugin_that_runs_its_own(folder, build):
    cfg = make_cfg(folder, **LONG_EPOCHS)
    made = build(cfg)
    signal_in(made, "forward_backward", 2)
    run(made)
    with pytest.raises(ValueError, match="stands in the middle of an epoch.*delete that file"):
        build(make_cfg(folder, own_epochs(False), **LONG_EPOCHS)).train()


def test_a_trainer_may_train_again_after_an_interrupt(folder, build):
    """As in a notebook: what the first training did behind its last point is repeated."""
    cfg = make_cfg(folder, **LONG_EPOCHS)
    trainer = build(cfg)
    trainer.resume_interval = 0.0
    before_epoch = trainer.before_epoch

    def interrupt():
        trainer.before_epoch = before_epoch
        raise KeyboardInterrupt

    trainer.before_epoch = interrupt
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    assert len(Path(cfg.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines()) == 15
    assert "forward_backward" not in trainer.__dict__
