"""TRAIN.RECORD: the squared gradient and the squared change of every trained tensor, at every iteration."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plugins import Linear, make_cfg
from torch import nn
from torch.nn import functional as F

from dassl.config.identity import config_digest
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.recording import Recorder
from dassl.run_folder import RECORD_FILES

WORKER = Path(__file__).with_name("kill_worker.py")
BOTH = ["gradient", "change"]
PLAIN_SGD = {"OPTIM__MOMENTUM": 0.0, "OPTIM__WEIGHT_DECAY": 0.0, "OPTIM__WARMUP_EPOCH": -1}
CONSTANT_RATE = {"OPTIM__LR_SCHEDULER": "single_step", "OPTIM__STEPSIZE": (100,)}


def read(folder, kind):
    """Names, (epoch, batch) of every line, and the values (T, n) of a record."""
    head, *rows = map(json.loads, Path(folder, RECORD_FILES[kind]).read_text().splitlines())
    return head["names"], [(row["epoch"], row["batch"]) for row in rows], [row["values"] for row in rows]


@TRAINER_REGISTRY.register()
class Valley(Linear):
    """loss = |v - target|^2 / 2, whatever the images; steps by its own means, with plain torch."""

    def build_model(self):
        self.model = nn.ParameterDict({"v": torch.zeros(2), "frozen": nn.Parameter(torch.ones(1))})
        self.model["frozen"].requires_grad_(False)
        self.target = torch.tensor([3.0, 4.0])
        self.optim = torch.optim.SGD([self.model["v"]], lr=0.5)
        self.register_model("valley", self.model, self.optim)

    def forward_backward(self, batch):
        loss = (self.model["v"] - self.target).square().sum() / 2
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        self.optim.zero_grad()  # what a record reads must have been read before
        return {"loss": loss.item()}

    def model_inference(self, input):
        return torch.zeros(len(input), 2)


def test_gradient_and_change_follow_the_closed_form_of_gradient_descent(folder, build):
    """Each step halves the way left: v_t = (1 - 2^-t) target, and |target| = 5."""
    cfg = make_cfg(folder, "Valley", TRAIN__RECORD=BOTH)
    build(cfg).train()
    for kind in BOTH:
        names, steps, _ = read(cfg.OUTPUT_DIR, kind)
        assert names == ["valley/v"] and steps == [(e, b) for e in (1, 2, 3) for b in (1, 2)]
    assert read(cfg.OUTPUT_DIR, "gradient")[2] == [[25 * 4.0 ** -(t - 1)] for t in range(1, 7)]
    assert read(cfg.OUTPUT_DIR, "change")[2] == [[25 * (1 - 2.0**-t) ** 2] for t in range(1, 7)]


@pytest.mark.parametrize("trainer, models", [("Linear", ["linear"]), ("TwoLinear", ["linear", "second"])])
def test_under_plain_sgd_the_first_change_is_the_gradient_times_the_squared_rate(
    trainer, models, folder, build
):
    cfg = make_cfg(folder, trainer, TRAIN__RECORD=BOTH, OPTIM__LR=0.25, **PLAIN_SGD, **CONSTANT_RATE)
    build(cfg).train()
    (names, _, gradient), (_, _, change) = (read(cfg.OUTPUT_DIR, kind) for kind in BOTH)
    assert names == [f"{model}/{name}" for model in models for name in ("weight", "bias")]
    assert change[0] == pytest.approx([0.25**2 * value for value in gradient[0]], rel=1e-4)
    assert all(value > 0 for value in gradient[0])


def test_the_last_change_is_the_distance_of_the_checkpoint_from_the_start(folder, build):
    cfg = make_cfg(folder, TRAIN__RECORD=BOTH)
    trainer = build(cfg)
    start = trainer.model.weight.detach().clone()
    trainer.train()
    saved = torch.load(f"{cfg.OUTPUT_DIR}/linear/model.pth.tar-3", weights_only=True)["state_dict"]["weight"]
    expected = (saved.double() - start.double()).pow(2).sum().item()
    assert read(cfg.OUTPUT_DIR, "change")[2][-1][0] == pytest.approx(expected, rel=1e-12)


def test_recorded_gradients_are_free_of_the_gradient_scalers_factor(folder, build):
    settings = {"TRAIN__RECORD": BOTH, **PLAIN_SGD, **CONSTANT_RATE}
    cfg = make_cfg(folder, "AmpLinear", OPTIM__LR=0.25, **settings)
    trainer = build(cfg)
    assert trainer.scaler.is_enabled() and trainer.scaler.get_scale() == 1024
    trainer.train()
    gradient, change = (read(cfg.OUTPUT_DIR, kind)[2][0] for kind in BOTH)
    assert change == pytest.approx([0.25**2 * value for value in gradient], rel=1e-3)


def test_an_iteration_whose_step_is_skipped_has_no_gradient(folder, build):
    class Overflowing(TRAINER_REGISTRY.get("AmpLinear")):
        def forward_backward(self, batch):
            factor = float("inf") if self.batch_idx == 0 else 1.0
            hook = self.model.weight.register_hook(lambda grad: grad * factor)
            summary = super().forward_backward(batch)
            hook.remove()
            return summary

    TRAINER_REGISTRY.register(Overflowing, force=True)
    cfg = make_cfg(folder, "Overflowing", TRAIN__RECORD=BOTH, OPTIM__MAX_EPOCH=1)
    build(cfg).train()
    for kind in BOTH:
        first, second = read(cfg.OUTPUT_DIR, kind)[2]
        assert first == [0.0, 0.0] and min(second) > 0


def test_the_start_is_what_a_trainer_sets_before_its_first_step(folder, build):
    class LateStart(Valley):
        def before_train(self):
            super().before_train()
            if self.start_epoch == 0:
                self.model["v"].data.copy_(self.target)

    TRAINER_REGISTRY.register(LateStart, force=True)
    cfg = make_cfg(folder, "LateStart", TRAIN__RECORD=["change"])
    build(cfg).train()
    assert read(cfg.OUTPUT_DIR, "change")[2] == [[0.0]] * 6


def files(run_folder):
    return {path: path.read_bytes() for path in Path(run_folder).rglob("*") if path.is_file()}


def records(folder):
    return {kind: Path(folder, name).read_text() for kind, name in RECORD_FILES.items()}


MOMENTS = [
    "step:1",
    "step:5",
    "resume.pt:1",
    "resume.pt:3",
    "gradient.jsonl:1",
    "change.jsonl:1",
    "result.json:1",
]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["TwoLinear", "AmpLinear"])
def test_a_killed_and_resumed_run_has_the_record_of_an_undisturbed_one(trainer, folder):
    worker = subprocess.run(
        [sys.executable, str(WORKER), "--record", str(folder), trainer, *MOMENTS],
        capture_output=True,
        text=True,
    )
    assert worker.returncode == 0, worker.stderr
    undisturbed = records(folder / "undisturbed")
    assert all(len(text.splitlines()) == 1 + 5 * 2 for text in undisturbed.values())
    for moment in MOMENTS:
        assert records(folder / moment.replace(":", "-")) == undisturbed, moment


def test_a_line_cut_by_a_kill_is_dropped_with_its_epoch(folder, build, interrupt):
    undisturbed = make_cfg(folder, OUTPUT_DIR=f"{folder}/undisturbed", TRAIN__RECORD=BOTH)
    build(undisturbed).train()
    cfg = make_cfg(folder, TRAIN__RECORD=BOTH)
    interrupt(cfg, epoch=2)
    with open(Path(cfg.OUTPUT_DIR, "change.jsonl"), "a") as file:
        file.write('{"epoch": 3, "batch": 1, "val')
    build(cfg).train()
    assert records(cfg.OUTPUT_DIR) == records(undisturbed.OUTPUT_DIR)


@pytest.mark.parametrize("finished", [True, False])
def test_a_past_that_was_not_recorded_is_refused_and_kept(finished, folder, build, interrupt):
    if finished:
        build(make_cfg(folder)).train()
    else:
        interrupt(make_cfg(folder), epoch=2)
    trainer = build(make_cfg(folder, TRAIN__RECORD=BOTH))
    before = files(trainer.output_dir)
    with pytest.raises(ValueError, match="did not record its gradient and change"):
        trainer.train()
    assert files(trainer.output_dir) == before


def test_a_training_that_does_not_record_leaves_no_record_with_holes(folder, build, interrupt):
    interrupt(make_cfg(folder, TRAIN__RECORD=BOTH), epoch=1)
    cfg = make_cfg(folder, TRAIN__RECORD=["change"])
    build(cfg).train()
    assert not Path(cfg.OUTPUT_DIR, "gradient.jsonl").exists()
    assert len(read(cfg.OUTPUT_DIR, "change")[1]) == 6


def test_an_explicit_resume_takes_the_record_along_or_is_refused_without_one(folder, build, interrupt):
    undisturbed = make_cfg(folder, OUTPUT_DIR=f"{folder}/undisturbed", TRAIN__RECORD=BOTH)
    build(undisturbed).train()
    for name, kinds in (("first", BOTH), ("silent", [])):
        interrupt(make_cfg(folder, OUTPUT_DIR=f"{folder}/{name}", TRAIN__RECORD=kinds), epoch=2)
    target = {"OUTPUT_DIR": f"{folder}/second", "TRAIN__RECORD": BOTH}
    with pytest.raises(ValueError, match="silent did not record its gradient and change"):
        build(make_cfg(folder, RESUME=f"{folder}/silent", **target)).train()
    assert Path(folder, "silent/resume.pt").is_file()
    build(make_cfg(folder, RESUME=f"{folder}/first", **target)).train()
    assert records(f"{folder}/second") == records(undisturbed.OUTPUT_DIR)


def test_a_step_is_read_from_the_device_at_once(folder, build, monkeypatch):
    cfg = make_cfg(folder, "TwoLinear", TRAIN__RECORD=BOTH)
    trainer = build(cfg)
    reads, append = [], Recorder.append
    for name in ("tolist", "item", "__float__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda t, f=original, n=name: (reads.append(n), f(t))[1])

    def watched(recorder, *numbers):
        reads.clear()
        append(recorder, *numbers)
        assert reads == ["tolist"]

    monkeypatch.setattr(Recorder, "append", watched)
    trainer.train()
    assert len(read(cfg.OUTPUT_DIR, "gradient")[2]) == 6


def test_nothing_watches_a_training_that_is_not_recorded(folder, build):
    cfg = make_cfg(folder)
    trainer = build(cfg)
    seen = []
    step = trainer.forward_backward

    def forward_backward(batch):
        seen.append(len(trainer.optim._optimizer_step_pre_hooks))
        return step(batch)

    trainer.forward_backward = forward_backward
    trainer.train()
    assert set(seen) == {0} and trainer.recorder is None
    assert not [name for name in RECORD_FILES.values() if Path(cfg.OUTPUT_DIR, name).exists()]


def test_recording_changes_neither_the_experiment_nor_its_result(folder, build):
    plain, recorded = make_cfg(folder), make_cfg(folder, OUTPUT_DIR=f"{folder}/r", TRAIN__RECORD=BOTH)
    assert config_digest(plain) == config_digest(recorded)
    for cfg in (plain, recorded):
        build(cfg).train()
    weights = [
        torch.load(f"{cfg.OUTPUT_DIR}/linear/model.pth.tar-3", weights_only=True)["state_dict"]["weight"]
        for cfg in (plain, recorded)
    ]
    assert torch.equal(*weights)


def test_an_unknown_record_is_refused_before_anything_is_built(folder, build):
    with pytest.raises(ValueError, match="TRAIN.RECORD names 'gradients'; choose from gradient, change"):
        build(make_cfg(folder, TRAIN__RECORD=["gradients"], DATASET__ROOT="/nowhere"))


def test_the_record_of_a_step_that_is_not_the_engines_is_the_same(folder, build):
    """A plugin that calls backward and step itself is watched like one that uses the engine's helpers."""

    class ByHand(Linear):
        def forward_backward(self, batch):
            image, label = self.parse_batch_train(batch)
            loss = F.cross_entropy(self.model(image.flatten(1)), label)
            self.optim.zero_grad()
            loss.backward()
            self.optim.step()
            if self.batch_idx + 1 == self.num_batches:
                self.sched.step()
            return {"loss": loss.item()}

    TRAINER_REGISTRY.register(ByHand, force=True)
    configs = [
        make_cfg(folder, trainer, OUTPUT_DIR=f"{folder}/{trainer}", TRAIN__RECORD=BOTH)
        for trainer in ("Linear", "ByHand")
    ]
    for cfg in configs:
        build(cfg).train()
    assert records(configs[0].OUTPUT_DIR) == records(configs[1].OUTPUT_DIR)
