"""What a run leaves behind: files that tables and other people's programs read, and errors on loading."""

import errno
import json
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from plugins import Linear, make_cfg

from dassl.config.identity import config_digest, differences
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.run_files import StepLog, peak_memory_mb, reset_peak_memory
from dassl.run_folder import read_config, write_config
from dassl.utils import list_digest, load_checkpoint


def read(cfg, name):
    return json.loads(Path(cfg.OUTPUT_DIR, name).read_text())


def test_metrics_hold_every_step_with_the_rate_it_used(folder, build):
    cfg = make_cfg(folder)
    trainer = build(cfg)
    seen = []
    original = trainer.forward_backward

    def forward_backward(batch):
        summary = original(batch)
        seen.append(summary)
        return summary

    trainer.forward_backward = forward_backward
    trainer.train()
    steps = [json.loads(line) for line in Path(cfg.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines()]
    assert [(s["epoch"], s["batch"]) for s in steps] == [(e, b) for e in (1, 2, 3) for b in (1, 2)]
    assert [s["lr"] for s in steps] == pytest.approx([1e-5, 1e-5, 2e-3, 2e-3, 1.5e-3, 1.5e-3])
    assert [{"loss": s["loss"], "acc": s["acc"]} for s in steps] == seen


def test_the_result_says_what_was_run_and_what_came_out(folder, build):
    cfg = make_cfg(folder, DATASET__NUM_SHOTS=2, RUN__PROTOCOL="few_shot", RUN__DATASET_FILE="redblue")
    trainer = build(cfg)
    trainer.train()
    result = read(cfg, "result.json")
    right = sum(trainer.evaluator._y_true[i] == trainer.evaluator._y_pred[i] for i in range(6))
    assert result["accuracy"] == 100 * right / 6 and result["correct"] == right and result["total"] == 6
    assert result["error_rate"] == pytest.approx(100 - result["accuracy"])
    expected = {
        **{"protocol": "few_shot", "dataset_file": "redblue", "dataset": "RedBlue", "trainer": "Linear"},
        **{"trainer_version": 1},
        **{"seed": 1, "shots": 2, "subsample_classes": "all", "split": "test", "num_classes": 2},
        **{"trainable_params": 2 * 192 + 2, "epoch": 3, "max_epoch": 3, "train_images": 4},
        **{
            "model_dir": None,
            "model_digest": None,
            "load_epoch": None,
            "extras": [],
            "template": None,
            "precision": None,
        },
        **{"budget_steps": None, "inference": "unified", "tuned_for_backbone": None, "inputs": None},
        **{"ranks": 1, "starts": 1},
        "config_digest": config_digest(cfg),
    }
    assert {key: result[key] for key in expected} == expected
    assert result["seconds_train"] > 0 and result["seconds_test"] > 0 and result["peak_memory_mb"] > 0


def test_a_process_with_many_runs_measures_the_memory_of_each():
    cpu = torch.device("cpu")
    large = mmap.mmap(-1, 100 * 2**20)  # of the system, whatever an allocator keeps for later
    for page in range(0, len(large), mmap.PAGESIZE):
        large[page] = 1
    with_it = peak_memory_mb(cpu)
    large.close()
    reset_peak_memory(cpu)
    assert peak_memory_mb(cpu) < with_it - 90


def test_the_few_shot_record_lists_the_images_trained_on(folder, build):
    cfg = make_cfg(folder, DATASET__NUM_SHOTS=2)
    trainer = build(cfg)
    trainer.train()
    record = read(cfg, "fewshot.json")
    assert record["images"] == [Path(item.impath).name for item in trainer.dm.dataset.train_x]
    assert record["digest"] == list_digest(record["images"])
    environment = read(cfg, "environment.json")
    assert environment["lists"]["train_x"] == {"images": 4, "digest": record["digest"]}
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]


def test_what_a_plugin_returns_is_recorded(folder, build):
    class OwnWays(Linear):
        def forward_backward(self, batch):
            return {
                "loss": np.float32(super().forward_backward(batch)["loss"]),
                "none_of_ours": torch.tensor(2),
            }

        def after_epoch(self):
            pass

        def test(self, split=None):
            return 12.5

    TRAINER_REGISTRY.register(OwnWays, force=True)
    cfg = make_cfg(folder, "OwnWays")
    build(cfg).train()
    steps = Path(cfg.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines()
    assert len(steps) == 6 and json.loads(steps[-1])["none_of_ours"] == 2
    result = read(cfg, "result.json")
    assert (result["accuracy"], result["total"], result["epoch"]) == (12.5, None, 3)


def test_the_epoch_to_load_is_the_best_one_else_the_newest(folder, build):
    cfg = make_cfg(folder)
    trainer = build(cfg)
    trainer.train()
    assert trainer.epoch_to_load(cfg.OUTPUT_DIR) == 3 and trainer.epoch_to_load(cfg.OUTPUT_DIR, 1) == 1
    os.replace(f"{cfg.OUTPUT_DIR}/linear/model.pth.tar-3", f"{cfg.OUTPUT_DIR}/linear/model-best.pth.tar")
    assert trainer.epoch_to_load(cfg.OUTPUT_DIR) is None  # which the family's load_model takes for the best


@pytest.mark.parametrize(
    "content", [[1], {"epoch": 1}, {"state_dict": {"weight": 5}, "epoch": 1}, {"state_dict": {}}]
)
def test_a_file_that_is_no_checkpoint_is_named(content, folder, build):
    cfg = make_cfg(folder)
    path = Path(cfg.OUTPUT_DIR, "linear/model.pth.tar-1")
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    with pytest.raises(ValueError, match="model.pth.tar-1 is no checkpoint of a training run"):
        build(cfg).load_model(cfg.OUTPUT_DIR, epoch=1)


def test_loading_takes_the_best_model_else_the_newest_and_names_the_saved_epochs(folder, build):
    cfg = make_cfg(folder, TRAIN__CHECKPOINT_FREQ=1)
    build(cfg).train()
    trainer = build(cfg)
    trainer.load_model(cfg.OUTPUT_DIR)
    newest = load_checkpoint(Path(cfg.OUTPUT_DIR, "linear/model.pth.tar-3"))["state_dict"]
    assert torch.equal(trainer.model.weight, newest["weight"])

    os.replace(f"{cfg.OUTPUT_DIR}/linear/model.pth.tar-1", f"{cfg.OUTPUT_DIR}/linear/model-best.pth.tar")
    trainer.load_model(cfg.OUTPUT_DIR)
    assert trainer.result()["epoch"] == 1
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of epoch 100 in .* \(saved: 2, 3\)"):
        trainer.load_model(cfg.OUTPUT_DIR, epoch=100)


def test_a_full_disk_while_saving_loses_nothing_that_was_saved(folder, build, monkeypatch):
    cfg = make_cfg(folder, TRAIN__CHECKPOINT_FREQ=1)
    trainer = build(cfg)
    trainer.resume_interval = 1e9

    real_fsync = os.fsync

    def full_in_epoch_2(descriptor):
        if trainer.epoch == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_in_epoch_2)
    with pytest.raises(OSError, match="No space left"):
        trainer.train()
    monkeypatch.undo()

    assert load_checkpoint(Path(cfg.OUTPUT_DIR, "linear/model.pth.tar-1"))["epoch"] == 1
    assert not list(Path(cfg.OUTPUT_DIR).rglob("*.tmp"))
    resumed = build(cfg)
    resumed.train()
    assert resumed.start_epoch == 1 and read(cfg, "result.json")["epoch"] == 3


def test_the_written_config_is_read_back_as_the_same_experiment(folder):
    cfg = make_cfg(folder)
    write_config(folder, cfg, command="python train.py --seed 1")
    assert (folder / "config.yaml").read_text().startswith("# python train.py --seed 1\n")
    assert differences(read_config(folder), cfg) == {}

    moved = make_cfg(folder, OUTPUT_DIR="/elsewhere", DATASET__ROOT="/data", DATALOADER__NUM_WORKERS=3)
    assert config_digest(moved) == config_digest(cfg)
    changed = make_cfg(folder, OPTIM__LR=0.1)
    assert differences(read_config(folder), changed) == {"OPTIM.LR": (0.002, 0.1)}
    assert config_digest(changed) != config_digest(cfg)


@pytest.mark.parametrize(
    "damaged",
    [
        "\0" * 40,
        '{"epoch": 1',
        "[1]",
        '{"epoch": "1", "batch": 2}',
        '{"batch": 2}',
        '{"epoch": 1, "\udcff": 1}',
    ],
)
def test_a_damaged_line_of_metrics_is_named_with_file_line_and_cure(damaged, tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"epoch": 1, "batch": 1}\n'
    path.write_text(whole + damaged + "\n" + whole, errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is damaged .*restore the file, .*--redo"):
        StepLog(path).keep(1, 0)
    assert path.read_bytes() == before


def test_a_line_that_a_killed_process_cut_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "batch": 1}\n' + "\0" * 40)
    StepLog(path).keep(1, 0)
    assert path.read_text() == '{"epoch": 1, "batch": 1}\n'


def test_a_full_disk_names_the_metrics():
    log = StepLog("/dev/full")
    with pytest.raises(OSError, match=r"cannot save /dev/full \(No space left.*make room"):
        log.append({"epoch": 1})
    log.close()
