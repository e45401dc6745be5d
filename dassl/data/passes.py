"""The base of all samplers: passes over a list of images, counted by epoch.

Every order is a function of (seed, epoch, pass within the epoch). The trainer tells the epoch with
`set_epoch`. Passes before the first epoch, such as those of a plugin that collects features, are counted by
themselves: each has an order and augmentations of its own, and the epochs that follow do not depend on them.
"""

from torch.utils.data import Sampler

from dassl.data.seeding import SampleIndex, derive_seed

BEFORE_TRAINING = -1  # the epoch of passes that begin before the first `set_epoch`


class Passes:
    """The current epoch and how many passes have begun in it.

    A sampler and its copies count together: a plugin that copies the training loader for every pass gets a
    new order with every pass, and a copy hears of the epoch.
    """

    def __init__(self):
        self.start(BEFORE_TRAINING)

    def start(self, epoch: int) -> None:
        self.epoch = epoch
        self.begun = 0

    def __deepcopy__(self, memo) -> "Passes":
        return self


class EpochSampler(Sampler):
    """Base of all samplers: keeps count of epoch and pass, leaves the order to `order`.

    Args:
        data_source: list of `Datum`.
        seed: seed of this loader's orders and augmentations.
    """

    def __init__(self, data_source, seed: int = 0):
        self.data_source = data_source
        self.seed = seed
        self.passes = Passes()
        self._going_on: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Start epoch `epoch` (from 0): the next pass is its first."""
        self.passes.start(epoch)

    def go_on(self, taken: int, begun: int) -> None:
        """The next pass goes on behind the first `taken` images; `begun` passes of the epoch had begun."""
        self._going_on = taken, begun

    def order(self, pass_seed: int) -> list[int]:
        """Indices into `data_source`, a function of `pass_seed` alone."""
        raise NotImplementedError

    def __iter__(self):
        # The list is made now, not at the first `next`, so a later set_epoch cannot reach into this pass.
        pass_seed = self._pass_seed(self.passes.begun)
        taken, self.passes.begun = self._going_on or (0, self.passes.begun + 1)
        self._going_on = None
        return iter([SampleIndex(index, pass_seed) for index in self.order(pass_seed)[taken:]])

    def __len__(self) -> int:
        return len(self.data_source)

    def _pass_seed(self, number: int) -> int:
        return derive_seed(self.seed, self.passes.epoch, number)


class VaryingSampler(EpochSampler):
    """The number of images varies from pass to pass; `len` is that of the epoch's first pass."""

    def __init__(self, data_source, seed: int = 0):
        super().__init__(data_source, seed)
        self._length = None, 0  # epoch, and the length of its first pass

    def __len__(self) -> int:
        epoch = self.passes.epoch
        if self._length[0] != epoch:
            self._length = epoch, len(self.order(self._pass_seed(0)))
        return self._length[1]
