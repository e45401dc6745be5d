"""Averages over training against a plain loop over the weights behind every step."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clipfit.fit.files import CLIP, fit_folder, read_fit
from clipfit.fit.names import openai_name
from dassl.config import CfgNode
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint, stop_signals
from trainers.averages import LAST, Ema, Gaussian, RunningAverage
from trainers.stages import StagedTrainer

QUICK = ("DATASET.NUM_SHOTS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 10, "OPTIM.MAX_EPOCH", 4)  # of 2 steps
BEST = ("TEST.FINAL_MODEL", "best_val")  # tests behind every epoch


@pytest.fixture
def averaged(build, small_clip, monkeypatch):
    """Build CLIPFit with an average, and note its weights behind every step."""

    def make(average, *words, **more):
        method = TRAINER_REGISTRY.get("CLIPFit")
        monkeypatch.setattr(method, "average", lambda self: average)
        trainer = build("CLIPFit", f"--backbone={small_clip}", *QUICK, *words, **more)
        trainer.resume_interval, trainer.weights, step = 0.0, [], trainer.forward_backward

        def noting(batch):
            summary = step(batch)
            trainer.weights.append(weights_of(trainer))
            return summary

        trainer.forward_backward = noting
        return trainer

    return make


def weights_of(trainer):
    return {name: one.detach().clone() for name, one in trainer.trained_parameters().items()}


def plain_average(average, weights, steps_of_epoch=2):
    """The formulas, in double precision."""
    doubles = [{name: one.double() for name, one in step.items()} for step in weights]
    if isinstance(average, Ema):
        mean = doubles[0]
        for step in doubles[1:]:
            mean = {n: average.decay * mean[n] + (1 - average.decay) * step[n] for n in mean}
        return mean
    epochs = doubles[steps_of_epoch - 1 :: steps_of_epoch]
    g = [math.exp(-((e - average.mu) ** 2) / (2 * average.sigma**2)) for e in range(1, len(epochs) + 1)]
    return {n: sum(w / sum(g) * epoch[n] for w, epoch in zip(g, epochs, strict=True)) for n in epochs[0]}


def assert_average(tensors, expected):
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name].double(), tensor, rtol=1e-5, atol=1e-7)


AVERAGES = [Gaussian(2, 1), Gaussian(4, 0.3), Ema(0.7)]


@pytest.mark.parametrize("average", AVERAGES)
def test_the_average_is_tested_saved_and_in_the_fit(average, averaged, tmp_path):
    trainer = averaged(average, "TRAIN.CHECKPOINT_FREQ", 1)
    tested, infer = [], trainer.model_inference
    trainer.model_inference = lambda images: (tested.append(weights_of(trainer)), infer(images))[1]
    trainer.train()
    expected = plain_average(average, trainer.weights)
    assert not all(torch.equal(trainer.weights[-1][name], one.float()) for name, one in expected.items())
    assert_average(tested[-1], expected)
    assert_average(trainer.trained_parameters(), expected)
    fit = read_fit(fit_folder(tmp_path / "run")).tensors
    assert_average({name: fit[CLIP + openai_name(name)] for name in expected}, expected)
    for epoch in (1, 3, 4):  # and each checkpoint the average so far
        folder = tmp_path / "run" / trainer.registered_name
        state = load_checkpoint(folder / f"model.pth.tar-{epoch}")["state_dict"]
        assert_average(state, plain_average(average, trainer.weights[: 2 * epoch]))
        last = trainer.weights[2 * epoch - 1]
        assert all(torch.equal(state[LAST + name], one) for name, one in last.items())


@pytest.mark.parametrize("average", AVERAGES)
def test_an_average_changes_no_step_of_the_training(average, averaged, tmp_path):
    metrics = []
    for name, one in (("without", None), ("with", average)):
        averaged(one, *BEST, f"--output-dir={tmp_path / name}").train()
        metrics.append(Path(tmp_path, name, "metrics.jsonl").read_text())
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("precision", ["fp32", "amp", "fp16"])
@pytest.mark.parametrize("average", AVERAGES[1:])
def test_an_interrupted_run_goes_on_with_its_average_in_the_same_bits(
    average, precision, averaged, tmp_path, monkeypatch
):
    pairs = ("TRAINER.CLIPFIT.PREC", precision, *BEST)
    undisturbed = averaged(average, *pairs, f"--output-dir={tmp_path / 'undisturbed'}")
    undisturbed.train()

    for moment in ((0, 0), (1, 1), (2, 0)):
        stopped = averaged(average, *pairs, f"--output-dir={tmp_path / 'stopped'}")
        step = stopped.forward_backward

        def signal(batch, trainer=stopped, step=step, moment=moment):
            if (trainer.epoch, trainer.batch_idx) == moment:
                stop_signals._request = "SIGTERM", 0.0
            return step(batch)

        stopped.forward_backward = signal
        with monkeypatch.context() as patch, pytest.raises(stop_signals.Stopped):
            patch.setattr(stop_signals, "_request", None)
            stopped.train()
    resumed = averaged(average, *pairs, f"--output-dir={tmp_path / 'stopped'}")
    resumed.train()
    assert len(resumed.weights) == 3  # of eight steps
    for name, tensor in undisturbed.saved_tensors().items():
        assert torch.equal(tensor, resumed.saved_tensors()[name]), name


@pytest.mark.parametrize("average", AVERAGES)
def test_a_run_that_goes_on_from_a_checkpoint_keeps_its_average(average, averaged, tmp_path):
    words = f"--output-dir={tmp_path / 'run'}", "TRAIN.CHECKPOINT_FREQ", 2
    undisturbed = averaged(average, *words)
    undisturbed.train()
    folder = tmp_path / "run" / undisturbed.registered_name
    (folder / "model.pth.tar-4").unlink()
    (folder / "checkpoint").write_text("model.pth.tar-2\n")
    (tmp_path / "run/result.json").unlink()
    resumed = averaged(average, *words)
    resumed.train()
    assert resumed.start_epoch == 2
    for name, tensor in undisturbed.saved_tensors().items():
        assert torch.equal(tensor, resumed.saved_tensors()[name]), name


def test_the_best_model_is_an_average_so_far(averaged):
    average = Gaussian(4, 2)
    trainer = averaged(average, *BEST)
    validations, test = [50.0, 90.0, 70.0, 60.0], trainer.test

    def noted(split=None):
        accuracy = test(split)
        return validations[trainer.epoch] if split == "val" else accuracy

    trainer.test = noted
    trainer.train()
    assert trainer.result()["epoch"] == 2
    assert_average(trainer.trained_parameters(), plain_average(average, trainer.weights[:4]))


def test_the_average_of_a_training_in_steps_counts_its_last_incomplete_epoch(averaged):
    average = Gaussian(1, 2)
    trainer = averaged(average, "OPTIM.MAX_STEPS", 5)
    trainer.train()
    weights = trainer.weights
    assert len(weights) == 5
    epochs = [weights[1], weights[3], weights[4]]
    assert_average(trainer.trained_parameters(), plain_average(average, epochs, 1))


# The parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mu, sigma, epochs", [(15, 1, 20), (30, 30, 50), (45, 5, 50), (6, 10, 20), (300, 1, 9)]
)
def test_the_weights_of_epochs_are_gaussian_and_sum_to_one(mu, sigma, epochs):
    weights = Gaussian(mu, sigma).weights(epochs).tolist()
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    for e in range(1, epochs):
        ratio = math.exp(((e - mu) ** 2 - (e + 1 - mu) ** 2) / (2 * sigma**2))
        assert weights[e] == pytest.approx(weights[e - 1] * ratio, rel=1e-9, abs=1e-200)


@pytest.mark.parametrize("average", [Gaussian(6, 10), Gaussian(15, 1), Ema(0.999)])
def test_weights_that_never_change_are_their_average(average):
    parameters = {"w": nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(0)))}
    running, before = RunningAverage(), parameters["w"].detach().clone()
    for epoch in range(1, 21):
        running.add(parameters, average.share(epoch, True))
    assert torch.equal(running.state()["w"], before)


def test_the_moving_average_is_torchs():
    model = nn.Linear(5, 3)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = RunningAverage()
    for step in range(20):
        with torch.no_grad():
            model.weight += torch.randn(3, 5, generator=torch.Generator().manual_seed(step))
        theirs.update_parameters(model)
        ours.add(dict(model.named_parameters()), Ema(0.9).share(1, False))
    torch.testing.assert_close(ours.state()["weight"], theirs.module.weight.detach())


def test_half_precision_weights_have_an_average_in_single_precision():
    parameter, running = nn.Parameter(torch.ones(1, dtype=torch.float16)), RunningAverage()
    for _ in range(500):
        running.add({"w": parameter}, 0.001)
        parameter.data.fill_(2)  # half precision has steps of 0.001 there
    running.show()
    running.hide()
    assert running.state()["w"].item() == pytest.approx(2 - 0.999**499, rel=1e-4)
    assert parameter.item() == 2


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Gaussian(15, 0), "sigma of a Gaussian average is 0"),
        (lambda: Ema(1.0), "decay of a moving average is 1.0"),
    ],
)
def test_what_has_no_meaning_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Stages ---------------------------------------------------------------------------------------------


class ThenNorms(StagedTrainer):
    """Biases of the text tower, then LayerNorms of the image tower."""

    node = "THENNORMS"
    kinds = (Ema(0.5), Ema(0.9))

    def setup(self):
        self.unfreeze(["text.ffn_proj_bias"])

    def plan(self, first):
        self.unfreeze(["image.layernorm"])
        norms = {name: p for name, p in self.trained_parameters().items() if name not in first}
        return [self.stage(first, 3), self.stage(norms, self.total_steps - 3)]

    def average(self):
        return self.kinds[self.stages.number]


@pytest.fixture
def staged(build, small_clip, monkeypatch):
    def make(*words):
        def as_invented(trainer, cfg):
            cfg = cfg.clone()
            cfg.defrost()
            cfg.TRAINER.THENNORMS = CfgNode({"PREC": "fp32"})
            StagedTrainer.__init__(trainer, cfg)

        monkeypatch.setattr(ThenNorms, "__init__", as_invented)
        monkeypatch.setitem(TRAINER_REGISTRY._objects, "CLIPFit", ThenNorms)
        return build("CLIPFit", f"--backbone={small_clip}", *QUICK, "OPTIM.LR", 0.05, *words)

    return make


def test_a_stage_begins_from_the_average_of_the_one_before(staged):
    trainer = staged()
    weights, step = [], trainer.model_update

    def noting(names=None):
        step(names)
        weights.append(weights_of(trainer))

    trainer.model_update = noting
    trainer.train()
    biases, norms = weights[:3], weights[3:]
    assert (len(biases), len(norms)) == (3, 5) and not biases[0].keys() & norms[0].keys()
    now = dict(trainer.model.named_parameters())
    assert_average(now, plain_average(Ema(0.5), biases))
    assert_average(now, plain_average(Ema(0.9), norms))


def test_a_stage_without_an_average_keeps_its_last_weights(staged, monkeypatch):
    monkeypatch.setattr(ThenNorms, "kinds", (None, Ema(0.9)))
    trainer = staged("TEST.NO_TEST", True)
    weights, step = [weights_of(trainer)], trainer.model_update

    def noting(names=None):
        step(names)
        weights.append(weights_of(trainer))

    trainer.model_update = noting
    trainer.train()
    now = dict(trainer.model.named_parameters())
    for name, last in weights[3].items():
        assert torch.equal(now[name], last) and not torch.equal(weights[0][name], last)


@pytest.mark.parametrize("number", [0, 1])
def test_epochs_are_no_measure_of_stages(number, staged, monkeypatch):
    kinds = [None, None]
    kinds[number] = Gaussian(2, 1)
    monkeypatch.setattr(ThenNorms, "kinds", kinds)
    with pytest.raises(
        ValueError, match=r"the stages of this training are counted in steps; take .* \(Ema\)"
    ):
        staged("TEST.NO_TEST", True).train()
