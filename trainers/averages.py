"""Averages over training of what trains: they are tested and saved in the place of the last weights.

A method names one in its `average`. In train mode the parameters are those that go on training, in eval mode
the average so far. Files hold the average under the parameters' names, for whoever reads them, and beside
it, under `last_weights.<name>`, the weights from which training goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LAST = "last_weights."  # what the names of the weights beside their average begin with


@dataclass(frozen=True)
class Gaussian:
    """Of the weights behind each epoch e, from 1, in proportion to exp(-(e - mu)^2 / (2 sigma^2)).

    The average so far is that of a training which ends there. Epochs count with a budget in steps too.

    Args:   mu, sigma [epochs]
    Raises: ValueError for a sigma that is not positive
    Source: Khattak et al., ICCV 2023, https://arxiv.org/abs/2307.06948
    """

    mu: float
    sigma: float

    def __post_init__(self):
        if not self.sigma > 0:
            raise ValueError(f"the sigma of a Gaussian average is {self.sigma}; choose epochs above 0")

    def weights(self, epochs: int) -> Tensor:
        """Weights (E,) of the epochs 1..E, whose sum is 1."""
        distance = torch.arange(1, epochs + 1, dtype=torch.float64) - self.mu
        return torch.softmax(-(distance**2) / (2 * self.sigma**2), dim=0)

    def share(self, epoch: int, ends_epoch: bool) -> float | None:
        """Share of the weights behind a step in the average so far; None if they do not count."""
        return self.weights(epoch)[-1].item() if ends_epoch else None


@dataclass(frozen=True)
class Ema:
    """An exponential moving average: behind each step, decay * average + (1 - decay) * weights.

    It begins with the weights behind the first step.

    Raises: ValueError for a decay out of [0, 1)
    """

    decay: float

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"the decay of a moving average is {self.decay}; choose from 0 to below 1")

    def share(self, epoch: int, ends_epoch: bool) -> float:
        """Share of the weights behind a step in the average so far."""
        return 1 - self.decay


class RunningAverage:
    """The average so far of parameters that train, in float32; none before the first weights that count."""

    def __init__(self):
        self.forget()

    def forget(self) -> None:
        """Begin anew with the next weights; the parameters stay as they are."""
        self._parameters: Mapping[str, nn.Parameter] = {}
        self._means: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}  # while the parameters hold the average

    @torch.no_grad()
    def add(self, parameters: Mapping[str, nn.Parameter], share: float) -> None:
        """Let the weights of parameters (name -> parameter) have a share in the average."""
        if not self._means:
            self._parameters = dict(parameters)
            self._means = {name: one.detach().float().clone() for name, one in parameters.items()}
        for name, mean in self._means.items():
            mean.lerp_(self._parameters[name].float(), share)

    @torch.no_grad()
    def show(self) -> None:
        """Put the average into the parameters."""
        if not self._last:
            self._last = {name: one.detach().clone() for name, one in self._parameters.items()}
            self._copy(self._means)

    @torch.no_grad()
    def hide(self) -> None:
        """Put the weights that go on training back."""
        self._copy(self._last)
        self._last = {}

    def settle(self) -> None:
        """Make the average what the parameters are from now on."""
        self.show()
        self.forget()

    def state(self) -> dict[str, Tensor]:
        """What files hold: the average by the parameters' names, and the last weights."""
        last = self._last or self._parameters
        return {**self._means, **{LAST + name: tensor.detach() for name, tensor in last.items()}}

    def load(self, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
        """Inverse of :meth:`state`, for parameters that hold the average; it stays in them."""
        self.forget()
        for name in (key.removeprefix(LAST) for key in state if key.startswith(LAST)):
            parameter = self._parameters[name] = parameters[name]
            self._means[name] = state[name].to(parameter.device, torch.float32, copy=True)
            self._last[name] = state[LAST + name].to(parameter.device, parameter.dtype, copy=True)

    def _copy(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._parameters[name].copy_(tensor)
