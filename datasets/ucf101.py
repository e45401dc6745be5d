"""UCF101: 101 human actions, one frame from the middle of each of 13,320 videos.

Soomro et al., 2012, https://www.crcv.ucf.edu/data/UCF101.php. Split 1 of the official three.
"""

import os
import re

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets import splits


@DATASET_REGISTRY.register()
class UCF101(splits.SplitDataset):
    dataset_dir = "ucf101"
    image_folder = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"

    def make_split(self, rng):
        labels = {}  # action -> label
        path = self.annotation("ucfTrainTestlist", "classInd.txt")
        for line in splits.read_lines(path):
            number, action = splits.fields(path, line, "number action")
            labels[action] = int(number) - 1
        train, val = splits.split_trainval(self._read_list("trainlist01.txt", labels), rng=rng)
        return train, val, self._read_list("testlist01.txt", labels)

    def _read_list(self, name: str, labels: dict[str, int]) -> list[Datum]:
        """Items of a list with lines like `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`.

        Raises: ValueError for an action that is not in classInd.txt
        """
        path, items = self.annotation("ucfTrainTestlist", name), []
        for line in splits.read_lines(path):
            action, _, video = line.split()[0].replace("\\", "/").partition("/")
            if action not in labels:
                raise ValueError(f"{path}: {line!r} is of no action of classInd.txt")
            words = spaced(action)
            image = os.path.join(self.image_dir, words, video.removesuffix(".avi") + ".jpg")
            items.append(Datum(image, labels[action], 0, words))
        return items


def spaced(action: str) -> str:
    """`ApplyEyeMakeup` -> `Apply_Eye_Makeup`: the name of the class and of its folder."""
    return "_".join(re.findall("[A-Z][^A-Z]*", action))
