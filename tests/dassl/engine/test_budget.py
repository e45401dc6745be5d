"""OPTIM.MAX_STEPS: training ends after so many steps, and the schedule is stretched over them."""

import json
import math
from pathlib import Path

import pytest
from plugins import Linear, make_cfg
from stopping import LONG_EPOCHS, assert_same_run, run, signal_in

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint

pytestmark = pytest.mark.usefixtures("handlers_are_restored")

BUDGET = {
    **LONG_EPOCHS,
    "TEST__FINAL_MODEL": "last_step",
    "OPTIM__MAX_STEPS": 13,
    "OPTIM__WARMUP_EPOCH": -1,
}


@TRAINER_REGISTRY.register()
class OwnEpochs(Linear):
    def run_epoch(self):
        self.num_batches = len(self.train_loader_x)
        for self.batch_idx, batch in enumerate(self.train_loader_x):
            self.forward_backward(batch)


def steps_of(folder) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def test_training_ends_where_the_budget_ends(folder, build):
    build(make_cfg(folder, **BUDGET)).train()
    steps = steps_of(folder / "run")
    assert [(step["epoch"], step["batch"]) for step in steps] == [
        (1 + n // 5, 1 + n % 5)
        for n in range(13)  # five steps an epoch
    ]
    result = json.loads((folder / "run/result.json").read_text())
    assert (result["budget_steps"], result["max_epoch"], result["epoch"]) == (13, 3, 3)
    assert (folder / "run/linear/model.pth.tar-3").is_file()


def test_the_schedule_goes_from_step_to_step_over_the_whole_budget(folder, build):
    cfg = make_cfg(folder, **BUDGET)
    build(cfg).train()
    expected = [cfg.OPTIM.LR * (1 + math.cos(math.pi * n / 13)) / 2 for n in range(13)]
    assert [step["lr"] for step in steps_of(folder / "run")] == pytest.approx(expected, rel=1e-12)


def test_warm_up_and_milestones_keep_their_share_of_the_budget(folder, build):
    settings = {**BUDGET, "OPTIM__LR_SCHEDULER": "multi_step", "OPTIM__STEPSIZE": (2,)}
    settings |= {"OPTIM__MAX_EPOCH": 4, "OPTIM__MAX_STEPS": 8, "OPTIM__WARMUP_EPOCH": 1}  # an epoch: 2 steps
    cfg = make_cfg(folder, **settings, OPTIM__WARMUP_TYPE="constant", OPTIM__WARMUP_CONS_LR=1e-5)
    build(cfg).train()
    full = cfg.OPTIM.LR  # the schedule counts from the end of the warm-up, so its milestone is at epoch 3
    expected = [1e-5] * 2 + [full] * 4 + [full / 10] * 2
    assert [step["lr"] for step in steps_of(folder / "run")] == pytest.approx(expected, rel=1e-12)


def test_a_budget_below_one_epoch_is_kept_too(folder, build):
    build(make_cfg(folder, **{**BUDGET, "OPTIM__MAX_STEPS": 2})).train()
    assert len(steps_of(folder / "run")) == 2


@pytest.mark.parametrize("moment", [3, 5, 12, 13])
def test_a_stopped_run_with_a_budget_ends_in_the_same_bits(moment, folder, build):
    undisturbed = make_cfg(folder, OUTPUT_DIR=f"{folder}/undisturbed", **BUDGET)
    run(build(undisturbed))
    cfg = make_cfg(folder, **BUDGET)
    stopped = build(cfg)
    signal_in(stopped, "forward_backward", moment)
    assert "step" in run(stopped)
    assert run(build(cfg)) is None
    assert_same_run(folder / "undisturbed", folder / "run")


def test_a_trainer_that_runs_its_own_epochs_refuses_a_budget(folder, build):
    with pytest.raises(ValueError, match="OPTIM.MAX_STEPS is 13, and OwnEpochs runs its epochs by itself"):
        build(make_cfg(folder, "OwnEpochs", **BUDGET)).train()


def test_without_a_budget_nothing_changes(folder, build):
    cfg = make_cfg(folder, **LONG_EPOCHS)
    build(cfg).train()
    steps = steps_of(folder / "run")
    assert len(steps) == 5 * cfg.OPTIM.MAX_EPOCH
    assert json.loads((folder / "run/result.json").read_text())["budget_steps"] is None
    point = load_checkpoint(folder / f"run/linear/model.pth.tar-{cfg.OPTIM.MAX_EPOCH}")
    assert point["scheduler"]["last_epoch"] == cfg.OPTIM.MAX_EPOCH
