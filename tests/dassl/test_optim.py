"""Optimizers and learning-rate schedules."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from clipfit.io import safe_unpickle
from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.optim.radam import RAdam
from dassl.utils import resume_from_checkpoint, save_checkpoint

SCHEDULES = json.loads((Path(__file__).parents[1] / "fixtures" / "lr_schedules.json").read_text())[
    "schedules"
]


def optim_cfg(**keys):
    cfg = get_cfg_default()
    cfg.merge_from_mapping({"OPTIM": {"NAME": "sgd", "LR": 0.002} | keys}, source="test")
    return cfg.OPTIM


def build(cfg):
    optimizer = build_optimizer(nn.Linear(2, 1), cfg)
    return optimizer, build_lr_scheduler(optimizer, cfg)


def run(optimizer, scheduler, epochs):
    """The learning rates of the next `epochs` epochs."""
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def split(schedule):
    keys = dict(schedule)
    return keys.pop("lr_per_epoch"), optim_cfg(**keys)


# Schedules


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s['LR_SCHEDULER']}-{s['MAX_EPOCH']}")
def test_the_rates_are_those_of_the_family(schedule):
    expected, cfg = split(schedule)
    assert run(*build(cfg), len(expected)) == pytest.approx(expected, rel=1e-15, abs=1e-17)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s['LR_SCHEDULER']}-{s['MAX_EPOCH']}")
def test_stopping_and_resuming_at_any_epoch_changes_no_rate(schedule):
    expected, cfg = split(schedule)
    whole = run(*build(cfg), len(expected))
    optimizer, scheduler = build(cfg)
    for stop in range(len(expected)):
        resumed_optimizer, resumed_scheduler = build(cfg)
        resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        resumed_scheduler.load_state_dict(
            json.loads(json.dumps(scheduler.state_dict()))
        )  # plain numbers only
        assert run(resumed_optimizer, resumed_scheduler, 2) == whole[stop : stop + 2] or stop + 2 > len(whole)
        run(optimizer, scheduler, 1)


def test_resuming_from_a_checkpoint_file_continues_the_cosine(tmp_path):
    cfg = optim_cfg(LR_SCHEDULER="cosine", WARMUP_EPOCH=1, WARMUP_TYPE="constant")
    whole = run(*build(cfg), 10)
    model = nn.Linear(2, 1)
    optimizer = build_optimizer(model, cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    run(optimizer, scheduler, 4)
    saved = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 4, **saved}, tmp_path)
    optimizer = build_optimizer(model, cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    assert resume_from_checkpoint(tmp_path, model, optimizer, scheduler) == 4
    assert run(optimizer, scheduler, 6) == whole[4:]


def test_a_schedule_pickled_by_dassl_resumes_at_the_finished_epoch(tmp_path):
    cfg = optim_cfg(LR_SCHEDULER="cosine", WARMUP_EPOCH=1, WARMUP_TYPE="constant")
    whole = run(*build(cfg), 10)
    model = nn.Linear(2, 1)
    # The main schedule is a pickled object there; its position can only come from the checkpoint's epoch.
    pickled = torch.optim.lr_scheduler.CosineAnnealingLR.__new__(torch.optim.lr_scheduler.CosineAnnealingLR)
    foreign = {"main": pickled, "base_lrs": [0.002]}
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 4, "scheduler": foreign}, tmp_path)
    optimizer = build_optimizer(model, cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    resume_from_checkpoint(tmp_path, model, optimizer, scheduler)
    assert run(optimizer, scheduler, 6) == whole[4:]


def test_a_cosine_falls_to_its_lowest_rate_epoch_by_epoch_and_step_by_step():
    for keys in ({"MAX_EPOCH": 9}, {"MAX_EPOCH": 100, "MAX_STEPS": 9}):
        found = run(*build(optim_cfg(LR_SCHEDULER="cosine", LR_MIN=1e-4, **keys)), epochs=10)
        optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.002)
        other = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9, eta_min=1e-4)
        assert found == pytest.approx(run(optimizer, other, epochs=10), rel=1e-9)
        assert found[-1] == pytest.approx(1e-4)


def test_other_entries_in_a_loaded_state_are_left_aside():
    optimizer, scheduler = build(optim_cfg(LR_SCHEDULER="cosine"))
    scheduler.load_state_dict({"last_epoch": 5, "main": safe_unpickle.Placeholder(), "_step_count": 6})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.002 * (1 + math.cos(math.pi / 2)) / 2)
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"LR_SCHEDULER": "cosine", "LR_MIN": 0.1}, ValueError, "LR_MIN is 0.1, above OPTIM.LR, 0.002"),
        ({"LR_SCHEDULER": "cosin"}, ValueError, "did you mean 'cosine'"),
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "linaer"}, ValueError, "did you mean 'linear'"),
        ({"STEPSIZE": (1.5,)}, TypeError, "whole number of epochs"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(keys, error, message):
    with pytest.raises(error, match=message):
        build(optim_cfg(**keys))
    cfg = optim_cfg(LR_SCHEDULER="multi_step")
    cfg.STEPSIZE = 4
    with pytest.raises(TypeError, match="list of epochs"):
        build(cfg)


def test_the_warm_up_type_does_not_matter_without_warm_up():
    build(optim_cfg(WARMUP_TYPE="none"))


# Warm-up in front of a scheduler of torch, as a plugin of Dassl builds it

WARMUPS = {
    "constant": lambda optimizer, successor, cfg: ConstantWarmupScheduler(
        optimizer, successor, cfg.WARMUP_EPOCH, cfg.WARMUP_CONS_LR
    ),
    "linear": lambda optimizer, successor, cfg: LinearWarmupScheduler(
        optimizer, successor, cfg.WARMUP_EPOCH, cfg.WARMUP_MIN_LR
    ),
}
WARMED_UP = [
    s
    for s in SCHEDULES
    if s["WARMUP_EPOCH"] > 0 and s["LR_SCHEDULER"] == "cosine" and s.get("WARMUP_RECOUNT", True)
]


def build_of_parts(cfg):
    optimizer = build_optimizer(nn.Linear(2, 1), cfg)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, float(cfg.MAX_EPOCH))
    return optimizer, WARMUPS[cfg.WARMUP_TYPE](optimizer, cosine, cfg)


@pytest.mark.parametrize("schedule", WARMED_UP, ids=lambda s: f"{s['WARMUP_TYPE']}-{s['MAX_EPOCH']}")
def test_warm_up_schedulers_give_the_rates_of_the_family(schedule):
    expected, cfg = split(schedule)
    assert run(*build_of_parts(cfg), len(expected)) == pytest.approx(expected, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("warmup", WARMUPS)
def test_warm_up_schedulers_resume_at_any_epoch(warmup, tmp_path):
    cfg = optim_cfg(LR_SCHEDULER="cosine", WARMUP_EPOCH=3, WARMUP_TYPE=warmup)
    whole = run(*build_of_parts(cfg), 10)
    model = nn.Linear(2, 1)
    for stop in range(10):
        optimizer, scheduler = build_of_parts(cfg)
        run(optimizer, scheduler, stop)
        saved = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
        save_checkpoint({"state_dict": model.state_dict(), "epoch": stop, **saved}, tmp_path / str(stop))
        optimizer, scheduler = build_of_parts(cfg)
        resume_from_checkpoint(tmp_path / str(stop), model, optimizer, scheduler)
        assert run(optimizer, scheduler, 10 - stop) == whole[stop:]
    with pytest.raises(ValueError, match="nothing of the schedule behind the warm-up"):
        scheduler.load_state_dict({"last_epoch": 4, "base_lrs": [0.002]})


# Optimizers


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.9), "amsgrad": False}),
        ("amsgrad", torch.optim.Adam, {"betas": (0.8, 0.9), "amsgrad": True}),
        ("sgd", torch.optim.SGD, {"momentum": 0.7, "dampening": 0, "nesterov": True}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.7, "alpha": 0.6}),
        ("radam", RAdam, {"betas": (0.8, 0.9), "eps": 1e-8, "decoupled_weight_decay": True}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.9)}),
    ],
)
def test_each_name_builds_its_optimizer_with_the_settings_it_reads(name, kind, settings):
    keys = {"ADAM_BETA1": 0.8, "ADAM_BETA2": 0.9, "MOMENTUM": 0.7, "RMSPROP_ALPHA": 0.6, "SGD_NESTEROV": True}
    optimizer = build_optimizer(nn.Linear(2, 1), optim_cfg(NAME=name, WEIGHT_DECAY=0.01, **keys))
    assert type(optimizer) is kind
    expected = {"lr": 0.002, "weight_decay": 0.01} | settings
    assert {key: optimizer.param_groups[0][key] for key in expected} == expected


def test_an_unknown_optimizer_lists_the_known_ones():
    with pytest.raises(ValueError, match="'adamm'; did you mean 'adam'.*sgd"):
        build_optimizer(nn.Linear(2, 1), optim_cfg(NAME="adamm"))


def test_frozen_parameters_are_counted_and_never_moved():
    model = nn.Linear(2, 1)
    model.weight.requires_grad_(False)
    before = model.weight.clone()
    optimizer = build_optimizer(model, optim_cfg(WEIGHT_DECAY=0.5))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(model.weight), id(model.bias)]
    assert torch.equal(model.weight, before)


def test_parameters_may_come_as_an_iterable_or_as_groups():
    model = nn.Linear(2, 1)
    assert len(build_optimizer(model.parameters(), optim_cfg()).param_groups[0]["params"]) == 2
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias]}]
    with pytest.warns(UserWarning, match="STAGED_LR is ignored"):
        optimizer = build_optimizer(model, optim_cfg(STAGED_LR=True), param_groups=groups)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.002]


class WithBareParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.head = nn.Linear(2, 1)
        self.context = nn.Parameter(torch.zeros(3))
        self.scale = nn.Parameter(torch.zeros(1))


def test_staged_rates_reach_every_parameter_bare_ones_too():
    model = WithBareParameters()
    optimizer = build_optimizer(model, optim_cfg(STAGED_LR=True, NEW_LAYERS=("head", "context")))
    base, new = optimizer.param_groups
    assert (base["lr"], new["lr"]) == (pytest.approx(0.0002), 0.002)
    assert {id(p) for p in new["params"]} == {id(model.context), *map(id, model.head.parameters())}
    assert {id(p) for p in base["params"]} == {id(model.scale), *map(id, model.backbone.parameters())}


def test_staged_rates_need_a_module_and_layers_that_it_has():
    model = WithBareParameters()
    with pytest.raises(TypeError, match="needs a module"):
        build_optimizer(model.parameters(), optim_cfg(STAGED_LR=True))
    with pytest.raises(ValueError, match="'haed'; did you mean 'head'"):
        build_optimizer(model, optim_cfg(STAGED_LR=True, NEW_LAYERS="haed"))


def test_radam_decays_the_weights_and_not_the_gradients():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = RAdam([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))
