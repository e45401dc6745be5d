"""Samplers by their names in the config: in which order a loader visits its images."""

import random
from collections import defaultdict

import numpy as np
import torch

from dassl.data.domain_samplers import RandomDomainSampler, SeqDomainSampler
from dassl.data.passes import EpochSampler, VaryingSampler
from dassl.utils import unknown_name


class SequentialSampler(EpochSampler):
    """First to last."""

    def order(self, pass_seed: int) -> list[int]:
        return list(range(len(self.data_source)))


class RandomSampler(EpochSampler):
    """A uniform permutation."""

    def order(self, pass_seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(pass_seed)
        return torch.randperm(len(self.data_source), generator=generator).tolist()


class RandomClassSampler(VaryingSampler):
    """Batches of P classes with `n_ins` images each, P = batch_size // n_ins.

    Raises: ValueError if a batch is smaller than `n_ins` or there are fewer than P classes.
    """

    def __init__(self, data_source, batch_size: int, n_ins: int, seed: int = 0):
        if batch_size < n_ins:
            raise ValueError(
                f"RandomClassSampler: batch size {batch_size} is smaller than N_INS {n_ins}; "
                "raise DATALOADER.TRAIN_X.BATCH_SIZE or lower DATALOADER.TRAIN_X.N_INS"
            )
        self.labels = [item.label for item in data_source]
        self.n_ins = n_ins
        self.classes_per_batch = batch_size // n_ins
        found = len(set(self.labels))
        if found < self.classes_per_batch:
            raise ValueError(
                f"RandomClassSampler: a batch of {batch_size} with N_INS {n_ins} needs "
                f"{self.classes_per_batch} classes, the data set has {found}; "
                "raise DATALOADER.TRAIN_X.N_INS or lower its BATCH_SIZE"
            )
        super().__init__(data_source, seed)

    def order(self, pass_seed: int) -> list[int]:
        numpy_rng = np.random.RandomState(pass_seed % 2**32)
        return class_batches(
            self.labels, self.classes_per_batch, self.n_ins, random.Random(pass_seed), numpy_rng
        )


def class_batches(labels, classes_per_batch: int, n_ins: int, rng, numpy_rng) -> list[int]:
    """Indices such that each run of `classes_per_batch * n_ins` holds `n_ins` images of that many classes.

    Per label, in order of first appearance: shuffle its indices and cut them into groups of `n_ins`, dropping
    the rest; a label with fewer images is first filled by drawing with replacement. Then, while enough labels
    have a group left, draw labels and take each one's next group.

    Args:
        labels: label of every image.
        rng: a `random.Random`. numpy_rng: a `numpy.random.RandomState`.
    """
    indices = defaultdict(list)
    for index, label in enumerate(labels):
        indices[label].append(index)

    groups = {}  # label -> groups not taken yet
    for label, members in indices.items():
        if len(members) < n_ins:
            members = numpy_rng.choice(members, size=n_ins, replace=True).tolist()
        rng.shuffle(members)
        cuts = range(0, len(members) - n_ins + 1, n_ins)
        groups[label] = [members[cut : cut + n_ins] for cut in cuts]

    order, available = [], list(groups)
    while len(available) >= classes_per_batch:
        for label in rng.sample(available, classes_per_batch):
            order += groups[label].pop(0)
            if not groups[label]:
                available.remove(label)
    return order


def build_sampler(
    sampler_type: str, data_source, batch_size: int = 32, n_ins: int = 16, n_domain: int = 0, seed: int = 0
):
    """The sampler called `sampler_type` in `DATALOADER.*.SAMPLER`. Raises: ValueError for an unknown name."""
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source, seed)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(data_source, seed)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data_source, batch_size, n_ins, seed)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain, seed)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size, seed)
    available = [
        "RandomSampler",
        "SequentialSampler",
        "RandomClassSampler",
        "RandomDomainSampler",
        "SeqDomainSampler",
    ]
    raise ValueError(unknown_name("sampler", sampler_type, available))
