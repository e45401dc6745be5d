"""Samplers: orders are functions of seed, epoch and pass."""

import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from dassl.data.datasets import Datum
from dassl.data.for_plugins import class_batches
from dassl.data.samplers import (
    RandomClassSampler,
    RandomDomainSampler,
    RandomSampler,
    SeqDomainSampler,
    build_sampler,
)
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


@pytest.mark.parametrize(
    "name", ["RandomSampler", "SequentialSampler", "RandomClassSampler", "RandomDomainSampler"]
)
def test_a_pass_can_go_on_behind_some_of_its_images(name):
    """And the epoch's later passes are those of an epoch that was not interrupted."""
    data = [Datum(label=number % 3, domain=number % 2) for number in range(24)]
    whole, part = (build_sampler(name, data, batch_size=4, n_ins=2, n_domain=2, seed=1) for _ in range(2))
    for sampler in (whole, part):
        sampler.set_epoch(3)
    passes = [[(int(index), index.seed) for index in whole] for _ in range(4)]
    part.go_on(8, begun=3)
    assert [(int(index), index.seed) for index in part] == passes[0][8:]
    assert [(int(index), index.seed) for index in part] == passes[3]


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


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match="did you mean 'RandomSampler'"):
        build_sampler("RandomSampled", items([0, 1]))


def test_impossible_class_batches_are_refused():
    with pytest.raises(ValueError, match="batch size 2 is smaller than N_INS 4"):
        RandomClassSampler(items([0, 1]), batch_size=2, n_ins=4)
    with pytest.raises(ValueError, match="needs 3 classes, the data set has 2"):
        RandomClassSampler(items([0, 1]), batch_size=6, n_ins=2)


# Domains


DOMAINS = [0] * 9 + [1] * 7 + [2] * 12


def domain_batches(sampler, batch_size):
    """The domains of each batch of a pass, and the whole order."""
    order = list(sampler)
    return [
        [DOMAINS[i] for i in order[cut : cut + batch_size]] for cut in range(0, len(order), batch_size)
    ], order


def from_domains():
    return [Datum(domain=domain) for domain in DOMAINS]


def test_random_domain_batches_share_the_images_among_n_domains():
    sampler = RandomDomainSampler(from_domains(), 4, 2, seed=1)
    pairs = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        batches, order = domain_batches(sampler, 4)
        assert len(set(order)) == len(order) == len(sampler)
        assert all(sorted(map(batch.count, set(batch))) == [2, 2] for batch in batches)
        pairs.update(tuple(sorted(set(batch))) for batch in batches)
        left = [DOMAINS.count(domain) - [DOMAINS[i] for i in order].count(domain) for domain in range(3)]
        assert min(left) < 2  # a domain of the last batch has no images for another one
    assert pairs == {(0, 1), (0, 2), (1, 2)}


def test_sequential_domain_batches_hold_all_domains_in_their_order():
    sampler = SeqDomainSampler(from_domains(), 6, seed=1)
    (batches, first), (_, second) = domain_batches(sampler, 6), domain_batches(sampler, 6)
    assert batches == [[0, 0, 1, 1, 2, 2]] * 3  # domain 1 has one of its seven images left
    assert first != second and len(set(first)) == len(first)


def test_domain_samplers_go_by_their_names():
    sampler = build_sampler("RandomDomainSampler", from_domains(), batch_size=6, n_domain=0)
    assert type(sampler) is RandomDomainSampler and sampler.n_domain == 3  # 0: all of them
    assert type(build_sampler("SeqDomainSampler", from_domains(), batch_size=6)) is SeqDomainSampler


@pytest.mark.parametrize(
    "batch_size, n_domain, message",
    [
        (8, 4, "4 domains in a batch, the data set has 3"),
        (4, 3, "a batch of 4 cannot be shared by 3 domains"),
        (16, 2, "a batch takes 8 images of a domain, domain 1 has 7"),
    ],
)
def test_impossible_domain_batches_are_refused(batch_size, n_domain, message):
    with pytest.raises(ValueError, match=message):
        RandomDomainSampler(from_domains(), batch_size, n_domain)
