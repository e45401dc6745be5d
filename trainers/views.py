"""A cache of views: features of augmented training images, from before the first layer that trains.

What trains behind frozen layers sees the same few augmentations again and again instead of fresh ones; where
that is not the method's own definition it is an approximation, and the result says how many views there are.
"""

from collections.abc import Callable
from operator import itemgetter

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dassl.data.samplers import SequentialSampler
from dassl.utils import ranks
from dassl.utils.shared_steps import rows_of_all

from .base import CLIPTrainer


class Views(Dataset):
    """Features (N, ...) of `count` augmented views of all training images, in the order of their list.

    View v of an image follows from the seed, v and the image's place in the list. A view is computed when it
    is asked for, in the batches of tests. It stays in memory as far as FEATURES.VIEWS_GB reaches; others are
    computed again, or found in FEATURES.STORE, whenever they are asked for. The ranks of a run share the
    images of a view that is computed, and each has the features of all.

    Args: encode, images (B, 3, H, W) -> features (B, ...); called without gradients
    """

    def __init__(self, trainer: CLIPTrainer, count: int, encode: Callable[[Tensor], Tensor]):
        items = trainer.dm.dataset.train_x
        self._trainer, self._count, self._encode = trainer, count, encode
        self._loader = trainer.loader("train_x", items, is_train=True, passes=count)
        self._labels = torch.tensor([item.label for item in items], device=trainer.device)
        self._kept: dict[int, Tensor] = {}
        self._left = trainer.cfg.FEATURES.VIEWS_GB * 1e9  # bytes

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, view: int) -> dict[str, Tensor]:
        """A view as a batch of all images: features (N, ...) and labels (N,).

        Raises: IndexError for a view that there is not
        """
        if not 0 <= view < self._count:
            raise IndexError(f"there is no view {view}: views are 0 to {self._count - 1}")
        features = self._kept.get(int(view))
        if features is None:
            features = self._compute(view)
            if features.nbytes <= self._left:
                self._left -= features.nbytes
                self._kept[int(view)] = features
        return {"img": features, "label": self._labels}

    @torch.no_grad()
    def _compute(self, view: int) -> Tensor:
        self._loader.sampler.passes.begun = int(view)
        with self._trainer.autocast(), ranks.sharing():
            batches = (self._trainer.parse_batch_test(batch)[0] for batch in self._loader)
            parts = [(self._encode(images), ranks.taken()) for images in batches]
        return rows_of_all(parts)


class ViewTrainer(CLIPTrainer):
    """A method that trains behind frozen layers: a step takes one of VIEWS views of all training images.

    An epoch is a pass over the views. `loss` gets features in the place of images.
    """

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        node = self._node()
        if cfg.TRAINER[node].VIEWS < 1:
            raise ValueError(f"TRAINER.{node}.VIEWS is {cfg.TRAINER[node].VIEWS}; choose at least 1")
        if cfg.TRAINER.UPDATE_LAYERNORM:
            raise ValueError(
                f"TRAINER.UPDATE_LAYERNORM: {cfg.TRAINER.NAME} trains on features of views that the frozen "
                "layers of the image encoder gave; choose another --trainer"
            )

    def encode_view(self, images: Tensor) -> Tensor:
        """What a view keeps of images (B, 3, H, W): features (B, ...); those in the joint space."""
        return self.image_features(images)

    def build_data_loader(self):
        super().build_data_loader()
        views = Views(self, self.hp.VIEWS, lambda images: self.encode_view(images))
        self.train_loader_x = DataLoader(
            views,
            batch_size=1,
            sampler=SequentialSampler(views, self.cfg.SEED),
            collate_fn=itemgetter(0),
            generator=torch.Generator(),  # so that a pass draws nothing from the global one
        )

    def extras(self) -> list[str]:
        return [*super().extras(), f"{self.hp.VIEWS:,} cached views"]
