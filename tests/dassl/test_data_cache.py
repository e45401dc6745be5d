"""The image cache: same pixels, one decoding, shared by all workers."""

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.image_cache import ImageCache
from dassl.data.transforms import build_transform
from dassl.utils import read_image


@pytest.fixture
def paths(tmp_path):
    """Six pictures of 1,200 bytes of pixels (20 x 20) in different modes."""
    result = []
    for number, mode in enumerate(["RGB", "RGB", "L", "P", "RGBA", "1"]):
        pixels = np.random.RandomState(number).randint(0, 256, (20, 20, 3), dtype=np.uint8)
        result.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(pixels).convert(mode).save(result[-1])
    return result


def loader_over(paths, workers=0, cache_gb=2.0):
    cfg = get_cfg_default()
    cfg.SEED = 1
    cfg.INPUT.SIZE = (16, 16)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop",)
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.CACHE_GB = cache_gb
    items = [Datum(path) for path in paths]
    transform = build_transform(cfg)
    return build_data_loader(cfg, "RandomSampler", items, batch_size=2, tfm=transform, stream="train_x")


def pixels(loader):
    return torch.cat([batch["img"] for batch in loader])


def test_a_kept_image_equals_the_decoded_one(paths):
    cache = ImageCache(paths, limit=1e6)
    for path in paths:
        assert cache.get(path) is None
        cache.put(path, read_image(path))
        kept, decoded = cache.get(path), read_image(path)
        assert kept.mode == decoded.mode and kept.size == decoded.size
        assert kept.tobytes() == decoded.tobytes()


def test_what_does_not_fit_is_not_kept(paths):
    cache = ImageCache(paths, limit=3 * 1201)
    for path in paths:
        cache.put(path, read_image(path))
    assert len(cache) == 3
    assert [cache.get(path) is not None for path in paths] == [True, True, True, False, False, False]
    assert len(ImageCache(paths, limit=1200)) == 0


def test_an_image_that_changed_its_size_is_not_kept(paths):
    cache = ImageCache(paths, limit=1e6)
    cache.put(paths[0], Image.new("RGB", (5, 5)))
    assert cache.get(paths[0]) is None


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cache_gb, line", [(2.0, "6 of 6"), (3 * 1201e-9, "3 of 6"), (0.0, None)])
def test_batches_are_the_same_with_any_cache(workers, cache_gb, line, paths, capsys):
    plain, cached = loader_over(paths, cache_gb=0.0), loader_over(paths, workers, cache_gb)
    for _ in range(3):
        assert torch.equal(pixels(plain), pixels(cached))
    printed = capsys.readouterr().out
    assert printed.count("image cache") == (line is not None)
    assert line is None or f"image cache: {line} training images fit" in printed


@pytest.mark.parametrize("workers", [0, 1])
def test_later_passes_need_no_files(workers, paths, tmp_path):
    loader = loader_over(paths, workers)
    loader.sampler.set_epoch(0)
    first = pixels(loader)
    for path in paths:
        Image.new("RGB", (20, 20)).save(
            path
        )  # same size, other content: only the cache still has the pictures
    if loader.dataset.cache is None:
        pytest.skip("no forked workers on this system")
    assert all(loader.dataset.cache.get(path) is not None for path in paths)  # filled by whoever decoded
    loader.sampler.set_epoch(0)
    assert torch.equal(pixels(loader), first)
    loader.sampler.set_epoch(0)
    assert torch.equal(pixels(copy.deepcopy(loader)), first)  # a copy shares the block


def test_a_pickled_cache_arrives_as_none(paths):
    assert pickle.loads(pickle.dumps(ImageCache(paths, limit=1e6))) is None
