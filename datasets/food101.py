"""Food101: 101 dishes, 101,000 images.

Bossard et al., ECCV 2014, https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/. The split is CoOp's;
the official lists in `meta/` are not used.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets import splits


@DATASET_REGISTRY.register()
class Food101(splits.SplitDataset):
    dataset_dir = "food-101"
    split_file = "split_zhou_Food101.json"

    def make_split(self, rng):
        return splits.read_and_split_data(self.image_dir, rng=rng)
