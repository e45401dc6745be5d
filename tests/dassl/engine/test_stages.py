"""A training in stages: what trains when and at which rate; a stop in or between stages changes nothing."""

import json
import math
from pathlib import Path

import pytest
import torch
from plugins import SIZE, Linear, make_cfg
from stopping import LONG_EPOCHS, assert_same_run, run, signal_in
from torch import nn
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY
from dassl.engine.stages import Stages, TrainingStage
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint

pytestmark = pytest.mark.usefixtures("handlers_are_restored")

FIRST, SECOND = 7, 6  # steps; an epoch has five
BUDGET = {
    **LONG_EPOCHS,
    "TEST__FINAL_MODEL": "last_step",
    "OPTIM__MAX_STEPS": FIRST + SECOND,
    "OPTIM__WARMUP_EPOCH": -1,
    "OPTIM__LR_MIN": 1e-5,
}


class TwoLayers(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.below, self.above = nn.Linear(3 * SIZE * SIZE, 4), nn.Linear(4, classes)
        self.register_buffer("stage", torch.tensor(0))

    def forward(self, images):
        return self.above(self.below(images.flatten(1)))


@TRAINER_REGISTRY.register()
class LayerByLayer(Linear):
    """SGD on the lower layer, then Adam at a higher rate on the upper one, which starts from zero."""

    lengths = FIRST, SECOND

    def build_model(self):
        self.model = TwoLayers(self.num_classes).to(self.device)
        parts = (("below", self.model.below, "sgd", 0.01), ("above", self.model.above, "adam", 0.1))
        plan = [self.stage(*part, steps) for part, steps in zip(parts, self.lengths, strict=True)]
        self.stages = Stages(plan, self.begin_stage)
        self.begun = []
        self.register_model("linear", self.model, self.stages.optimizer, self.stages.schedule)

    def stage(self, name, layer, optimizer, lr, steps):
        cfg = self.cfg.OPTIM.clone()
        cfg.defrost()
        cfg.update({"NAME": optimizer, "LR": lr, "MAX_STEPS": max(steps, 1)})
        parameters = {f"{name}.{key}": one for key, one in layer.named_parameters()}
        optim = build_optimizer(list(parameters.values()), cfg)
        return TrainingStage(parameters, steps, optim, build_lr_scheduler(optim, cfg))

    def begin_stage(self, number):
        self.begun.append(number)
        self.model.stage.fill_(number)
        nn.init.zeros_(self.model.above.weight)

    def before_train(self):
        super().before_train()
        self.stages.go_on()

    def load_model_state(self, name, state):
        super().load_model_state(name, state)
        self.stages.enter(int(self.model.stage))

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def model_inference(self, input):
        return self.model(input)


@TRAINER_REGISTRY.register()
class ScaledLayerByLayer(LayerByLayer):
    """The same with a gradient scaler, which skips steps; one of them is the last of its stage."""

    def build_model(self):
        super().build_model()
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)

    def model_backward(self, loss):
        overflows = (self.epoch, self.batch_idx) in ((0, 1), (1, 1), (2, 0))
        self.scaler.scale(loss * float("inf") if overflows else loss).backward()

    def model_update(self, names=None):
        self.scaler.step(self.stages.optimizer)
        self.scaler.update()


def steps_of(folder) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def test_each_stage_moves_its_own_parameters_at_its_own_rate(folder, build):
    trainer = build(make_cfg(folder, "LayerByLayer", **BUDGET))
    states, original = [], trainer.forward_backward

    def recording(batch):
        states.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
        return original(batch)

    trainer.forward_backward = recording
    trainer.train()
    states.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
    for step in range(FIRST + SECOND):
        layer = "below" if step < FIRST else "above"
        before, after = states[step], states[step + 1]
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        if step == FIRST - 1:  # behind it the second stage has begun
            assert not after["above.weight"].any() and moved >= {"below.weight"}
        else:
            assert {name.partition(".")[0] for name in moved} == {layer}
    assert trainer.begun == [1]
    cosines = [(lr, n / steps) for lr, steps in ((0.01, FIRST), (0.1, SECOND)) for n in range(steps)]
    expected = [1e-5 + (lr - 1e-5) * (1 + math.cos(math.pi * done)) / 2 for lr, done in cosines]
    assert [step["lr"] for step in steps_of(folder / "run")] == pytest.approx(expected, rel=1e-12)


def test_records_hold_what_trains_in_any_stage(folder, build):
    build(make_cfg(folder, "LayerByLayer", **BUDGET)).train()
    names, *lines = [json.loads(line) for line in (folder / "run/gradient.jsonl").read_text().splitlines()]
    assert [name.rpartition("/")[2] for name in names["names"]] == [
        *("below.weight", "below.bias", "above.weight", "above.bias")
    ]
    nonzero = [[value > 0 for value in line["values"]] for line in lines]
    assert nonzero[:FIRST] == [[True, True, False, False]] * FIRST
    assert all(row[:2] == [False, False] and row[3] for row in nonzero[FIRST:])


@pytest.mark.parametrize("trainer", ["LayerByLayer", "ScaledLayerByLayer"])
@pytest.mark.parametrize("moment", [3, FIRST, FIRST + 1, FIRST + 4, FIRST + SECOND])
def test_a_run_that_is_stopped_in_or_between_stages_ends_in_the_same_bits(moment, trainer, folder, build):
    undisturbed = make_cfg(folder, trainer, OUTPUT_DIR=f"{folder}/undisturbed", **BUDGET)
    run(build(undisturbed))
    cfg = make_cfg(folder, trainer, **BUDGET)
    stopped = build(cfg)
    signal_in(stopped, "forward_backward", moment)
    assert "step" in run(stopped)
    resumed = build(cfg)
    assert run(resumed) is None
    assert len(stopped.begun + resumed.begun) == 1  # what prepares a stage happens once
    assert_same_run(folder / "undisturbed", folder / "run")
    if trainer.startswith("Scaled"):
        assert json.loads((folder / "run/result.json").read_text())["skipped_steps"] == 3


def test_a_checkpoint_of_a_later_stage_goes_on_there(folder, build):
    build(make_cfg(folder, "LayerByLayer", **BUDGET)).train()
    again = build(make_cfg(folder, "LayerByLayer", OUTPUT_DIR=f"{folder}/again", **BUDGET))
    assert again.resume_model_if_exist(str(folder / "run")) == 3
    assert again.stages.number == 1 and isinstance(again.stages.current.optimizer, torch.optim.Adam)
    saved = load_checkpoint(folder / "run/linear/model.pth.tar-3")
    assert again.stages.schedule.state_dict()["last_epoch"] == saved["scheduler"]["last_epoch"] == SECOND
    assert not any(p.requires_grad for p in again.model.below.parameters())


def test_a_stage_without_steps_is_prepared_and_passed(folder, build, monkeypatch):
    monkeypatch.setattr(LayerByLayer, "lengths", (0, 5))
    trainer = build(make_cfg(folder, "LayerByLayer", **{**BUDGET, "OPTIM__MAX_STEPS": 5}))
    before = trainer.model.below.weight.detach().clone()
    trainer.train()
    assert trainer.begun == [1] and torch.equal(trainer.model.below.weight, before)
    assert steps_of(folder / "run")[0]["lr"] == pytest.approx(0.1)


def test_a_number_that_no_stage_has_is_refused(folder, build):
    trainer = build(make_cfg(folder, "LayerByLayer", **BUDGET))
    with pytest.raises(ValueError, match="no stage 3: this training has 2"):
        trainer.stages.enter(2)
    with pytest.raises(ValueError, match="at least one stage"):
        Stages([], trainer.begin_stage)
