"""ImageNet-Sketch: 50,889 sketches of ImageNet's 1,000 classes, to test on.

Wang et al., NeurIPS 2019, https://github.com/HaohanWang/ImageNet-Sketch.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet_like import TestOnly


@DATASET_REGISTRY.register()
class ImageNetSketch(TestOnly):
    dataset_dir = "imagenet-sketch"
