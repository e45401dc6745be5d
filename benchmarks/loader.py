"""The loader of test pictures: torch's, with floats made in the data set; ours; and ours with kept pictures.

    python -m benchmarks.loader
    python -m benchmarks.loader --pictures 400 --size 224 --workers 2

Pictures are JPEGs of 500 x 375 pixels, drawn into a temporary folder; the transform is that of a test of
ViT-B/16. All ways run in turns in one process, and the last line says whether their batches are equal in
every bit.

floats     torch's loader over `DatasetWrapper`: a float image per item, collated in batches
bytes      images travel as bytes and become floats a batch at once
keeping    the same, in a test that keeps the pixels (the first one over these pictures)
kept       the same, in every later test

Floats are made on this core ("on the CPU"), or they are the work of another device ("on a GPU"; stood in for
by torch's meta device, where operations cost nothing). Seconds are those of the processor, so that a busy
machine changes them little; the best of --repeat. "first pass" is wall time of a new loader's first pass, its
workers' start included, by the number of workers; "auto" is the default of DATALOADER.NUM_WORKERS.
"""

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper, build_data_loader
from dassl.data import kept_pictures as keeping
from dassl.data.data_manager import send_as_bytes
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform

CLIPS = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
BATCH = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Pictures per second of the ways to load them.")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--size", type=int, default=224, help="input of the backbone (default 224)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--small", type=int, nargs="*", default=[], help="pictures of first passes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    keeping.SETTLED = 0  # the pictures are new, and nobody changes them
    try:
        count = max([args.pictures, *args.small])
        pictures = [Datum(str(draw(folder, number))) for number in range(count)]
        compare(pictures[: args.pictures], args.size, args.repeat)
        for count in args.small:
            first_passes(pictures[:count], args.size, args.repeat)
    finally:
        shutil.rmtree(folder)


def compare(pictures: list[Datum], size: int, repeat: int) -> None:
    """Processor time of every way, and whether all give the same bits."""
    ways = {
        "floats, on the CPU": lambda: torchs(pictures, size),
        "bytes, on the CPU": lambda: ours(pictures, size, keep=False),
        "bytes, on a GPU": lambda: ours(pictures, size, keep=False, device="meta"),
        "keeping, on a GPU": lambda: forget() or ours(pictures, size, keep=True, device="meta"),
        "kept, on the CPU": lambda: ours(pictures, size, keep=True),
        "kept, on a GPU": lambda: ours(pictures, size, keep=True, device="meta"),
    }
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(repeat):
        for way, build in ways.items():
            loader = build()
            begun = time.process_time()
            one_pass(loader)
            seconds[way] = min(time.process_time() - begun, seconds[way])
    print(f"{len(pictures)} test pictures, {size} px, one core{'ms each':>12}{'per second':>14}{'ratio':>9}")
    plain = seconds["floats, on the CPU"]
    for way, spent in seconds.items():
        each = spent / len(pictures)
        print(f"{way:32}{1e3 * each:12.3f}{1 / each:14,.0f}{plain / spent:8.2f}x")
    found = {digest(build()) for way, build in ways.items() if way.endswith("CPU")}
    print(f"batches equal in every bit: {'yes' if len(found) == 1 else 'NO'}")


def first_passes(pictures: list[Datum], size: int, repeat: int) -> None:
    """Wall time of the first pass of a new loader, by its workers."""
    seconds = {}
    for _ in range(repeat):
        for workers in (0, 1, 2, -1):
            loader = ours(pictures, size, keep=False, workers=workers)
            begun = time.perf_counter()
            one_pass(loader)
            seconds[workers] = min(time.perf_counter() - begun, seconds.get(workers, 1e9))
            used = loader.num_workers
            del loader
    text = ", ".join(f"{'auto' if w < 0 else w}: {spent:.3f} s" for w, spent in seconds.items())
    print(f"first pass over {len(pictures)} pictures by workers: {text} (auto took {used})")


def config(keep: bool, size: int, workers: int = 0):
    cfg = get_cfg_default()
    cfg.SEED, cfg.INPUT.SIZE, cfg.INPUT.INTERPOLATION = 1, (size, size), "bicubic"
    cfg.INPUT.TRANSFORMS = ("normalize",)
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = CLIPS
    cfg.DATALOADER.TEST_CACHE_GB = 8.0 if keep else 0.0
    cfg.DATALOADER.NUM_WORKERS = workers
    return cfg


def torchs(pictures: list[Datum], size: int) -> DataLoader:
    cfg = config(False, size)
    data = DatasetWrapper(cfg, pictures, build_transform(cfg, is_train=False))
    return DataLoader(data, batch_size=BATCH)


def ours(pictures: list[Datum], size: int, keep: bool, workers: int = 0, device: str = "cpu") -> DataLoader:
    cfg = config(keep, size, workers)
    transform = build_transform(cfg, is_train=False)
    loader = build_data_loader(cfg, data_source=pictures, batch_size=BATCH, tfm=transform, is_train=False)
    send_as_bytes(torch.device(device), loader)
    with redirect_stdout(None):
        loader.dataset.open_kept()  # says where
    return loader


def forget() -> None:
    """Remove what is kept."""
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def one_pass(loader: DataLoader) -> None:
    """Read all batches, as a test does."""
    for _ in loader:
        pass


def digest(loader: DataLoader) -> str:
    """Of every bit of the images."""
    return hashlib.sha256(b"".join(batch["img"].numpy().tobytes() for batch in loader)).hexdigest()


def draw(folder: Path, number: int, size: tuple[int, int] = (500, 375)) -> Path:
    """A JPEG with the detail of a photo: smooth shapes and some noise (at 500 x 375 about 60 kB)."""
    random = np.random.RandomState(number)
    coarse = Image.fromarray(random.randint(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + random.randint(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    path = folder / f"{number}.jpg"
    Image.fromarray(noisy).save(path, quality=90)
    return path


if __name__ == "__main__":
    main()
