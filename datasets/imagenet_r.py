"""ImageNet-R: 30,000 renditions (art, toys, tattoos, ...) of 200 of ImageNet's classes, to test on.

Hendrycks et al., ICCV 2021, https://github.com/hendrycks/imagenet-r. Labels are positions among the 200
classes, not ImageNet's labels.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet_like import TestOnly


@DATASET_REGISTRY.register()
class ImageNetR(TestOnly):
    dataset_dir = "imagenet-rendition"
    image_folder = "imagenet-r"
