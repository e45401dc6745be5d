"""What ImageNet and its variants share: class names by WordNet id, class folders, mere test sets."""

import os

from dassl.data.datasets.base_dataset import ClassFolder, FolderImages
from datasets import splits
from datasets.listing import list_class_folders, no_pictures

CLASSNAMES = "classnames.txt"
SHIPPED_CLASSNAMES = os.path.join(os.path.dirname(__file__), CLASSNAMES)


def classnames_file(folder: str) -> str:
    """Path of the class names: those of the data set's folder, else those beside this code."""
    own = os.path.join(folder, CLASSNAMES)
    return own if os.path.isfile(own) else SHIPPED_CLASSNAMES


def read_classnames(text_file: str) -> dict[str, str]:
    """WordNet id -> class name, from lines like `n01440764 tench`, in the file's order.

    Raises: ValueError for a line without a name, and for an id with two lines
    """
    names = {}
    for line in splits.read_lines(text_file):
        wnid, *name = line.split(maxsplit=1)
        if not name:
            raise ValueError(f"{text_file}: {line!r} is no line like 'n01440764 tench'")
        if wnid in names:
            raise ValueError(f"{text_file}: {wnid} has two lines, {names[wnid]!r} and {name[0]!r}")
        names[wnid] = name[0]
    return names


def read_class_folders(folder: str, classnames: dict[str, str], cache: str = "") -> FolderImages:
    """Images of the class folders in `folder`; a label is a class's position in byte order.

    Args:
        classnames: folder -> class name; may name more classes than there are folders.
        cache: see `list_class_folders`.
    Raises: ValueError if there is no class folder, or one without a name or without images
    """
    listing = list_class_folders(folder, cache)
    if not listing:
        raise ValueError(f"{folder} holds no class folders; DATASETS.md shows the layout")
    unnamed = [name for name in listing if name not in classnames]
    if unnamed:
        raise ValueError(
            f"{folder}: {len(unnamed):,} of {len(listing):,} folders are no classes of classnames.txt "
            f"({', '.join(unnamed[:3])}); move them away"
        )
    return FolderImages(
        [
            ClassFolder(os.path.join(folder, name), _not_empty(folder, name, files), label, classnames[name])
            for label, (name, files) in enumerate(listing.items())
        ]
    )


def _not_empty(folder: str, name: str, files: str) -> str:
    if not files:
        raise ValueError(no_pictures(os.path.join(folder, name)))
    return files


class TestOnly(splits.SplitDataset):
    """Base of a shifted test set. Its images also stand as training list, so that there are class names."""

    lists_folders = True
    __test__ = False  # not a test case, whatever pytest makes of the name

    def read_or_make_split(self, seed: int) -> tuple[list, None, list]:
        """The images of all classes, in byte order of folders and files; there is no split file."""
        images = list(self.read_images())
        return images, None, images

    def read_images(self) -> FolderImages:
        """Hook: the images; by default those of class folders named by WordNet id."""
        return read_class_folders(self.image_dir, read_classnames(classnames_file(self.dataset_dir)))

    def select(self, cfg, train: list, val: None, test: list) -> tuple[list, None, list]:
        """All of it, whatever the config says, as in CoOp."""
        settings = cfg.DATASET
        asked = {
            f"DATASET.NUM_SHOTS {settings.NUM_SHOTS}": settings.NUM_SHOTS >= 1,
            f"DATASET.SUBSAMPLE_CLASSES {settings.SUBSAMPLE_CLASSES}": settings.SUBSAMPLE_CLASSES != "all",
            f"DATASET.FEWSHOT_LIST {settings.FEWSHOT_LIST}": bool(settings.FEWSHOT_LIST),
        }
        without_effect = [setting for setting, given in asked.items() if given]
        if without_effect:
            print(
                f"Warning: {type(self).__name__} is a test set, used with all its classes and images: "
                f"{' and '.join(without_effect)} {'has' if len(without_effect) == 1 else 'have'} no effect"
            )
        return train, val, test
