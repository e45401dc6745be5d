"""For plugins: samplers that fill a batch by class or by domain. No method here trains with them."""

import random
from collections import defaultdict

import numpy as np

from dassl.data.passes import VaryingSampler


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


class RandomDomainSampler(VaryingSampler):
    """Batches of `n_domain` random domains with batch_size // n_domain images each, without repetition.

    A pass ends as soon as a domain of its last batch has too few images left for another one.

    Args: n_domain below 1: all domains.
    Raises: ValueError if the domains cannot share a batch, or there are too few domains, or images of one.
    """

    def __init__(self, data_source, batch_size: int, n_domain: int, seed: int = 0):
        self.members = defaultdict(list)  # domain -> indices of its images
        for index, item in enumerate(data_source):
            self.members[item.domain].append(index)
        self.n_domain = n_domain if n_domain > 0 else len(self.members)
        name = type(self).__name__
        if self.n_domain > len(self.members):
            raise ValueError(
                f"{name}: {self.n_domain} domains in a batch, the data set has {len(self.members)}; "
                "lower DATALOADER.TRAIN_X.N_DOMAIN"
            )
        if batch_size % self.n_domain:
            raise ValueError(
                f"{name}: a batch of {batch_size} cannot be shared by {self.n_domain} domains; choose a "
                "multiple as DATALOADER.TRAIN_X.BATCH_SIZE"
            )
        self.images_per_domain = batch_size // self.n_domain
        for domain, indices in self.members.items():
            if len(indices) < self.images_per_domain:
                raise ValueError(
                    f"{name}: a batch takes {self.images_per_domain} images of a domain, domain {domain} has "
                    f"{len(indices)}; lower DATALOADER.TRAIN_X.BATCH_SIZE"
                )
        super().__init__(data_source, seed)

    def order(self, pass_seed: int) -> list[int]:
        rng, count = random.Random(pass_seed), self.images_per_domain
        left = {domain: rng.sample(indices, len(indices)) for domain, indices in self.members.items()}
        order = []
        while True:
            drawn = self.draw_domains(rng)
            for domain in drawn:
                order += left[domain][:count]
                del left[domain][:count]
            if any(len(left[domain]) < count for domain in drawn):
                return order

    def draw_domains(self, rng: random.Random) -> list:
        return rng.sample(list(self.members), self.n_domain)


class SeqDomainSampler(RandomDomainSampler):
    """Batches of all domains, in the order of their numbers, with batch_size // domains images each."""

    def __init__(self, data_source, batch_size: int, seed: int = 0):
        super().__init__(data_source, batch_size, n_domain=0, seed=seed)

    def draw_domains(self, rng: random.Random) -> list:
        return sorted(self.members)
