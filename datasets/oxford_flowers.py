"""Oxford Flowers: 102 flowers, 8,189 images.

Nilsback and Zisserman, ICVGIP 2008, https://www.robots.ox.ac.uk/~vgg/data/flowers/102/. The split is CoOp's;
the official one in `setid.mat` is not used.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.data.datasets.base_dataset import group_by_label
from dassl.utils import read_json
from datasets import splits


@DATASET_REGISTRY.register()
class OxfordFlowers(splits.SplitDataset):
    dataset_dir = "oxford_flowers"
    image_folder = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"

    def make_split(self, rng):
        names = read_json(self.annotation("cat_to_name.json"))  # id, counted from 1 -> name
        ids = splits.read_mat(self.annotation("imagelabels.mat"), "labels")  # one per image
        items = [
            Datum(os.path.join(self.image_dir, f"image_{number:05d}.jpg"), int(i) - 1, 0, names[str(i)])
            for number, i in enumerate(ids, start=1)
        ]
        return splits.split_classes(group_by_label(items).values(), rng=rng)
