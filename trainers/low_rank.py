"""Low-rank changes (clipfit/low_rank.py): what their methods share."""

import torch

from clipfit import groups
from clipfit.low_rank import add_low_rank
from clipfit.modules.low_rank import LowRank
from dassl.data.seeding import derive_seed
from dassl.utils import ranks

from .base import CLIPTrainer


class LowRankTrainer(CLIPTrainer):
    """A method that trains low-rank changes, whose dropout masks follow from seed, epoch and batch alone.

    The ranks of a run draw the masks of the whole batch, and each takes those of its part.
    """

    def add_low_rank(self, maps: list[str], rank: int, scale: float, dropout: float) -> None:
        """Let low-rank changes of maps train, and print each map with its count."""
        for name, found in add_low_rank(self.clip, maps, rank, scale, dropout).items():
            count = sum(groups.count(change.parameters()) for change in found)
            print(f"  {name}: {count:,} parameters in {len(found)} changes of rank {rank}")

    def forward_backward(self, batch):
        part = ranks.taken()
        for module in self.clip.image_encoder.modules():
            if isinstance(module, LowRank):
                module.images = part and (part.start, part.stop, part.count)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed(self.cfg.SEED, "dropout", self.epoch, self.batch_idx))
            return super().forward_backward(batch)
