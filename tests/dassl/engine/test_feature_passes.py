"""A plugin that collects features before it trains: many augmented passes, then batches drawn by itself.

CLAP is of this shape: its classifier learns from features of 20 augmented passes over the training loader,
which it copies, and shuffles them with the global generators. Dassl's loaders give such a plugin a new order
and new crops with every pass, full batches only, all from the global generators. These tests hold what ours
give, against torch's own loader, which is Dassl's:

- in distribution the same: each pass, of the loader or of a copy, has an order and crops of its own and
  leaves out other images; a loader that the plugin builds itself draws its own too;
- not in bits: our passes leave the global generators alone, so what the plugin draws from them depends on
  the seed only, neither on the passes nor on the workers. A single loss therefore differs from Dassl's as
  much as it does between two seeds.
"""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from plugins import Linear, make_cfg
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dassl.data import DataManager, DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY

PASSES = 20
TRANSFORMS = ("random_resized_crop", "colorjitter", "normalize")  # no two draws give equal pixels


def the_loader(trainer):
    return [trainer.train_loader_x] * PASSES


def one_copy(trainer):
    return [copy.deepcopy(trainer.train_loader_x)] * PASSES


def a_copy_for_every_pass(trainer):
    return (copy.deepcopy(trainer.train_loader_x) for _ in range(PASSES))


def a_copy_with_another_transform(trainer):
    copied = copy.deepcopy(trainer.train_loader_x)
    copied.dataset.transform = build_transform(trainer.cfg, choices=("random_flip", "colorjitter"))
    return [copied] * PASSES


def a_loader_of_torch(trainer):
    """As Dassl builds the training loader: order and crops come from the global generators."""
    wrapper = DatasetWrapper(
        trainer.cfg, trainer.dm.dataset.train_x, build_transform(trainer.cfg), is_train=True
    )
    workers = trainer.cfg.DATALOADER.NUM_WORKERS
    return [DataLoader(wrapper, batch_size=4, shuffle=True, drop_last=True, num_workers=workers)] * PASSES


def a_loader_built_for_every_pass(trainer):
    items, transform = trainer.dm.dataset.train_x, build_transform(trainer.cfg)
    return (
        build_data_loader(trainer.cfg, "RandomSampler", items, batch_size=4, tfm=transform)
        for _ in range(PASSES)
    )


def another_data_manager(trainer):
    transform = build_transform(trainer.cfg, choices=("colorjitter",))
    return [DataManager(trainer.cfg, custom_tfm_train=transform).train_loader_x] * PASSES


WAYS = {
    way.__name__: way
    for way in (
        *(the_loader, one_copy, a_copy_for_every_pass, a_copy_with_another_transform),
        *(a_loader_of_torch, a_loader_built_for_every_pass, another_data_manager),
    )
}


@TRAINER_REGISTRY.register()
class FeatureBank(Linear):
    """Trains on features of augmented passes, which it collects and shuffles by itself."""

    way = "a_copy_for_every_pass"

    def build_model(self):
        super().build_model()
        self.passes = [one_pass(loader) for loader in WAYS[self.way](self)]
        self.features = torch.cat([images.flatten(1) for _, images in self.passes])
        self.labels = torch.cat([order % 2 for order, _ in self.passes])  # image n is of class n % 2
        means = [self.features[self.labels == label].mean(0) for label in range(2)]
        self.model.weight.data.copy_(torch.stack(means))

    def run_epoch(self):
        """A batch of features for every batch of images."""
        self.shuffled = torch.randperm(len(self.features)).tolist(), np.random.permutation(9), random.random()
        super().run_epoch()

    def forward_backward(self, batch):
        chosen = self.shuffled[0][4 * self.batch_idx : 4 * self.batch_idx + 4]
        loss = F.cross_entropy(self.model(self.features[chosen]), self.labels[chosen])
        self.model_backward_and_update(loss)
        return {"loss": loss, "first": batch["index"][0], "pixel": batch["img"].mean()}


def one_pass(loader):
    """The images' numbers (N,) in order, and their pixels (N, 3, H, W)."""
    batches = list(loader)
    return torch.cat([batch["index"] for batch in batches]), torch.cat([batch["img"] for batch in batches])


def crops(passes):
    """Image number -> its crops in all passes."""
    found = {}
    for order, images in passes:
        for number, image in zip(order.tolist(), images, strict=True):
            found.setdefault(number, []).append(image)
    return found


def all_differ(tensors):
    return len({tensor.numpy().tobytes() for tensor in tensors}) == len(tensors)


@pytest.fixture
def bank(folder, build, monkeypatch):
    """Build the plugin with loaders of one of the `WAYS`."""
    monkeypatch.setattr("dassl.data.data_manager.usable_workers", lambda requested: requested)

    def _bank(way="a_copy_for_every_pass", **settings):
        monkeypatch.setattr(FeatureBank, "way", way)
        return build(make_cfg(folder, "FeatureBank", INPUT__TRANSFORMS=TRANSFORMS, **settings))

    return _bank


@pytest.mark.parametrize("way", WAYS)
def test_every_pass_has_an_order_and_crops_of_its_own(way, bank):
    passes = bank(way).passes
    orders = [order for order, _ in passes]
    assert len(passes) == PASSES and all(len(order) == 8 for order in orders)  # 10 images, batches of 4
    assert all(len(order.unique()) == 8 for order in orders)
    assert all_differ(orders)
    assert all(all_differ(views) for views in crops(passes).values())


@pytest.mark.parametrize("way", ["the_loader", "a_copy_for_every_pass"])
def test_workers_change_no_pass(way, bank, monkeypatch):
    monkeypatch.setitem(globals(), "PASSES", 2)
    alone, helped = bank(way), bank(way, DATALOADER__NUM_WORKERS=1)
    for (order, images), (same_order, same_images) in zip(alone.passes, helped.passes, strict=True):
        assert torch.equal(order, same_order) and torch.equal(images, same_images)


def test_passes_draw_nothing_from_the_global_generators(bank, build, folder):
    def draws():
        return random.random(), np.random.rand(), torch.rand(()).item()

    bank("the_loader")
    after_passes = draws()
    build(make_cfg(folder, "Linear"))
    assert draws() == after_passes


def test_the_epochs_are_those_of_a_run_without_passes_and_repeat_no_crop(bank, build, folder):
    def first_epoch(trainer):
        trainer.epoch = 0
        return one_pass(trainer.train_loader_x)

    order, images = first_epoch(build(make_cfg(folder, "Linear", INPUT__TRANSFORMS=TRANSFORMS)))
    trainer = bank("the_loader")
    after_order, after_images = first_epoch(trainer)
    assert torch.equal(order, after_order) and torch.equal(images, after_images)
    assert all_differ([*images, *(image for _, views in trainer.passes for image in views)])


def test_passes_are_distributed_as_those_of_torchs_loader(bank, monkeypatch):
    """How often an image is left out or comes first; mean and spread of its crops' colors over all passes."""
    monkeypatch.setitem(globals(), "PASSES", 120)
    ours, torchs = bank("a_copy_for_every_pass").passes, bank("a_loader_of_torch").passes
    for number in range(10):
        for count in (lambda order, n=number: n in order, lambda order, n=number: order[0] == n):
            rates = [np.mean([bool(count(order)) for order, _ in passes]) for passes in (ours, torchs)]
            error = np.sqrt(2 * rates[1] * (1 - rates[1]) / PASSES)
            assert abs(rates[0] - rates[1]) < 5 * error
        means = [torch.stack(crops(passes)[number]).mean((2, 3)) for passes in (ours, torchs)]  # (N, 3)
        errors = torch.stack([values.var(0) / len(values) for values in means]).sum(0).sqrt()
        assert ((means[0].mean(0) - means[1].mean(0)).abs() < 5 * errors).all()
        spreads = means[0].std(0) / means[1].std(0)
        assert ((spreads > 0.7) & (spreads < 1.4)).all()


def test_a_resumed_run_collects_the_same_features_and_goes_on_in_the_same_bits(
    bank, folder, build, interrupt
):
    settings = {"OPTIM__MAX_EPOCH": 4}
    undisturbed = bank(OUTPUT_DIR=f"{folder}/undisturbed", **settings)
    undisturbed.train()
    cfg = make_cfg(folder, "FeatureBank", INPUT__TRANSFORMS=TRANSFORMS, **settings)
    interrupt(cfg, epoch=2)
    resumed = build(cfg)
    resumed.train()
    assert resumed.start_epoch == 2 and torch.equal(resumed.features, undisturbed.features)
    lines = [Path(run.output_dir, "metrics.jsonl").read_text() for run in (undisturbed, resumed)]
    assert lines[0] == lines[1]
    steps = [json.loads(line) for line in lines[0].splitlines()]
    assert len({step["pixel"] for step in steps}) == len(steps) == 8


def test_a_copy_made_once_hears_of_the_epochs(folder, build):
    """So that a plugin which trains on a copy of its own resumes exactly too."""
    trainer = build(make_cfg(folder, "Linear"))
    copied = copy.deepcopy(trainer.train_loader_x)
    trainer.epoch = 2
    order, images = one_pass(copied)
    again = build(make_cfg(folder, "Linear"))
    again.epoch = 2
    same_order, same_images = one_pass(again.train_loader_x)
    assert torch.equal(order, same_order) and torch.equal(images, same_images)


@pytest.mark.parametrize("workers", [0, 1])
def test_living_workers_hear_of_what_a_plugin_exchanges_in_the_data_set(workers, bank):
    loader = bank("the_loader", DATALOADER__NUM_WORKERS=workers).train_loader_x
    assert one_pass(loader)[1].std() > 0
    loader.dataset.transform.transforms.append(torch.zeros_like)
    assert (one_pass(loader)[1] == 0).all()
    loader.dataset.transform.transforms.pop()
    loader.dataset.k_tfm = 2
    assert all(len(batch["img"]) == 2 for batch in loader)
