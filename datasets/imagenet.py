"""ImageNet (ILSVRC 2012): 1,000 classes, 1,281,167 training and 50,000 validation images.

Russakovsky et al., IJCV 2015, https://image-net.org. As in CoOp, the validation images are the test set, and
at the same time `val`: there are no others. The names of the files are remembered, see `listing.py`. A run
that only tests needs `val` alone, whose images then stand as training list too: it tells the class names.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.datasets.base_dataset import only_list_read
from datasets import imagenet_like, splits


@DATASET_REGISTRY.register()
class ImageNet(splits.SplitDataset):
    dataset_dir = "imagenet"
    lists_folders = True

    read_classnames = staticmethod(imagenet_like.read_classnames)  # plugins of the family look for it here

    def prepare(self, cfg) -> None:
        super().prepare(cfg)
        for part in _parts():
            self.require_folder(os.path.join(self.image_dir, part))

    def read_or_make_split(self, seed: int):
        """The class folders in byte order; there is no split file.

        Raises: ValueError if `images/train` and `images/val` have not the same class folders
        """
        names = imagenet_like.read_classnames(imagenet_like.classnames_file(self.dataset_dir))
        listed = [
            imagenet_like.read_class_folders(
                os.path.join(self.image_dir, part),
                names,
                cache="" if self.read_only else os.path.join(self.dataset_dir, f"listing_{part}.jsonl"),
            )
            for part in _parts()
        ]
        train, val = listed[0], listed[-1]
        classes = [{os.path.basename(folder.folder) for folder in images.folders} for images in (train, val)]
        unequal = sorted(classes[0] ^ classes[1])
        if unequal:
            raise ValueError(
                f"{self.image_dir}: train has {len(classes[0]):,} class folders and val {len(classes[1]):,}; "
                f"in only one of them: {', '.join(unequal[:3])}"
            )
        test = list(val)
        print("ImageNet has no validation images beside its test images: val is the test list")
        return train, test, test

    def pick_images(self, cfg, train, val: list):
        """As elsewhere for train; val stays whole. In a test nothing is picked."""
        if only_list_read():
            return train, val
        return super().pick_images(cfg, train, [])[0], val

    def listed_images(self, path: str, train) -> list:
        """As elsewhere, but without looking at a million images that are in none of the listed folders."""
        folders = {os.path.basename(os.path.dirname(image)) for image in splits.read_image_list(path)}
        return super().listed_images(path, train.in_folders(folders) or train)


def _parts() -> tuple[str, ...]:
    """The folders of images that a run reads."""
    return ("val",) if only_list_read() else ("train", "val")
