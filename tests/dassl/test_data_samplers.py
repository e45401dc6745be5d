"""Samplers: orders are functions of seed, epoch and pass."""

import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from dassl.data.datasets import Datum
from dassl.data.samplers import RandomClassSampler, RandomSampler, build_sampler, class_batches
from dassl.data.seeding import SampleIndex

EXAMPLES = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "rng_order.json").read_text(encoding="utf-8")
)


def items(labels):
    return [Datum(label=label) for label in labels]


@pytest.mark.parametrize(
    "case", EXAMPLES["random_class_sampler"], ids=lambda case: f"batch {case['batch_size']}"
)
def test_class_batches_draw_as_dassl_draws(case):
    rng, numpy_rng = random.Random(case["seed"]), np.random.RandomState(case["seed"])

    def draw():
        return class_batches(
            case["labels"], case["batch_size"] // case["n_ins"], case["n_ins"], rng, numpy_rng
        )

    assert len(draw()) == case["len"]  # Dassl's constructor draws once to learn its length
    assert draw() == case["first_iteration"]
    if "second_iteration" in case:
        assert draw() == case["second_iteration"]


def test_every_batch_holds_n_ins_images_of_each_of_its_classes():
    labels = [0] * 7 + [1] * 4 + [2] * 1 + [3] * 9
    sampler = RandomClassSampler(items(labels), batch_size=4, n_ins=2, seed=1)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        order = list(sampler)
        batches = [[labels[index] for index in order[cut : cut + 4]] for cut in range(0, len(order), 4)]
        assert all(sorted(map(batch.count, set(batch))) == [2, 2] for batch in batches)


def test_the_length_is_that_of_the_epochs_first_pass():
    sampler = RandomClassSampler(items([0] * 5 + [1] * 3 + [2] * 4 + [3] * 2), batch_size=4, n_ins=2, seed=1)
    lengths = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        length = len(sampler)
        assert length == len(list(sampler)) == len(sampler)
        lengths.add(length)
    assert len(lengths) > 1


def test_random_orders_are_permutations_of_their_own_for_seed_epoch_and_pass():
    orders = []
    for seed in (0, 1):
        sampler = RandomSampler(items(range(50)), seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders += [list(sampler), list(sampler)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == 8


def test_a_pass_that_has_begun_ignores_a_later_epoch():
    sampler, other = RandomSampler(items(range(20)), 1), RandomSampler(items(range(20)), 1)
    begun = iter(sampler)
    sampler.set_epoch(7)
    assert list(begun) == list(other)


def test_a_sample_index_is_an_int_and_survives_the_way_to_a_worker():
    index = SampleIndex(3, pass_seed=11)
    received = pickle.loads(pickle.dumps(index))
    assert received == 3 and ["a", "b", "c", "d"][received] == "d"
    assert received.seed == index.seed != SampleIndex(3, pass_seed=12).seed


@pytest.mark.parametrize(
    "name, message",
    [
        ("RandomSampled", "did you mean 'RandomSampler'"),
        ("RandomDomainSampler", "for domain adaptation and not provided"),
    ],
)
def test_other_samplers_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        build_sampler(name, items([0, 1]))


def test_impossible_class_batches_are_refused():
    with pytest.raises(ValueError, match="batch size 2 is smaller than N_INS 4"):
        RandomClassSampler(items([0, 1]), batch_size=2, n_ins=4)
    with pytest.raises(ValueError, match="needs 3 classes, the data set has 2"):
        RandomClassSampler(items([0, 1]), batch_size=6, n_ins=2)
