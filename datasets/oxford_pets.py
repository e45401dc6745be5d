"""Oxford-IIIT Pets: 37 breeds of cats and dogs, 7,349 images.

Parkhi et al., CVPR 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets import splits


@DATASET_REGISTRY.register()
class OxfordPets(splits.SplitDataset):
    dataset_dir = "oxford_pets"
    split_file = "split_zhou_OxfordPets.json"

    # Plugins of the family look for these here.
    read_split = staticmethod(splits.read_split)
    save_split = staticmethod(splits.save_split)
    split_trainval = staticmethod(splits.split_trainval)
    subsample_classes = staticmethod(splits.subsample_classes)

    def make_split(self, rng):
        train, val = splits.split_trainval(self._read_list("trainval.txt"), rng=rng)
        return train, val, self._read_list("test.txt")

    def _read_list(self, name: str) -> list[Datum]:
        """Items of an official list, lines of `image class species breed`; the class counts from 1."""
        items = []
        path = self.annotation("annotations", name)
        for line in splits.read_lines(path):
            image, label, _, _ = splits.fields(path, line, "image class species breed")
            breed = image.rpartition("_")[0].lower()  # american_bulldog of American_Bulldog_12
            items.append(Datum(os.path.join(self.image_dir, f"{image}.jpg"), int(label) - 1, 0, breed))
        return items
