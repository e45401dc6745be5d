"""FGVC Aircraft: 100 variants of aircraft, 10,000 images.

Maji et al., 2013, https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/. The split is the official one.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets import splits


@DATASET_REGISTRY.register()
class FGVCAircraft(splits.SplitDataset):
    dataset_dir = "fgvc_aircraft"

    def read_or_make_split(self, seed: int):
        """The official lists; there is no split file."""
        variants = splits.read_lines(self.annotation("variants.txt"))
        labels = {name: label for label, name in enumerate(variants)}
        return tuple(self._read_list(f"images_variant_{part}.txt", labels) for part in splits.LISTS)

    def _read_list(self, name: str, labels: dict[str, int]) -> list[Datum]:
        """Items of a list with lines of `image variant`; a variant may contain spaces.

        Raises: ValueError for a variant that is not in variants.txt
        """
        path, items = self.annotation(name), []
        for line in splits.read_lines(path):
            image, _, variant = line.replace("\t", " ").partition(" ")
            if variant not in labels:
                raise ValueError(f"{path}: {line!r} names no variant of variants.txt")
            items.append(Datum(os.path.join(self.image_dir, f"{image}.jpg"), labels[variant], 0, variant))
        return items
