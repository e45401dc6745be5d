"""Images that travel as bytes: the floats are torchvision's, and only who asks for it gets them so."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Lambda,
    Normalize,
    PILToTensor,
    Resize,
    ToTensor,
)

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper, build_data_loader
from dassl.data.data_manager import send_as_bytes
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.data.transforms.in_bytes import in_two_parts
from dassl.utils import read_image

CPU = torch.device("cpu")
CLIPS = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENETS = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FLOATS_IN_THE_MIDDLE = {
    "cutout": "on floats",
    "gaussian_noise": "after floats",
    "gaussian_blur": "in a RandomApply, of whatever steps",
    "instance_norm": "after floats",
    "random_translation": "a step of ours",
}


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg_default()
    cfg.SEED, cfg.INPUT.SIZE, cfg.DATALOADER.NUM_WORKERS = 1, (12, 12), 0
    cfg.DATALOADER.TEST_CACHE_GB = 0.0
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = CLIPS
    return cfg


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        pixels = np.random.RandomState(number).randint(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert("L" if number == 3 else "RGB").save(path)
    return [Datum(str(path), label=number % 2) for number, path in enumerate(paths)]


def loader_of(cfg, pictures, is_train=True, device=None, **settings):
    transform = settings.pop("tfm", build_transform(cfg, is_train))
    sampler = "RandomSampler" if is_train else "SequentialSampler"
    loader = build_data_loader(
        cfg, sampler, pictures, 3, tfm=transform, is_train=is_train, stream="one", **settings
    )
    send_as_bytes(device, loader)
    return loader


def fetched(loader, monkeypatch):
    """Types of the images as they arrive from the data set, and the batches that come out."""
    seen, parts = set(), loader.collate_fn

    def collate(items):
        seen.update(item["img"].dtype for item in items)
        return parts(items)

    monkeypatch.setattr("dassl.data.data_manager.default_collate", collate)
    loader.collate_fn = collate
    return seen, list(loader)


@pytest.mark.parametrize("mean, std", [CLIPS, IMAGENETS, (None, None)])
def test_every_value_of_every_channel_becomes_the_float_of_totensor_and_normalize(mean, std):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    channels = [np.where(np.arange(3) == channel, every, 0).astype(np.uint8) for channel in range(3)]
    channels.append(np.repeat(every, 3, axis=2))
    transform = Compose([ToTensor()] if mean is None else [ToTensor(), Normalize(mean, std)])
    parts = in_two_parts(transform)
    images = [Image.fromarray(pixels) for pixels in channels]
    floats = parts.floats(torch.stack([parts.bytes_of(image) for image in images]))
    for image, result in zip(images, floats, strict=True):
        expected = transform(image)
        assert result.dtype == expected.dtype and result.shape == expected.shape
        assert result.numpy().tobytes() == expected.numpy().tobytes()
    assert floats.is_contiguous()


@pytest.mark.parametrize(
    "size, crop", [(8, (8, 8)), (9, (7, 8)), (7, (8, 9)), (8, (5, 20)), ((9, 14), (8, 8))]
)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_resizing_and_cropping_give_the_bytes_of_torchvision(size, crop, mode):
    steps = [Resize(size, interpolation=InterpolationMode(mode)), CenterCrop(crop), ToTensor()]
    parts, plain = in_two_parts(Compose(steps)), Compose([*steps[:2], PILToTensor()])
    random = np.random.RandomState(0)
    sizes = [(500, 375), (375, 500), (1, 40), (40, 1), (8, 8), (9, 8), (5, 4), (4, 5)]
    sizes += [tuple(random.randint(2, 90, 2)) for _ in range(60)]
    for width, height in sizes:
        image = Image.fromarray(random.randint(0, 256, (height, width, 3), dtype=np.uint8))
        assert torch.equal(parts.bytes_of(image), plain(image)), (width, height)


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_that_travelled_as_bytes_are_the_same_bits(is_train, workers, cfg, pictures, monkeypatch):
    cfg.DATALOADER.NUM_WORKERS = workers
    plain, sent = loader_of(cfg, pictures, is_train), loader_of(cfg, pictures, is_train, CPU)
    for _ in range(2):
        for one, other in zip(plain, sent, strict=True):
            assert one.keys() == other.keys() and one["impath"] == other["impath"]
            assert other["img"].dtype == torch.float32 and torch.equal(one["img"], other["img"])
            assert torch.equal(one["label"], other["label"]) and torch.equal(one["index"], other["index"])


def test_bytes_are_what_travels_and_nobody_else_sees_them(cfg, pictures, monkeypatch):
    loader = loader_of(cfg, pictures, device=CPU)
    assert fetched(loader, monkeypatch)[0] == {torch.uint8}
    assert loader.dataset[0]["img"].dtype == torch.float32
    for batch in DataLoader(loader.dataset, batch_size=2, sampler=loader.sampler):  # a plugin's own
        assert batch["img"].dtype == torch.float32
    assert fetched(loader_of(cfg, pictures), monkeypatch)[0] == {torch.float32}  # nobody asked for bytes


def test_a_plugins_wrapper_and_a_plugins_collate_see_floats(cfg, pictures):
    class Doubled(DatasetWrapper):
        def __getitem__(self, idx):
            item = super().__getitem__(idx)
            return item | {"img": 2 * item["img"]}

    plain = next(iter(loader_of(cfg, pictures)))["img"]
    doubled = loader_of(cfg, pictures, device=CPU, dataset_wrapper=Doubled)
    assert torch.equal(next(iter(doubled))["img"], 2 * plain)
    own = loader_of(cfg, pictures, device=CPU)
    own.collate_fn = lambda items: torch.stack([item["img"] for item in items])
    assert torch.equal(next(iter(own)), plain)


@pytest.mark.parametrize("choice", FLOATS_IN_THE_MIDDLE)
def test_a_transform_that_cannot_be_divided_gives_floats_as_before(choice, cfg, pictures, monkeypatch):
    cfg.INPUT.TRANSFORMS += (choice,)
    cfg.INPUT.GB_K = 3
    assert in_two_parts(build_transform(cfg)) is None
    seen, batches = fetched(loader_of(cfg, pictures, device=CPU), monkeypatch)
    assert seen == {torch.float32}
    plain = list(loader_of(cfg, pictures))
    assert all(torch.equal(a["img"], b["img"]) for a, b in zip(plain, batches, strict=True))


def test_transforms_of_plugins_are_not_divided():
    class Mine(Resize):
        """May return whatever it likes."""

    for steps in ([Mine(8), ToTensor()], [Lambda(lambda image: image), ToTensor()], [Resize(8)], []):
        assert in_two_parts(Compose(steps)) is None
    assert in_two_parts([Compose([ToTensor()])] * 2) is None and in_two_parts(None) is None
    after = Compose([ToTensor(), Normalize(*CLIPS), Lambda(torch.neg)])
    assert in_two_parts(after) is None


def test_a_transform_exchanged_by_a_plugin_counts(cfg, pictures):
    cfg.DATALOADER.NUM_WORKERS = 0
    loader = loader_of(cfg, pictures, is_train=False, device=CPU)
    list(loader)
    loader.dataset.transform = Compose([Resize((5, 5)), ToTensor(), Normalize(*IMAGENETS)])
    images = torch.cat([batch["img"] for batch in loader])
    expected = [loader.dataset.transform(read_image(picture.impath)) for picture in pictures]
    assert torch.equal(images, torch.stack(expected))


def test_several_views_and_whole_images_come_as_floats(cfg, pictures):
    cfg.DATALOADER.K_TRANSFORMS, cfg.DATALOADER.RETURN_IMG0 = 2, True
    batch = next(iter(loader_of(cfg, pictures, device=CPU)))
    assert [image.dtype for image in (*batch["img"], batch["img0"])] == [torch.float32] * 3
