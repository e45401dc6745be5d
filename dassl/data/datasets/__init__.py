"""Lists of labelled images: what a data set plugin builds and registers."""

from dassl.data.datasets.base_dataset import DatasetBase, Datum, validates_on_test
from dassl.data.datasets.build import DATASET_REGISTRY, build_dataset

__all__ = ["DATASET_REGISTRY", "DatasetBase", "Datum", "build_dataset", "validates_on_test"]
