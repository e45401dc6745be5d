"""`DatasetWrapper` turns listed images into tensors, `DataManager` builds the data set and its loaders."""

import contextlib
import functools
import math
import os
import random
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import Compose, Normalize, Resize, ToTensor
from tqdm import tqdm

from dassl.config import completed
from dassl.data.datasets import build_dataset
from dassl.data.datasets.build import stands_upright
from dassl.data.image_cache import ImageCache
from dassl.data.kept_pictures import file_state, keep_pictures
from dassl.data.samplers import build_sampler
from dassl.data.seeding import SampleIndex, derive_seed, seeded
from dassl.data.transforms import build_transform, interpolation_mode
from dassl.data.transforms.in_bytes import BytesTransform, in_two_parts
from dassl.utils import available_cores, ranks, read_image, stop_signals

# Forked workers inherit the image cache and need not pickle what plugins define. Named, because Python is
# moving its default away from fork; elsewhere than on Linux forking is missing or unsafe, and the platform's
# default holds.
START_METHOD = "fork" if sys.platform == "linux" else None
MOST_WORKERS = 8
# Starting a worker takes as long as decoding and resizing some 30 photos (python -m benchmarks.loader).
IMAGES_OF_A_WORKER = 100
MANY = 2_000  # images: opening so many takes long enough for a progress bar


class DatasetWrapper(Dataset):
    """Items of a list of `Datum` as dicts: `img`, `label`, `domain`, `impath`, `index`.

    With a list of transforms the images are `img`, `img2`, `img3`, ... With `DATALOADER.K_TRANSFORMS` K > 1
    (training only) each of them is a list of K results. With `DATALOADER.RETURN_IMG0`, `img0` is the whole
    image resized to `INPUT.SIZE`, without augmentation.

    In training, a `SampleIndex`, as our samplers yield it, decides everything that is drawn at random for the
    item; a plain int leaves that to the global generators.

    Images are floats, but those of a batch that our loader asks for as `InBytes`.

    Raises: ValueError for K > 1 without a transform. Items: FileNotFoundError or OSError naming the image.
    """

    def __init__(self, cfg, data_source, transform=None, is_train: bool = False):
        self.cfg = cfg = completed(cfg)
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.cache = None
        self.kept = None  # test pictures as they come out of the transform's steps
        self._asked_for = None  # which steps, when it was last opened
        self.upright = stands_upright(cfg.DATASET.NAME)
        if self.k_tfm > 1 and transform is None:
            raise ValueError(
                f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to apply; "
                "set it to 1 or INPUT.NO_TRANSFORM to False"
            )
        to_tensor = [Resize(tuple(cfg.INPUT.SIZE), interpolation=interpolation_mode(cfg)), ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            to_tensor.append(Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = Compose(to_tensor)  # makes img0

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict:
        return self._seeded_item(idx)

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """Items of a batch, as torch's loaders ask for them."""
        if isinstance(indices, InBytes):
            return [self._seeded_item(idx, in_bytes=True) for idx in indices]
        return [self[idx] for idx in indices]

    def _seeded_item(self, idx: int, in_bytes: bool = False) -> dict:
        if self.is_train and isinstance(idx, SampleIndex):
            with seeded(idx.seed):
                return self._item(int(idx), in_bytes)
        return self._item(int(idx), in_bytes)

    def _item(self, idx: int, in_bytes: bool) -> dict:
        datum = self.data_source[idx]
        item = {
            "label": datum.label,
            "domain": datum.domain,
            "impath": datum.impath,
            "index": idx,
        }
        if (in_bytes or self.kept is not None) and (parts := self.parts) is not None:
            pixels = self._pixels(idx, datum.impath, parts)
            item["img"] = pixels if in_bytes else parts.floats(pixels[None])[0]
            return item
        image = self._read(datum.impath)
        if self.transform is None:
            item["img"] = image
        elif isinstance(self.transform, (list, tuple)):
            for number, transform in enumerate(self.transform, start=1):
                item["img" if number == 1 else f"img{number}"] = self._transform_image(transform, image)
        else:
            item["img"] = self._transform_image(self.transform, image)
        if self.return_img0:
            item["img0"] = self.to_tensor(image)
        return item

    @property
    def parts(self) -> BytesTransform | None:
        """The transform in two parts; None where an item is more than one image, or it cannot be divided."""
        return None if self.k_tfm > 1 or self.return_img0 else in_two_parts(self.transform)

    def _pixels(self, idx: int, path: str, parts: BytesTransform) -> Tensor:
        """uint8 (3, H, W) of an image, kept ones of test pictures where there are some."""
        kept = self.kept if self.kept is not None and self.kept.are_of(parts) else None
        if kept is not None and (pixels := kept.get(idx, path)) is not None:
            return pixels
        before = kept and file_state(path)
        pixels = parts.bytes_of(self._read(path))
        if kept is not None:
            kept.put(idx, path, pixels, before)
        return pixels

    def _transform_image(self, transform, image: Image.Image):
        results = [transform(image) for _ in range(self.k_tfm)]
        return results[0] if self.k_tfm == 1 else results

    def _read(self, path: str) -> Image.Image:
        image = self.cache.get(path) if self.cache is not None else None
        if image is None:
            image = read_image(path, upright=self.upright)
            if self.cache is not None:
                self.cache.put(path, image)
        return image

    def open_kept(self) -> None:
        """Open the file of kept test pictures (`DATALOADER.TEST_CACHE_GB`), once for a transform."""
        limit, parts = self.cfg.DATALOADER.TEST_CACHE_GB, self.parts
        if self.is_train or limit <= 0 or parts is None or self._asked_for == parts.steps_as_text:
            return
        self._asked_for = parts.steps_as_text
        paths = [datum.impath for datum in self.data_source]
        self.kept, line = keep_pictures(paths, parts, self.upright, limit * 1e9)
        if line:
            print(line)

    def open_cache(self) -> None:
        """Make room for decoded training images, up to `DATALOADER.CACHE_GB`; once."""
        limit = self.cfg.DATALOADER.CACHE_GB
        if not self.is_train or self.cache is not None or limit <= 0:
            return
        paths = {datum.impath: None for datum in self.data_source}
        self.cache = ImageCache(paths, limit * 1e9, self.upright)
        print(
            f"image cache: {len(self.cache):,} of {len(paths):,} training images fit "
            f"({self.cache.nbytes / 1e6:,.1f} MB of {limit:.1f} GB)"
        )


class InBytes(list):
    """The indices of a batch whose images shall come as bytes (dassl/data/transforms/in_bytes.py)."""


class PersistentLoader(DataLoader):
    """A DataLoader whose workers live as long as it does, and which can be copied while they live.

    Batches are those of torch's loader, unless `device` is set: then `batch["img"]` travels as bytes, where
    the data set and its transform are ours, and becomes floats on the device, the same ones bit for bit.
    Where the ranks of a run share (ranks.py), a batch is this rank's part of it.
    """

    device: torch.device | None = None
    parts: deque | None = None  # of the batches that are on their way in a pass that ranks share
    digests = 0  # of so many images each a batch then holds the digests, `pixels`; 0: of none

    def __iter__(self):
        self._open_caches()  # before the workers fork, and not at all if the loader is never read

        # Living workers hold a copy of the data set as it was at their start; a changed one takes new ones.
        now = _parts(self.dataset)
        if self._iterator is not None and list(map(id, now)) != list(map(id, self._workers_parts)):
            self._iterator = None
        self._workers_parts = now
        takes_over = self.worker_init_fn is stop_signals.ignore_in_worker  # what is held until it runs
        bytes_transform = self.bytes_transform()
        self.parts = parts = deque() if ranks.is_sharing() else None
        with stop_signals.held() if takes_over else contextlib.nullcontext():
            batches = super().__iter__()
        if parts is not None:
            batches = _told_of(batches, parts)
        return batches if bytes_transform is None else self._on_device(batches, bytes_transform)

    def bytes_transform(self) -> BytesTransform | None:
        """The transform of images that travel as bytes; None where a batch comes as the data set makes it."""
        # A plugin's own wrapper, and its own way to make batches, see floats.
        ours = type(self.dataset) is DatasetWrapper and self.collate_fn is default_collate
        return self.dataset.parts if ours and self.device is not None else None

    def _on_device(self, batches, transform: BytesTransform):
        for batch in batches:
            if batch["img"].dtype == torch.uint8:  # not if a plugin exchanged the transform in this pass
                if self.digests:
                    batch["pixels"] = list(map(transform.digest, batch["img"].split(self.digests)))
                batch["img"] = transform.floats(batch["img"], self.device)
            yield batch

    @property
    def _index_sampler(self):
        """What torch's loader takes the indices of a batch from: they say how its images shall come."""
        return _Batches(self, super()._index_sampler)

    def __getstate__(self) -> dict:
        """What a copy gets: everything but the living workers. It starts its own, and shares the cache."""
        self._open_caches()
        return self.__dict__ | {"_iterator": None}

    def _open_caches(self) -> None:
        if not isinstance(self.dataset, DatasetWrapper):
            return
        self.dataset.open_kept()
        if self.num_workers == 0 or START_METHOD == "fork":
            self.dataset.open_cache()


class _Batches:
    """The batches of indices of a loader."""

    def __init__(self, loader: PersistentLoader, batches):
        self.loader, self.batches = loader, batches

    def __iter__(self):
        batches, parts = iter(self.batches), self.loader.parts
        if parts is not None:
            batches = _shared(batches, parts)
        return map(InBytes, batches) if self.loader.bytes_transform() is not None else batches

    def __len__(self) -> int:
        return len(self.batches)


def _shared(batches, parts: deque):
    """The indices of this rank's part of each batch; which part that is, is noted."""
    for batch in batches:
        parts.append(ranks.part(len(batch)))
        yield batch[parts[-1].start : parts[-1].stop]


def _told_of(batches, parts: deque):
    """The batches, each with a word to ranks.py of which part it is."""
    for batch in batches:
        ranks.take(parts.popleft())
        yield batch


def send_as_bytes(device: torch.device, *loaders, digests: int = 0) -> None:
    """Let the images of these loaders become floats on a device; those that are not ours stay as they are.

    Args: digests, of how many images each a batch holds the digests (`pixels`), where images travel as bytes;
          0: of none
    """
    for loader in loaders:
        if isinstance(loader, PersistentLoader):
            loader.device, loader.digests = device, digests


def open_images(loader, items, limit: float) -> None:
    """Decode images once, so that one that cannot be read ends a run before its first step.

    A loader of ours keeps them as far as it has room for decoded images.

    Args:   loader of the images; items, list of `Datum`; limit, bytes of image files that are read: which
            others cannot be is found out in training
    Raises: OSError naming the images
    """
    read = read_image
    if isinstance(loader, PersistentLoader) and isinstance(loader.dataset, DatasetWrapper):
        loader._open_caches()
        read = loader.dataset._read
    paths = _up_to(limit, dict.fromkeys(item.impath for item in items))

    def fault(path: str) -> str:
        try:
            read(path)
        except OSError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(available_cores()) as pool:
        many = None if len(paths) > MANY else True  # None: shown on a terminal
        faults = list(filter(None, tqdm(pool.map(fault, paths), "opening images", len(paths), disable=many)))
    if len(faults) == 1:
        raise OSError(faults[0])
    if faults:
        more = f"; and {len(faults) - 3:,} more" if len(faults) > 3 else ""
        raise OSError(f"{len(faults):,} training images cannot be read: {'; '.join(faults[:3])}{more}")


def _up_to(limit: float, paths) -> list[str]:
    """The first paths whose files have at most `limit` bytes together."""
    taken = []
    for path in paths:
        limit -= os.path.getsize(path) if os.path.isfile(path) else 0
        if limit < 0:
            break
        taken.append(path)
    return taken


def _parts(dataset) -> list:
    """What a plugin may exchange in a data set between two passes: attributes, steps of the transform."""
    transform = getattr(dataset, "transform", None)
    return [*getattr(dataset, "__dict__", {}).values(), *getattr(transform, "transforms", ())]


def build_data_loader(
    cfg,
    sampler_type: str = "SequentialSampler",
    data_source=None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm=None,
    is_train: bool = True,
    dataset_wrapper=None,
    stream: str | None = None,
    drop_last: bool | None = None,
    passes: int | None = None,
) -> DataLoader:
    """A loader over a list of `Datum`.

    The last, incomplete batch is dropped in training, if there is a complete one, unless `drop_last` says
    otherwise.
    `loader.sampler.set_epoch(epoch)` starts an epoch; see `dassl.data.passes`.

    Args:
        n_domain: domains per batch, of `RandomDomainSampler`; below 1: all.
        n_ins: images per class, of `RandomClassSampler`.
        tfm: transform, or list of transforms.
        dataset_wrapper: class to use instead of `DatasetWrapper`, constructed with the same arguments.
        stream: loaders with different streams draw independently of each other. None, as a plugin calls it:
            a stream of its own, drawn from torch's global generator.
        passes: over the images that there will be, from which NUM_WORKERS -1 follows; None: one, in training
            one per epoch.
    Raises: ValueError if there is no image, or not one batch.
    """
    cfg = completed(cfg)
    if not data_source:
        raise ValueError(f"{cfg.DATASET.NAME}: cannot load from an empty list of images")
    seed = cfg.SEED if cfg.SEED >= 0 else random.getrandbits(63)
    seed = derive_seed(seed, int(torch.randint(2**62, ())) if stream is None else stream)
    if drop_last is None:
        drop_last = is_train and len(data_source) >= batch_size
    workers = cfg.DATALOADER.NUM_WORKERS
    if workers < 0:
        passes = passes or (max(1, cfg.OPTIM.MAX_EPOCH) if is_train else 1)
        workers = worthwhile_workers(len(data_source), batch_size, passes)
    workers = usable_workers(workers)
    wrapper = dataset_wrapper or DatasetWrapper
    loader = PersistentLoader(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=build_sampler(sampler_type, data_source, batch_size, n_ins, n_domain, seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=START_METHOD if workers > 0 else None,
        drop_last=drop_last,
        pin_memory=cfg.USE_CUDA and torch.cuda.is_available(),
        worker_init_fn=stop_signals.ignore_in_worker,
        # A generator of its own, so that starting a pass draws nothing from the global one.
        generator=torch.Generator().manual_seed(seed),
    )
    if len(loader) == 0:
        raise ValueError(
            f"{cfg.DATASET.NAME}: {sampler_type} makes no complete batch of {batch_size} from "
            f"{len(data_source)} images; lower DATALOADER.TRAIN_X.BATCH_SIZE or N_INS"
        )
    return loader


@functools.cache  # says it once per process
def usable_workers(requested: int) -> int:
    """Loader workers, at most one per available core."""
    cores = available_cores()
    if requested > cores:
        print(
            f"DATALOADER.NUM_WORKERS is {requested}, but {cores} cores are available: using {cores} workers"
        )
    return min(requested, cores)


def worthwhile_workers(images: int, batch_size: int, passes: int) -> int:
    """Loader workers that pay for their start: what `DATALOADER.NUM_WORKERS` -1 means.

    None on a single core, none without a batch to read, at most `MOST_WORKERS`.
    """
    cores = available_cores()
    batches = math.ceil(images / batch_size)
    return 0 if cores == 1 else min(cores, MOST_WORKERS, batches, images * passes // IMAGES_OF_A_WORKER)


class DataManager:
    """The data set named in the config with its loaders.

    Attributes: `dataset`, `train_loader_x`, `train_loader_u` (None without unlabelled images), `val_loader`
    (None without validation images), `test_loader` (None without test images, under `TEST.NO_TEST`).

    Args:
        custom_tfm_train, custom_tfm_test: transform, or list of transforms, instead of the config's.
        dataset_wrapper: class instead of `DatasetWrapper`.
    """

    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        cfg = completed(cfg)
        dataset = build_dataset(cfg)
        tfm_train = build_transform(cfg, is_train=True) if custom_tfm_train is None else custom_tfm_train
        tfm_test = build_transform(cfg, is_train=False) if custom_tfm_test is None else custom_tfm_test

        def loader(items, settings, is_train=False, stream="train_x"):
            return build_data_loader(
                cfg,
                sampler_type=settings.SAMPLER,
                data_source=items,
                batch_size=settings.BATCH_SIZE,
                n_domain=settings.get("N_DOMAIN", 0),
                n_ins=settings.get("N_INS", 2),
                tfm=tfm_train if is_train else tfm_test,
                is_train=is_train,
                dataset_wrapper=dataset_wrapper,
                stream=stream,
                drop_last=None if settings.get("DROP_LAST", True) else False,
            )

        loaders = cfg.DATALOADER
        self.dataset = dataset
        self.train_loader_x = loader(dataset.train_x, loaders.TRAIN_X, is_train=True)
        self.train_loader_u = None
        if dataset.train_u:
            settings = loaders.TRAIN_X if loaders.TRAIN_U.SAME_AS_X else loaders.TRAIN_U
            self.train_loader_u = loader(dataset.train_u, settings, is_train=True, stream="train_u")
        self.val_loader = loader(dataset.val, loaders.TEST, stream="val") if dataset.val else None
        untested = cfg.TEST.NO_TEST and not dataset.test
        self.test_loader = None if untested else loader(dataset.test, loaders.TEST, stream="test")

        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)
        if self.num_classes == 1:
            name = next(iter(self.lab2cname.values()))
            print(f"Warning: {cfg.DATASET.NAME} has one class only ({name}), so every answer is right")

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @property
    def num_source_domains(self) -> int:
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict:
        return self._lab2cname

    def show_dataset_summary(self, cfg) -> None:
        """Print name and sizes as a table."""
        from tabulate import tabulate

        dataset = self.dataset
        rows = [["Dataset", cfg.DATASET.NAME]]
        rows += [["Source", cfg.DATASET.SOURCE_DOMAINS]] if cfg.DATASET.SOURCE_DOMAINS else []
        rows += [["Target", cfg.DATASET.TARGET_DOMAINS]] if cfg.DATASET.TARGET_DOMAINS else []
        rows += [["# classes", f"{self.num_classes:,}"], ["# train_x", f"{len(dataset.train_x):,}"]]
        rows += [["# train_u", f"{len(dataset.train_u):,}"]] if dataset.train_u else []
        rows += [["# val", f"{len(dataset.val):,}"]] if dataset.val else []
        rows += [["# test", f"{len(dataset.test or ()):,}"]]
        print(tabulate(rows))
