"""A method that nobody has published, made of the shared parts alone; and that these name no method."""

from pathlib import Path

import pytest
import torch

import clipfit
from dassl.config import CfgNode
from dassl.engine import TRAINER_REGISTRY
from launch.registered import PROJECT, data_sets, shipped_methods
from trainers.averages import Ema
from trainers.heads import HeadTrainer
from trainers.low_rank import LowRankTrainer
from trainers.stages import StagedTrainer

PARTS = [
    *("dassl/engine/stages.py", "clipfit/head.py", "clipfit/low_rank.py", "clipfit/modules/low_rank.py"),
    *("trainers/stages.py", "trainers/heads.py", "trainers/low_rank.py", "clipfit/groups.py"),
    *("trainers/tokens.py", "trainers/decoupled.py", "trainers/averages.py", "trainers/views.py"),
    *("clipfit/tokens.py", "clipfit/vision.py", "clipfit/text.py", "clipfit/projection.py"),
]


class HeadThenTower(LowRankTrainer, HeadTrainer, StagedTrainer):
    """Warm up a head for a third of the steps, then train it and low-rank changes together; averaged."""

    node = "HEADTHENTOWER"
    registered_name = "head_then_tower"

    def setup(self):
        self.add_low_rank(["image.v[-1]", "text.ffn_out[0]"], rank=1, scale=1.0, dropout=0.1)
        self.add_head()

    def plan(self, first):
        self.start_head()
        head, steps = {"head.weight": self.model.head.weight}, self.total_steps // 3
        both = self.stage({**first, **head}, self.total_steps - steps)
        return [self.stage(head, steps, NAME="sgd", LR=0.1), both]

    def average(self):
        return Ema(decay=0.9)


@pytest.fixture
def invented(build, monkeypatch):
    """Build it as if its file lay in trainers/: on the settings of another method, with its node."""

    def make(*words, **more):
        def as_invented(trainer, cfg):
            cfg = cfg.clone()
            cfg.defrost()
            cfg.TRAINER.HEADTHENTOWER = CfgNode({"PREC": "fp32"})
            HeadTrainer.__init__(trainer, cfg)

        monkeypatch.setattr(HeadThenTower, "__init__", as_invented)
        monkeypatch.setitem(TRAINER_REGISTRY._objects, "CLIPFit", HeadThenTower)
        return build("CLIPFit", *words, **more)

    return make


QUICK = ("DATASET.NUM_SHOTS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 8, "OPTIM.MAX_EPOCH", 3)


def test_an_invented_method_of_parts_trains_goes_on_and_leaves_a_fit(invented, tmp_path):
    undisturbed = invented(f"--output-dir={tmp_path / 'undisturbed'}", *QUICK)
    assert list(undisturbed.trained_parameters()) == ["head.weight"]
    undisturbed.train()
    assert set(undisturbed.trained_parameters()) == set(undisturbed.stages.parameters)
    assert [stage.steps for stage in undisturbed.stages.all] == [3, 6]

    for moment in ((0, 1), (1, 0), (1, 2)):  # in the first stage, as the second one begins, in it
        stopped = invented(f"--output-dir={tmp_path / 'stopped'}", *QUICK)
        stopped.resume_interval = 0.0
        original = stopped.forward_backward

        def stop(batch, trainer=stopped, step=original, moment=moment):
            if (trainer.epoch, trainer.batch_idx) == moment:
                raise KeyboardInterrupt
            return step(batch)

        stopped.forward_backward = stop
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
    resumed = invented(f"--output-dir={tmp_path / 'stopped'}", *QUICK)
    resumed.train()
    for name, tensor in undisturbed.saved_tensors().items():
        assert torch.equal(tensor, resumed.saved_tensors()[name]), name

    model = clipfit.load(tmp_path / "stopped")
    images = next(iter(resumed.test_loader))["img"][:8]
    with torch.no_grad():
        expected = resumed.model_inference(images).softmax(dim=1)
    torch.testing.assert_close(model.probabilities(images), expected, rtol=0, atol=1e-5)
    assert model.facts["features"] == "trained" and resumed.result()["inference"] == "per-class"


@pytest.mark.parametrize("part", PARTS)
def test_parts_name_no_method_and_no_data_set(part):
    words = Path(PROJECT, part).read_text(encoding="utf-8").casefold()
    names = [*shipped_methods(), *(one.name for one in data_sets()), "2SFS", "BitFit", "CLIP-LoRA"]
    assert [name for name in names if name.casefold() in words and name != "CLIPFit"] == []
