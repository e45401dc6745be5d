"""From a data set's lists of images to batches: data sets, transforms, samplers, loaders."""

from dassl.data.data_manager import DataManager, DatasetWrapper, build_data_loader

__all__ = ["DataManager", "DatasetWrapper", "build_data_loader"]
