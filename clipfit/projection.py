"""The last matrix of an image tower, and the tower before it."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain

from torch import Tensor, nn

from clipfit.clip import CLIP
from clipfit.modules import ModifiedResNet
from clipfit.vision import in_pieces


class Projection:
    """What takes features of width d, the class token's behind its LayerNorm or pooled ones, to D.

    Attributes: weight, `visual.proj` (d, D), or of a ResNet `visual.attnpool.c_proj.weight` (D, d)
                body, the tower without it, over the same tensors
    Raises:     ValueError for a tower that ends otherwise
    """

    def __init__(self, clip: CLIP):
        tower = clip.image_encoder
        tensors = chain(tower.parameters(), tower.buffers())
        self._dtype = clip.dtype
        self.body = deepcopy(tower, {id(tensor): tensor for tensor in tensors})  # shares them
        if isinstance(tower, ModifiedResNet):
            self.weight, self._project = tower.attnpool.c_proj.weight, tower.attnpool.c_proj
            self.body.attnpool.c_proj = nn.Identity()
        elif isinstance(getattr(tower, "proj", None), nn.Parameter):
            self.weight, self._project = tower.proj, lambda x: x @ tower.proj
            self.body.proj = None
        else:
            raise ValueError(
                f"this image tower is a {type(tower).__name__} that does not end in one matrix; choose a "
                "backbone of OpenAI's form"
            )

    def before(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized pixels -> (B, d)."""
        return in_pieces(self.body, images.type(self._dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, d) -> (B, D) features, not normalized."""
        return self._project(x)
