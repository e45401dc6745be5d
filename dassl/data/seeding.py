"""Random draws that depend on what is drawn for, not on who drew before.

The order of a pass over a loader is a function of (seed, epoch, pass); the augmentation of a sample is a
function of these and its index. So the number of workers, evaluation passes in between and an interrupted run
change nothing.
"""

import contextlib
import hashlib
import random

import numpy as np
import torch


def derive_seed(*parts) -> int:
    """A 64-bit seed from integers and strings; any difference in the parts gives an unrelated seed."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@contextlib.contextmanager
def seeded(seed: int):
    """Seed `random`, NumPy and torch's CPU generator inside the block; restore all three afterwards.

    All three, because a plugin's transform may draw from any of them. Not `torch.manual_seed`, which would
    also queue a call for every CUDA device.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy's limit
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class SampleIndex(int):
    """An index into a data set that also knows the seed of the pass it belongs to.

    It is an int to everyone who needs no more, and travels to worker processes by pickle.
    """

    def __new__(cls, index: int, pass_seed: int):
        self = super().__new__(cls, index)
        self.pass_seed = pass_seed
        return self

    def __reduce__(self):
        return SampleIndex, (int(self), self.pass_seed)

    @property
    def seed(self) -> int:
        """Seed of everything drawn for this sample in this pass."""
        return derive_seed(self.pass_seed, int(self))
