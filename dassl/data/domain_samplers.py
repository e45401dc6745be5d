"""The samplers of domain adaptation and generalization: batches of several domains.

Nothing here trains with them; they are for plugins of Dassl that name or import them.
"""

import random
from collections import defaultdict

from dassl.data.passes import VaryingSampler


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
