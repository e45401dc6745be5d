"""Text towers that read every position: nothing of clipfit/text.py's saving is exact for them.

Where no causal mask hides what stands behind a token, or the features are not read at the end-of-text token,
neither cutting the padding nor sharing the first rows leaves the features as they are. Such a tower reads
token ids, as its library computes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WholeTextEncoder(nn.Module):
    """Token ids (K, L), padded to the context length -> features (K, D), not normalized."""

    def __init__(self, text: nn.Module):
        super().__init__()
        self.text = text

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return next(self.text.parameters()).dtype

    @property
    def kept_per_row(self) -> int:
        """Numbers that the backward pass needs of one token, about: what goes into and out of linear maps."""
        kept = 0
        for module in self.text.modules():
            if isinstance(module, nn.Linear):
                kept += module.in_features + module.out_features
            elif isinstance(module, nn.MultiheadAttention):
                kept += 4 * module.embed_dim  # its packed query, key and value
        return kept + kept // 2  # norms and activations

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.text(tokens)
        return features[0] if isinstance(features, tuple) else features
