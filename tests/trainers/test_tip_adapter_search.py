"""The search for alpha and beta on scores that are known beforehand."""

import pytest
import torch

from trainers.tip_adapter_search import IMAGES_AT_A_TIME, best_pair, count_correct

FEATURES = torch.tensor([[3.0, 4.0]]).repeat(2 * IMAGES_AT_A_TIME + 1, 1)  # in three pieces
LABELS = torch.arange(len(FEATURES)) % 2


def right_from(alpha, beta):
    """Scores that are right for class 1 where both values are at least these, elsewhere for class 0."""

    def scores(x, alphas, now):
        assert torch.allclose(x.norm(dim=-1), torch.ones(len(x)))
        first = ((alphas >= alpha) & (now >= beta)).float().expand(len(alphas), len(x), 1)
        return torch.cat([1 - first, first], dim=-1)

    return scores


def test_every_image_counts_for_every_pair():
    counts = count_correct(
        right_from(0.5, 2.0), FEATURES, LABELS, torch.tensor([0.2, 0.5]), torch.tensor([1.0, 2.0])
    )
    zeros, ones = IMAGES_AT_A_TIME + 1, IMAGES_AT_A_TIME
    assert counts.tolist() == [[zeros, zeros], [zeros, ones]]  # rows: beta


@pytest.mark.parametrize(
    "labels, expected",
    [
        (torch.ones_like(LABELS), (0.1 + 2 * 0.58, 0.1 + 3 * 1.38)),  # the first pair at or above the bounds
        (torch.zeros_like(LABELS), (0.1, 0.1)),  # many are equal: the first of the grid
    ],
)
def test_the_first_best_pair_is_taken(labels, expected):
    alpha, beta, correct = best_pair(right_from(1.0, 4.0), FEATURES, labels, scale=(7, 3), steps=(5, 5))
    assert (float(alpha), float(beta)) == pytest.approx(expected)
    assert correct == len(labels)
