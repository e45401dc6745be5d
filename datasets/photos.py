"""Own pictures, in any form that datasets/pictures/ reads: `python train.py --images PATH`.

Pictures are turned upright and laid on white where they are transparent. Nothing is written where they lie.
"""

from pathlib import Path

from clipfit.io.files import atomic_write
from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.run_folder import PARTS
from datasets.pictures.taken import take
from datasets.splits import SplitDataset


@DATASET_REGISTRY.register()
class Photos(SplitDataset):
    """Raises: as datasets.pictures.taken.take; ValueError without DATASET.IMAGES"""

    upright = True
    own_pictures = True  # DATASET.IMAGES names them: without it there is no such data set

    def locate(self, root):
        """Own pictures lie in no data root: `prepare` finds them."""

    def prepare(self, cfg):
        if not cfg.DATASET.IMAGES:
            raise ValueError(
                "which pictures? --images PATH names a folder with a folder per class, or a list"
            )
        self.taken = take(cfg.DATASET.IMAGES, cfg.DATASET.TEST_SHARE)
        self.dataset_dir = self.image_dir = self.taken.found.folder
        if cfg.VERBOSE:
            print("\n".join(self.taken.summary()))

    def read_or_make_split(self, seed):
        labels = {label: number for number, label in enumerate(self.taken.classes())}
        train, val, test = (
            [Datum(r.picture.path, labels[r.picture.label], 0, r.name) for r in self.taken.part(part)]
            for part in ("train", "val", "test")
        )
        return train, val, test

    def write_records(self, folder):
        """parts.csv in the run folder: where each picture went."""
        with atomic_write(Path(folder, PARTS)) as file:
            file.write(self.taken.parts_csv())
