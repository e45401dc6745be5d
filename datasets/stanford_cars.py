"""Stanford Cars: 196 models of cars, 16,185 images.

Krause et al., 3dRR 2013. The publisher's page is gone since 2023.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets import splits


@DATASET_REGISTRY.register()
class StanfordCars(splits.SplitDataset):
    dataset_dir = "stanford_cars"
    image_folder = ""  # paths start with cars_train/ or cars_test/
    split_file = "split_zhou_StanfordCars.json"

    def make_split(self, rng):
        trainval = self._read_annotations("cars_train", "devkit", "cars_train_annos.mat")
        test = self._read_annotations("cars_test", "cars_test_annos_withlabels.mat")
        return *splits.split_trainval(trainval, rng=rng), test

    def _read_annotations(self, folder: str, *file: str) -> list[Datum]:
        """Items of an annotation file, whose classes count from 1."""
        names = splits.read_mat(self.annotation("devkit", "cars_meta.mat"), "class_names")
        items = []
        for entry in splits.read_mat(self.annotation(*file), "annotations"):
            label = int(entry["class"]) - 1
            path = os.path.join(self.image_dir, folder, str(entry["fname"]))
            items.append(Datum(path, label, 0, year_first(str(names[label]))))
        return items


def year_first(name: str) -> str:
    """`Acura RL Sedan 2012` -> `2012 Acura RL Sedan`."""
    model, _, year = name.rpartition(" ")
    return f"{year} {model}"
