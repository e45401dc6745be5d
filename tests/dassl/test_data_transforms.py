"""Transforms against the obvious computation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import resize, to_tensor

from dassl.config import get_cfg_default
from dassl.data.transforms.transforms import (
    AVAILABLE_CHOICES,
    Cutout,
    GaussianNoise,
    RandomTranslation,
    build_transform,
)


@pytest.fixture
def cfg():
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (16, 24)  # height, width
    return cfg


@pytest.fixture
def image():
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60, 3), dtype=np.uint8))


def names(transform):
    return [type(step).__name__ for step in transform.transforms]


def test_the_order_of_the_choices_does_not_matter(cfg):
    chosen = ("normalize", "random_flip", "random_resized_crop", "cutout", "colorjitter", "center_crop")
    expected = ["RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "ToTensor", "Cutout", "Normalize"]
    assert names(build_transform(cfg, choices=chosen)) == expected
    cfg.INPUT.TRANSFORMS = chosen[::-1]
    assert names(build_transform(cfg)) == expected


def test_without_a_crop_training_resizes_to_the_exact_size(cfg, image):
    cfg.INPUT.INTERPOLATION = "bicubic"
    plain = build_transform(cfg, choices=["center_crop"])
    expected = torch.from_numpy(np.array(image.resize((24, 16), Image.BICUBIC))).permute(2, 0, 1) / 255
    torch.testing.assert_close(plain(image), expected)


def test_testing_resizes_the_smaller_edge_crops_the_center_and_normalizes(cfg, image):
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize", "cutout", "gaussian_noise")
    resized = np.array(image.resize((36, 24), Image.BILINEAR))[4:20, 6:30] / 255
    expected = (resized - cfg.INPUT.PIXEL_MEAN) / cfg.INPUT.PIXEL_STD
    actual = build_transform(cfg, is_train=False)(image)
    torch.testing.assert_close(actual, torch.from_numpy(expected).permute(2, 0, 1).float())


def test_testing_may_resize_both_edges_and_crop_nothing(cfg, image):
    cfg.INPUT.RESIZE = "squash"
    expected = torch.from_numpy(np.array(image.resize((24, 16), Image.BILINEAR))).permute(2, 0, 1) / 255
    torch.testing.assert_close(build_transform(cfg, is_train=False)(image), expected)
    cfg.INPUT.RESIZE = "squish"
    with pytest.raises(ValueError, match="INPUT.RESIZE 'squish'; did you mean 'squash'"):
        build_transform(cfg, is_train=False)


@pytest.mark.parametrize("choice", AVAILABLE_CHOICES)
def test_every_choice_gives_an_image_of_the_input_size(choice, cfg, image):
    for is_train in (True, False):
        result = build_transform(cfg, is_train, choices=[choice])(image)
        assert result.shape == (3, 16, 24) and result.dtype == torch.float32


def test_every_draw_comes_from_torchs_generator(cfg, image):
    transform = build_transform(cfg, choices=[name for name in AVAILABLE_CHOICES if name != "random_crop"])
    for seed in range(5):
        torch.manual_seed(seed)
        first = transform(image)
        torch.manual_seed(seed)
        assert torch.equal(transform(image), first)


def test_instance_norm_standardizes_every_channel(cfg, image):
    result = build_transform(cfg, choices=["instance_norm"])(image)
    torch.testing.assert_close(result.mean(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std(dim=(1, 2)), torch.ones(3), atol=1e-5, rtol=0)


def test_cutout_zeroes_one_square_with_its_center_in_the_image():
    holes = [Cutout(1, 6)(torch.ones(3, 16, 24)) == 0 for _ in range(300)]
    for hole in holes:
        assert torch.equal(hole[0], hole[1]) and torch.equal(hole[0], hole[2])
        rows, columns = hole[0].any(dim=1).sum(), hole[0].any(dim=0).sum()
        assert hole[0].sum() == rows * columns  # a rectangle
        assert 3 <= rows <= 6 and 3 <= columns <= 6  # at most half of it beyond the border
    assert torch.stack(holes).any(dim=0).all()  # reaches every pixel


def test_translation_resizes_or_crops_from_the_enlarged_image(image):
    transform = RandomTranslation((16, 24))
    plain, enlarged = to_tensor(resize(image, (16, 24))), to_tensor(resize(image, (18, 27)))
    windows = enlarged.unfold(1, 16, 1).unfold(2, 24, 1)  # (3, 3, 4, 16, 24): every position of the crop
    found = {"plain": 0, "crop": 0}
    for _ in range(60):
        result = to_tensor(transform(image))
        if torch.equal(result, plain):
            found["plain"] += 1
        else:
            assert (windows == result[:, None, None]).all(dim=(0, 3, 4)).any()
            found["crop"] += 1
    assert min(found.values()) > 10


def test_noise_comes_to_half_of_the_images():
    torch.manual_seed(0)
    results = [GaussianNoise(mean=1.0, std=0.1)(torch.zeros(3, 8, 8)) for _ in range(200)]
    noisy = torch.stack([result for result in results if result.any()])
    assert 70 < len(noisy) < 130
    assert abs(noisy.mean() - 1) < 0.01 and abs(noisy.std() - 0.1) < 0.01


def test_unknown_names_are_refused_with_the_nearest(cfg):
    with pytest.raises(ValueError, match="'random_flipp'; did you mean 'random_flip'"):
        build_transform(cfg, choices=["random_flipp"])
    with pytest.raises(ValueError, match="'randaugment2' is not provided; use 'randaugment'"):
        build_transform(cfg, choices=["randaugment2"])
    cfg.INPUT.INTERPOLATION = "bicubical"
    with pytest.raises(ValueError, match="did you mean 'bicubic'"):
        build_transform(cfg)


def test_no_transform_is_none(cfg):
    cfg.INPUT.NO_TRANSFORM = True
    assert build_transform(cfg) is None
