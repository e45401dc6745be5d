"""Tip-Adapter's search for alpha and beta: a grid, tried on features that are computed once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clipfit.clip import normalize
from dassl.data.datasets import build_dataset, validates_on_test

SMALLEST = 0.1  # value of alpha and of beta
IMAGES_AT_A_TIME = 1024

Scores = Callable[[Tensor, Tensor, Tensor], Tensor]  # unit x (B, D), alphas (A, 1, 1), beta () -> (A, B, K)


def best_pair(
    scores: Scores, features: Tensor, labels: Tensor, scale: Sequence[float], steps: Sequence[int]
) -> tuple[Tensor, Tensor, int]:
    """The first pair of the grid, beta slower, with the highest accuracy.

    Args:    features (N, D), not normalized; labels (N,); scale, where the grid of beta and that of alpha end
             (without that value); steps, how many values each of them has
    Returns: alpha, beta, how many images they get right
    """
    betas, alphas = (
        torch.tensor([SMALLEST + i * (end - SMALLEST) / count for i in range(count)], device=features.device)
        for end, count in zip(scale, steps, strict=True)
    )
    correct = count_correct(scores, features, labels, alphas, betas).flatten()
    first = int((correct == correct.max()).nonzero()[0])
    return alphas[first % len(alphas)], betas[first // len(alphas)], int(correct[first])


def count_correct(scores: Scores, features: Tensor, labels: Tensor, alphas: Tensor, betas: Tensor) -> Tensor:
    """How many of the images, features (N, D) and labels (N,), each pair gets right: (betas, alphas)."""
    correct = torch.zeros(len(betas), len(alphas), dtype=torch.long, device=features.device)
    parts = normalize(features).split(IMAGES_AT_A_TIME), labels.split(IMAGES_AT_A_TIME)
    for x, truth in zip(*parts, strict=True):
        for row, beta in enumerate(betas):
            predicted = scores(x, alphas[:, None, None], beta).argmax(dim=-1)  # (alphas, N)
            correct[row] += (predicted == truth).sum(dim=-1)
    return correct


def validation_split(cfg) -> list | None:
    """The whole validation split, not its few shots; None where the data set validates on its test images."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.FEWSHOT_LIST = -1, ""
    dataset = build_dataset(cfg)
    return None if validates_on_test(dataset) else dataset.val
