"""Samplers by their names in the config: in which order a loader visits its images."""

import torch

from dassl.data.for_plugins import RandomClassSampler, RandomDomainSampler, SeqDomainSampler
from dassl.data.passes import EpochSampler
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
