"""ImageNetV2, matched frequency: 10,000 new photographs of ImageNet's 1,000 classes, to test on.

Recht et al., ICML 2019, https://github.com/modestyachts/ImageNetV2. Folders are called `0` to `999`: the
label, which is the class's line in classnames.txt.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.datasets.base_dataset import FolderImages
from datasets import imagenet_like


@DATASET_REGISTRY.register()
class ImageNetV2(imagenet_like.TestOnly):
    dataset_dir = "imagenetv2"
    image_folder = "imagenetv2-matched-frequency-format-val"

    def read_images(self) -> FolderImages:
        """Raises: ValueError if the lines of classnames.txt are not in order, or folders are missing"""
        path = imagenet_like.classnames_file(self.dataset_dir)
        names = imagenet_like.read_classnames(path)
        if list(names) != sorted(names):
            raise ValueError(
                f"{path}: the lines must be sorted by WordNet id, because a folder's number is its line; "
                "take the file of ImageNet"
            )
        numbered = {str(label): name for label, name in enumerate(names.values())}
        missing = [number for number in numbered if not os.path.isdir(os.path.join(self.image_dir, number))]
        if missing:
            raise ValueError(
                f"{self.image_dir}: {len(missing):,} of the folders 0 to {len(numbered) - 1} do not exist "
                f"({', '.join(missing[:3])}); {self.advice()}"
            )
        images = imagenet_like.read_class_folders(self.image_dir, numbered)
        # Byte order is 0, 1, 10, 100, ...; labels are the folders' numbers, and the list follows them.
        folders = [f._replace(label=int(os.path.basename(f.folder))) for f in images.folders]
        return FolderImages(sorted(folders, key=lambda folder: folder.label))
