"""ImageNet-A: 7,500 photographs of 200 of ImageNet's classes on which ResNet-50 fails, to test on.

Hendrycks et al., CVPR 2021, https://github.com/hendrycks/natural-adv-examples. Labels are positions among the
200 classes, not ImageNet's labels.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet_like import TestOnly


@DATASET_REGISTRY.register()
class ImageNetA(TestOnly):
    dataset_dir = "imagenet-adversarial"
    image_folder = "imagenet-a"
