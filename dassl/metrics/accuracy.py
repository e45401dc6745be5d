"""Accuracy of a batch."""

from collections.abc import Sequence

import torch


def compute_accuracy(output, target: torch.Tensor, topk: Sequence[int] = (1,)) -> list[torch.Tensor]:
    """Percentage of images whose label is among the k highest scores, for every k.

    Args:    output (B, K) scores, or a tuple or list that begins with them; target (B,) labels
    Returns: one tensor of one element per k
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    ranked = output.topk(max(topk), dim=1).indices  # (B, max k), best first
    hits = ranked == target.view(-1, 1)
    return [hits[:, :k].sum().float().view(1) * (100.0 / len(target)) for k in topk]
