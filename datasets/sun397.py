"""SUN397: 397 kinds of places, 39,700 images of the first official partition.

Xiao et al., CVPR 2010, https://vision.princeton.edu/projects/2010/SUN/.
"""

import os

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets import splits


@DATASET_REGISTRY.register()
class SUN397(splits.SplitDataset):
    dataset_dir = "sun397"
    image_folder = "SUN397"
    split_file = "split_zhou_SUN397.json"

    def make_split(self, rng):
        lines = splits.read_lines(self.annotation("ClassName.txt"))
        labels = {line.replace("\\", "/").removeprefix("/"): label for label, line in enumerate(lines)}
        train, val = splits.split_trainval(self._read_list("Training_01.txt", labels), rng=rng)
        return train, val, self._read_list("Testing_01.txt", labels)

    def _read_list(self, name: str, labels: dict[str, int]) -> list[Datum]:
        """Items of a list with lines like `/c/church/indoor/sun_a.jpg`.

        Raises: ValueError for a class that is not in ClassName.txt
        """
        path, items = self.annotation(name), []
        for line in splits.read_lines(path):
            image = line.replace("\\", "/").removeprefix("/")
            folder = os.path.dirname(image)
            if folder not in labels:
                raise ValueError(f"{path}: {line!r} is of no class of ClassName.txt")
            items.append(Datum(os.path.join(self.image_dir, image), labels[folder], 0, place(folder)))
        return items


def place(folder: str) -> str:
    """`c/church/indoor` -> `indoor church`."""
    return " ".join(reversed(folder.split("/")[1:]))
