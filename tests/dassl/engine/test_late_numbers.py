"""The numbers of a step are read during the next one; of one whose loss is not finite nothing is saved."""

import json
from pathlib import Path

import pytest
import torch
from plugins import Linear, make_cfg
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY
from dassl.engine.steps import LateNumbers
from dassl.run_folder import RECORD_FILES, has_resume_point
from dassl.utils.stop_signals import Stopped, obeyed

FIVE_STEPS = {"DATALOADER__TRAIN_X__BATCH_SIZE": 2, "OPTIM__MAX_EPOCH": 2}


@TRAINER_REGISTRY.register()
class Diverging(Linear):
    """Its loss is not finite in step `bad`, counted from 1, and the gradient there is as ever."""

    bad = 3
    returns_tensors = True

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        self.steps = getattr(self, "steps", 0) + 1
        loss = F.cross_entropy(self.model(image.flatten(1)), label)
        bad = self.steps == self.bad
        self.model_backward_and_update(loss + loss.new_tensor(float("nan") if bad else 0.0))
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss if self.returns_tensors else loss.item()}


def lines(cfg, name="metrics.jsonl"):
    return [json.loads(line) for line in Path(cfg.OUTPUT_DIR, name).read_text().splitlines()]


@pytest.mark.parametrize("returns_tensors", [True, False])
@pytest.mark.parametrize("bad", [1, 3, 5, 10])
def test_a_step_whose_loss_is_not_finite_leaves_no_trace(folder, build, bad, returns_tensors):
    cfg = make_cfg(folder, "Diverging", **FIVE_STEPS)
    trainer = build(cfg)
    trainer.bad, trainer.resume_interval, trainer.returns_tensors = bad, 0.0, returns_tensors
    with pytest.raises(FloatingPointError, match=f"the loss is nan in epoch {1 + (bad > 5)}"):
        trainer.train()
    assert [(line["epoch"], line["batch"]) for line in lines(cfg)] == [
        (1 + step // 5, 1 + step % 5) for step in range(bad - 1)
    ]
    assert trainer.steps <= bad + 1  # the next one had begun, and no other
    assert has_resume_point(cfg.OUTPUT_DIR) == (bad == 10)  # that of the first epoch
    assert not list(Path(cfg.OUTPUT_DIR).rglob("model.pth.tar*"))


def test_a_plugin_that_saves_in_an_epoch_saves_nothing_of_a_bad_step(folder, build):
    cfg = make_cfg(folder, "Diverging", **FIVE_STEPS)
    trainer = build(cfg)
    step = trainer.forward_backward

    def step_and_save(batch):
        summary = step(batch)
        trainer.save_model(trainer.epoch, cfg.OUTPUT_DIR, model_name=f"step-{trainer.steps}")
        return summary

    trainer.forward_backward = step_and_save
    with pytest.raises(FloatingPointError):
        trainer.train()
    assert {path.name for path in Path(cfg.OUTPUT_DIR).rglob("step-*")} == {"step-1", "step-2"}


def test_a_record_has_no_line_of_a_bad_step(folder, build):
    cfg = make_cfg(folder, "Diverging", **FIVE_STEPS, TRAIN__RECORD=["change"])
    with pytest.raises(FloatingPointError):
        build(cfg).train()
    assert [line["batch"] for line in lines(cfg, RECORD_FILES["change"])[1:]] == [1, 2]


def test_a_step_that_fails_because_the_one_before_diverged_says_so(folder, build):
    trainer = build(make_cfg(folder, "Diverging", **FIVE_STEPS))
    step = trainer.forward_backward

    def fail_behind_it(batch):
        if getattr(trainer, "steps", 0) == trainer.bad:
            raise IndexError("a label that there is not")
        return step(batch)

    trainer.forward_backward = fail_behind_it
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1") as caught:
        trainer.train()
    assert isinstance(caught.value.__context__, IndexError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, IndexError])
def test_however_training_ends_every_finished_step_has_its_line(folder, build, error):
    cfg = make_cfg(folder, "Linear", **FIVE_STEPS)
    trainer = build(cfg)
    original = trainer.parse_batch_train

    def parse(batch):
        if trainer.batch_idx == 3:
            raise error
        return original(batch)

    trainer.parse_batch_train = parse
    with pytest.raises(error):
        trainer.train()
    assert [line["batch"] for line in lines(cfg)] == [1, 2, 3]


@pytest.mark.usefixtures("handlers_are_restored")
def test_a_run_that_is_asked_to_stop_knows_its_last_step_first(folder, build):
    from stopping import send

    cfg = make_cfg(folder, "Diverging", **FIVE_STEPS)
    trainer = build(cfg)
    step = trainer.forward_backward

    def stop_in_the_bad_step(batch):
        summary = step(batch)
        if trainer.steps == trainer.bad:
            send()
        return summary

    trainer.forward_backward = stop_in_the_bad_step
    with pytest.raises((FloatingPointError, Stopped)), obeyed():
        trainer.train()
    assert [line["batch"] for line in lines(cfg)] == [1, 2] and not has_resume_point(cfg.OUTPUT_DIR)


def test_outside_of_a_training_a_loss_is_checked_at_once(folder, build):
    with pytest.raises(FloatingPointError, match="the loss is inf in epoch 1"):
        build(make_cfg(folder)).detect_anomaly(torch.tensor(float("inf")))


def test_progress_shows_each_step_with_its_own_numbers(folder, build, capsys):
    cfg = make_cfg(folder, "TwoLinear", **FIVE_STEPS, TRAIN__PRINT_FREQ=1)
    build(cfg).train()
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch [")]
    assert len(shown) == len(lines(cfg)) == 10
    for line, step in zip(shown, lines(cfg), strict=True):
        assert line.startswith(f"epoch [{step['epoch']}/2] batch [{step['batch']}/5]")
        assert f"loss_linear {step['loss_linear']:.4f} (" in line


def test_late_numbers_are_those_of_the_moment_they_left():
    loss, wide = torch.tensor([1.5], requires_grad=True), torch.ones(2)
    late = LateNumbers({"loss": loss, "count": torch.tensor(3), "share": 0.5, "wide": wide})
    with torch.no_grad():
        loss.fill_(7.0)
    read = late.read()
    assert (read["loss"], read["count"], read["share"]) == (1.5, 3, 0.5) and read["wide"] is wide
    assert isinstance(read["count"], int)
