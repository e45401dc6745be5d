"""Describable Textures (DTD): 47 textures, 5,640 images.

Cimpoi et al., CVPR 2014, https://www.robots.ox.ac.uk/~vgg/data/dtd/. The split is CoOp's; the ten official
splits in `labels/` are not used.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets import splits


@DATASET_REGISTRY.register()
class DescribableTextures(splits.SplitDataset):
    dataset_dir = "dtd"
    split_file = "split_zhou_DescribableTextures.json"

    read_and_split_data = staticmethod(splits.read_and_split_data)  # plugins of the family look for it here

    def make_split(self, rng):
        return splits.read_and_split_data(self.image_dir, rng=rng)
