"""EuroSAT: 10 kinds of land seen by a satellite, 27,000 images (RGB).

Helber et al., IEEE JSTARS 2019, https://github.com/phelber/EuroSAT.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets import splits

NEW_CNAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(splits.SplitDataset):
    dataset_dir = "eurosat"
    image_folder = "2750"
    split_file = "split_zhou_EuroSAT.json"

    def make_split(self, rng):
        return splits.read_and_split_data(self.image_dir, new_cnames=NEW_CNAMES, rng=rng)
