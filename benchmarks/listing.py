"""Making the lists of a large data set: the first run, and the runs after it.

    python -m benchmarks.listing
    python -m benchmarks.listing --files 1331167 --folder /data/tmp        as many as ImageNet has

An ImageNet of empty files is laid out in a temporary folder. Then ImageNet's loader is timed:

first     no listing is kept yet: every class folder is listed, and the result is written
warm      the listing of the run before is read and compared with the times of the class folders

each for 16 shots and for all images. Then, for 16 shots, what a run reads is told by digests
(launch/inputs.py): first without any that are remembered, then again. Then Food101's loader: without its
split file, which the first run makes, and with it. Warm times are the best of --repeat runs, of a fresh
loader each; imports are not counted. First runs read folders that were just written, so the operating
system has them at hand: from a cold disk or over a network they take much longer, warm runs hardly.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from clipfit.io.commands import PATH
from dassl.config import get_cfg_default
from datasets.food101 import Food101
from datasets.imagenet import ImageNet
from launch.inputs import read_inputs

CLASSES = 1000
VAL_IMAGES = 50  # per class
FOOD_CLASSES, FOOD_IMAGES = 101, 1000  # images per class


def main() -> None:
    """Lay out, measure, print."""
    parser = argparse.ArgumentParser(description="Time of listing large data sets.")
    parser.add_argument("--files", type=int, default=200_000, help="files of the tree (default 200000)")
    parser.add_argument("--folder", type=PATH, help="of the temporary tree (default: the system's choice)")
    parser.add_argument("--repeat", type=int, default=3, help="warm runs of each kind (default 3)")
    args = parser.parse_args()
    if args.files < CLASSES * (VAL_IMAGES + 16):
        parser.error(f"--files must be at least {CLASSES * (VAL_IMAGES + 16):,}")

    root = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        seconds, files = timed(lambda: lay_out_imagenet(root / "imagenet", args.files))
        print(f"ImageNet, {files:,} empty files in {2 * CLASSES:,} folders (laid out in {seconds:.1f} s)")
        for shots in (16, -1):
            for cache in (root / "imagenet").glob("listing_*.jsonl"):
                cache.unlink()
            measure(ImageNet, root, shots, args.repeat)
        size = sum(cache.stat().st_size for cache in (root / "imagenet").glob("listing_*.jsonl"))
        print(f"{'kept listing':24}{size / 1e6:10.1f} MB")

        measure_inputs(root, args.repeat)

        lay_out_food101(root / "food-101")
        print(f"\nFood101, {FOOD_CLASSES * FOOD_IMAGES:,} empty files; the first run makes the split file")
        measure(Food101, root, 16, args.repeat)
    finally:
        shutil.rmtree(root)


def measure(loader: type, root: Path, shots: int, repeat: int) -> None:
    """Print the time of the first run and of the best of the runs after it."""
    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.SEED = str(root), shots, 1
    first, dataset = timed(lambda: silently(loader, cfg))
    warm = min(timed(lambda: silently(loader, cfg))[0] for _ in range(repeat))
    what = f"{shots} shots" if shots > 0 else "all images"
    print(f"{what:12}{len(dataset.train_x):12,} train{len(dataset.test):10,} test")
    print(f"{'  first':24}{first:10.3f} s\n{'  warm':24}{warm:10.3f} s\n{'  ratio':24}{first / warm:9.1f}x")


def measure_inputs(root: Path, repeat: int) -> None:
    """Print the time of telling what a run on ImageNet reads: of the first one and the best one after it."""
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")  # where digests are remembered
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.SEED = "ImageNet", str(root), 16, 1
    cfg.TRAINER.NAME, cfg.MODEL.BACKBONE.NAME = "CLIPFit", "demo"

    def read() -> None:
        with redirect_stderr(StringIO()):
            missing = read_inputs(cfg).missing
        if missing:
            raise RuntimeError("; ".join(missing))

    first, _ = timed(read)
    again = min(timed(read)[0] for _ in range(repeat))
    print(f"{'inputs, 16 shots, first':24}{first:10.3f} s\n{'  again':24}{again:10.3f} s")


def silently(function: Callable, *arguments: object) -> object:
    with redirect_stdout(StringIO()):
        return function(*arguments)


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Seconds that `function` takes, and what it returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def lay_out_imagenet(folder: Path, files: int) -> int:
    """Make the tree; returns the number of its files.

    Class folders look as if they had last changed an hour ago: the loader trusts no listing of a folder that
    has just been written.
    """
    rng = random.Random(0)
    wnids = sorted(f"n{number:08d}" for number in rng.sample(range(10_000_000), CLASSES))
    train_images = files // CLASSES - VAL_IMAGES
    for label, wnid in enumerate(wnids):
        names = [f"{wnid}_{number}.JPEG" for number in rng.sample(range(30_000), train_images)]
        fill(folder / "images" / "train" / wnid, names)
        first = 1 + label * VAL_IMAGES
        names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(first, first + VAL_IMAGES)]
        fill(folder / "images" / "val" / wnid, names)
    (folder / "classnames.txt").write_text("".join(f"{wnid} class {wnid}\n" for wnid in wnids))
    return CLASSES * (train_images + VAL_IMAGES)


def lay_out_food101(folder: Path) -> None:
    rng = random.Random(0)
    for label in range(FOOD_CLASSES):
        names = [f"{number}.jpg" for number in rng.sample(range(4_000_000), FOOD_IMAGES)]
        fill(folder / "images" / f"dish_{label:03d}", names)


def fill(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT))
    os.utime(folder, (time.time() - 3600,) * 2)


if __name__ == "__main__":
    main()
