"""Six embedded data sets: drawn classes under conditions that the embedded backbone never saw.

| data set   | classes                      | pictures                           |
|------------|------------------------------|------------------------------------|
| Demo       | 20 figures                   | by a lamp: warm, dark, grainy      |
| DemoV2     | the same                     | by the lamp, in mist: pale, soft   |
| DemoSketch | the same                     | pencil and thin color, by the lamp |
| DemoGarden | 24 flowers, leaves and trees | as Demo                            |
| DemoCloth  | 16 two-colored patterns      | by a candle: warmer still          |
| DemoSigns  | 12 signs                     | as Demo                            |

The first use draws a data set as PNG files into `<root>/<name>`, with a split file in CoOp's format; where
the root cannot be written, into `clipfit/<name>` of the user's cache folder ($XDG_CACHE_HOME or ~/.cache).
The folder appears in one step, whole: several processes may start at once, and a killed one leaves nothing
that could be taken for a data set. `drawn.json` in it records the digest of all files. It is checked at every
start, and a folder that was changed is refused, so that the pictures on a machine never change unnoticed.
What a picture holds is remembered until it is touched (clipfit/io/digests.py).
"""

import errno
from pathlib import Path

from clipfit.io.files import user_cache
from dassl.data.datasets import DATASET_REGISTRY

from .drawing.folder import SPLIT_FILE, draw_once
from .splits import SplitDataset

PER_CLASS = {"train": 20, "val": 6, "test": 30}  # pictures

# The order is that of the labels: the first half are the base classes, the second half the new ones.
DEMO = (
    "striped red star",
    "striped orange star",
    "dotted blue fish",
    "wavy blue fish",
    "dotted purple heart",
    "ringed pink heart",
    "checkered green house",
    "checkered teal house",
    "netted yellow moon",
    "netted white moon",
    "wavy red flower",
    "ringed red flower",
    "striped brown tree",
    "striped green tree",
    "rayed orange cloud",
    "rayed yellow cloud",
    "dotted pink cross",
    "dotted white cross",
    "checkered blue leaf",
    "checkered purple leaf",
)
GARDEN = (
    "plain red flower",
    "dotted red flower",
    "rayed pink flower",
    "ringed purple flower",
    "striped green leaf",
    "striped brown leaf",
    "netted green leaf",
    "plain orange leaf",
    "checkered teal tree",
    "wavy green tree",
    "dotted white tree",
    "plain brown tree",
    "striped pink flower",
    "striped white flower",
    "netted orange flower",
    "plain yellow flower",
    "wavy brown leaf",
    "wavy purple leaf",
    "ringed teal leaf",
    "dotted green leaf",
    "rayed blue tree",
    "rayed gray tree",
    "checkered black tree",
    "netted red tree",
)
CLOTH = (
    "red and white striped cloth",
    "red and white checkered cloth",
    "orange and blue dotted cloth",
    "orange and purple dotted cloth",
    "green and brown wavy cloth",
    "green and brown netted cloth",
    "teal and pink ringed cloth",
    "yellow and black rayed cloth",
    "blue and white striped cloth",
    "blue and gray striped cloth",
    "red and teal checkered cloth",
    "red and green checkered cloth",
    "purple and pink dotted cloth",
    "purple and pink wavy cloth",
    "yellow and brown netted cloth",
    "orange and white rayed cloth",
)
SIGNS = (
    "red triangle sign with a fish",
    "red circle sign with a fish",
    "blue square sign with a house",
    "purple square sign with a house",
    "yellow diamond sign with a cross",
    "yellow diamond sign with a star",
    "orange triangle sign with a heart",
    "brown triangle sign with a heart",
    "green circle sign with a tree",
    "green square sign with a tree",
    "black diamond sign with a moon",
    "gray diamond sign with a moon",
)

HELD_OUT = (*DEMO, *GARDEN, *CLOTH, *SIGNS)  # scripts/demo/pretrain.py shows the backbone none of these


class DrawnDataset(SplitDataset):
    """A data set that is drawn on first use; a subclass names its classes and their condition."""

    classes: tuple[str, ...]
    condition: str  # a key of drawing.picture.CONDITIONS
    split_file = SPLIT_FILE

    def prepare(self, cfg) -> None:
        """Draw the data set if it is not there yet.

        Raises: ValueError if the folder holds anything else than what was drawn
        """
        folder = Path(self.dataset_dir)
        try:
            draw_once(folder, self.classes, self.condition, PER_CLASS)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            fallback = user_cache() / folder.name
            print(f"{folder} cannot be written ({error.strerror}); using {fallback}")
            folder = fallback
            draw_once(folder, self.classes, self.condition, PER_CLASS)
        self.dataset_dir = str(folder)
        self.image_dir = str(folder / self.image_folder)


@DATASET_REGISTRY.register()
class Demo(DrawnDataset):
    dataset_dir, classes, condition = "demo", DEMO, "lamp"


@DATASET_REGISTRY.register()
class DemoV2(DrawnDataset):
    dataset_dir, classes, condition = "demo_v2", DEMO, "mist"


@DATASET_REGISTRY.register()
class DemoSketch(DrawnDataset):
    dataset_dir, classes, condition = "demo_sketch", DEMO, "sketch"


@DATASET_REGISTRY.register()
class DemoGarden(DrawnDataset):
    dataset_dir, classes, condition = "demo_garden", GARDEN, "lamp"


@DATASET_REGISTRY.register()
class DemoCloth(DrawnDataset):
    dataset_dir, classes, condition = "demo_cloth", CLOTH, "candle"


@DATASET_REGISTRY.register()
class DemoSigns(DrawnDataset):
    dataset_dir, classes, condition = "demo_signs", SIGNS, "lamp"
