"""`build_transform`: the transforms named in `INPUT.TRANSFORMS`, in one fixed order.

torchvision's own wherever it has them. Everything random draws from torch's global generator, as torchvision
does.
"""

from torchvision.transforms import (
    AutoAugment,
    AutoAugmentPolicy,
    ColorJitter,
    Compose,
    GaussianBlur,
    InterpolationMode,
    Normalize,
    RandAugment,
    RandomApply,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)

from clipfit.io.names import unknown_name
from clipfit.io.pictures import INTERPOLATIONS, evaluation_transform, interpolation
from dassl.config import completed
from dassl.data.transforms.for_plugins import (
    Cutout,
    GaussianNoise,
    InstanceNormalization,
    RandomTranslation,
)

INTERPOLATION_MODES = {name: interpolation(name) for name in INTERPOLATIONS}

AUTOAUGMENT_POLICIES = {
    "imagenet_policy": AutoAugmentPolicy.IMAGENET,
    "cifar10_policy": AutoAugmentPolicy.CIFAR10,
    "svhn_policy": AutoAugmentPolicy.SVHN,
}

NOT_PROVIDED = (
    "randaugment_fixmatch",
    "randaugment2",
)  # of semi-supervised learning; torchvision has no equal

AVAILABLE_CHOICES = (
    "center_crop",
    "random_translation",
    "random_crop",
    "random_resized_crop",
    "random_flip",
    *AUTOAUGMENT_POLICIES,
    "randaugment",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
    "cutout",
    "normalize",
    "gaussian_noise",
    "instance_norm",
)


def interpolation_mode(cfg) -> InterpolationMode:
    """The mode called `INPUT.INTERPOLATION`. Raises: ValueError for an unknown name."""
    return interpolation(cfg.INPUT.INTERPOLATION)


def build_transform(cfg, is_train: bool = True, choices=None):
    """The transform from a PIL image to a (3, H, W) float tensor, or None under `INPUT.NO_TRANSFORM`.

    Args:
        choices: names used instead of `INPUT.TRANSFORMS`; their order does not matter.
    Raises: ValueError for an unknown choice.
    """
    cfg = completed(cfg)
    if cfg.INPUT.NO_TRANSFORM:
        return None
    chosen = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in chosen:
        if choice in NOT_PROVIDED:
            raise ValueError(f"INPUT.TRANSFORMS: {choice!r} is not provided; use 'randaugment'")
        if choice not in AVAILABLE_CHOICES:
            raise ValueError(unknown_name("choice in INPUT.TRANSFORMS", choice, list(AVAILABLE_CHOICES)))
    steps = _train_steps(cfg, chosen) if is_train else _test_steps(cfg, chosen)
    return Compose(steps)


def _train_steps(cfg, chosen) -> list:
    settings = cfg.INPUT
    size = tuple(settings.SIZE)  # (H, W)
    mode = interpolation_mode(cfg)

    steps = []
    if "random_crop" not in chosen and "random_resized_crop" not in chosen:
        steps.append(Resize(size, interpolation=mode))
    if "random_translation" in chosen:
        steps.append(RandomTranslation(size))
    if "random_crop" in chosen:
        steps.append(RandomCrop(size, padding=settings.CROP_PADDING))
    if "random_resized_crop" in chosen:
        steps.append(RandomResizedCrop(size, scale=settings.RRCROP_SCALE, interpolation=mode))
    if "random_flip" in chosen:
        steps.append(RandomHorizontalFlip())
    steps += [AutoAugment(policy) for name, policy in AUTOAUGMENT_POLICIES.items() if name in chosen]
    if "randaugment" in chosen:
        steps.append(RandAugment(num_ops=settings.RANDAUGMENT_N, magnitude=settings.RANDAUGMENT_M))
    if "colorjitter" in chosen:
        steps.append(
            ColorJitter(
                brightness=settings.COLORJITTER_B,
                contrast=settings.COLORJITTER_C,
                saturation=settings.COLORJITTER_S,
                hue=settings.COLORJITTER_H,
            )
        )
    if "randomgrayscale" in chosen:
        steps.append(RandomGrayscale(p=settings.RGS_P))
    if "gaussian_blur" in chosen:
        steps.append(RandomApply([GaussianBlur(settings.GB_K)], p=settings.GB_P))
    steps.append(ToTensor())
    if "cutout" in chosen:
        steps.append(Cutout(settings.CUTOUT_N, settings.CUTOUT_LEN))
    if "normalize" in chosen:
        steps.append(Normalize(mean=settings.PIXEL_MEAN, std=settings.PIXEL_STD))
    if "gaussian_noise" in chosen:
        steps.append(GaussianNoise(settings.GN_MEAN, settings.GN_STD))
    if "instance_norm" in chosen:
        steps.append(InstanceNormalization())
    return steps


def _test_steps(cfg, chosen) -> list:
    """Resized to `INPUT.SIZE` as `INPUT.RESIZE` says; of the choices the normalizations."""
    settings = cfg.INPUT
    normalization = (settings.PIXEL_MEAN, settings.PIXEL_STD) if "normalize" in chosen else ()
    steps = evaluation_transform(
        settings.SIZE, settings.INTERPOLATION, *normalization, resize=settings.RESIZE
    ).transforms
    return [*steps, InstanceNormalization()] if "instance_norm" in chosen else steps
