"""Caltech101: 100 classes of objects, 8,242 images.

Fei-Fei et al., CVPR Workshop 2004, https://data.caltech.edu/records/20086. As in CoOp, without the background
images and without `Faces_easy`.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets import splits

IGNORED = ("BACKGROUND_Google", "Faces_easy")
NEW_CNAMES = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
}


@DATASET_REGISTRY.register()
class Caltech101(splits.SplitDataset):
    dataset_dir = "caltech-101"
    image_folder = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"

    def make_split(self, rng):
        return splits.read_and_split_data(self.image_dir, ignored=IGNORED, new_cnames=NEW_CNAMES, rng=rng)
