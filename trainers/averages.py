"""Averages over training of what trains: they are tested and saved in the place of the last weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gaussian:
    """Of the weights behind each epoch e, from 1, in proportion to exp(-(e - mu)^2 / (2 sigma^2)).

    Raises: ValueError for a sigma that is not positive
    """

    mu: float
    sigma: float

    def __post_init__(self):
        if not self.sigma > 0:
            raise ValueError(f"the sigma of a Gaussian average is {self.sigma}; choose epochs above 0")
