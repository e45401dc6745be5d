"""Image transforms, chosen by name in the config."""

from dassl.data.transforms.transforms import INTERPOLATION_MODES, build_transform, interpolation_mode

__all__ = ["INTERPOLATION_MODES", "build_transform", "interpolation_mode"]
