"""How fast: a training step by classes, precision and way; tests by what is kept of their pictures."""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import torch

from benchmarks import clipfit_step as benchmark
from benchmarks.gpu.context import Context
from benchmarks.gpu.runs import TrainRun
from benchmarks.gpu.step import WHAT
from benchmarks.loader import draw
from benchmarks.paper_cost import image_flop, text_flop

IMAGES = 32  # of a step
CLASSES = {True: (10, 100, 1000), False: (10,)}  # on a GPU, and on a CPU, which only shows that it runs
TOKENS = 6  # of a prompt that classes do not share, as benchmarks/paper_cost.py counts
WAYS = {True: ("eager", "graph", "plain"), False: ("eager", "plain")}
PRECISIONS = {True: ("amp-bf16", "amp", "fp32"), False: ("fp32",)}
WARM_UP, STEPS = 5, {True: 30, False: 2}
PICTURES = {True: 2048, False: 60}  # of a test
SIDE = 8192  # of the matrices whose product stands for what the card can do


def steps(context: Context) -> str:
    """CLIPFit's step as a trainer takes it, eager and as a graph, beside the plain computation."""
    torch.set_num_threads(context.cores)
    peaks = {prec: matrix_rate(context.device, prec) for prec in PRECISIONS[True]} if context.on_gpu else {}
    context.numbers["matrix_tflops"] = peaks
    rows = context.numbers["rows"] = []
    for classes in CLASSES[context.on_gpu]:
        pictures = own_pictures(context.folder / f"{classes}", classes)
        for precision in PRECISIONS[context.on_gpu]:
            for way in WAYS[context.on_gpu]:
                row = {"classes": classes, "precision": precision, "way": way}
                rows.append(row | measured(context, pictures, **row, peak=peaks.get(precision)))
                context.save()
    done = [row for row in rows if "ms" in row]
    return f"{len(done)} of {len(rows)} settings measured; " + "; ".join(
        f"{row['classes']} classes, {row['precision']}, {row['way']}: {row['ms']:.1f} ms" for row in done
    )


def measured(context: Context, pictures: Path, classes: int, precision: str, way: str, peak) -> dict:
    """ms of a step, pictures a second, memory, share of `peak` (TFLOP/s); or what failed."""
    try:
        if way == "plain":
            step = plain_step(context, classes, precision)
        else:
            step = trainer_step(context, pictures, precision, graph=way == "graph")
        row = timed(step, context)
    except (RuntimeError, ValueError) as error:  # out of memory, or a way that is not for this setting
        if isinstance(error, torch.OutOfMemoryError):
            return {"failed": "out of memory"}
        context.problem(f"{classes} classes, {precision}, {way}: {str(error).splitlines()[0]}")
        return {"failed": str(error).splitlines()[0]}
    finally:
        if context.on_gpu:
            torch.cuda.empty_cache()
    flop = step_flop(classes) / 1e12
    row |= {"pictures_per_s": 1000 * IMAGES / row["ms"], "tflops": 1000 * flop / row["ms"]}
    return row | ({"share_of_matrix_rate": row["tflops"] / peak} if peak else {})


def step_flop(classes: int) -> float:
    """Operations that CLIPFit needs on ViT-B/16: forward, and backward through frozen weights, once each."""
    return 2 * (IMAGES * image_flop() + classes * text_flop(TOKENS))


def timed(step, context: Context) -> dict:
    """Median ms of a step; on a GPU of a run of steps that nobody waits for, as in a training, and memory."""
    count = STEPS[context.on_gpu]
    for _ in range(WARM_UP if context.on_gpu else 1):
        step()
    if not context.on_gpu:
        seconds = []
        for _ in range(count):
            begun = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begun)
        return {"ms": 1000 * statistics.median(seconds)}
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    rounds = []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in range(count // 3):
            step()
        torch.cuda.synchronize()
        rounds.append(1000 * (time.perf_counter() - begun) / (count // 3))
    return {"ms": statistics.median(rounds), "peak_mb": torch.cuda.max_memory_allocated() / 2**20}


def trainer_step(context: Context, pictures: Path, precision: str, graph: bool):
    """A step of the trainer that train.py would build, on the first batch of its loader."""
    trainer = build(
        context,
        *("--trainer", "CLIPFit", "--images", str(pictures)),
        *("TRAINER.CLIPFIT.PREC", precision.removesuffix("-bf16")),
        *(("TRAIN.CUDA_GRAPH", "True") if graph else ()),
        *("TRAINER.AMP_DTYPE", "bf16" if precision.endswith("bf16") else "fp16"),
        *("DATALOADER.TRAIN_X.BATCH_SIZE", str(IMAGES), "DATALOADER.NUM_WORKERS", "0"),
    )
    batch = next(iter(trainer.train_loader_x))
    trainer.set_model_mode("train")
    trainer.epoch = trainer.batch_idx = 0
    trainer.num_batches = 10**9  # this epoch never ends
    return lambda: trainer.forward_backward(batch)


def build(context: Context, *words: str):
    """The trainer of a command line, on the backbone that this device is measured with."""
    import datasets  # noqa: F401 - registers
    import trainers  # noqa: F401
    from dassl.engine import build_trainer
    from launch.arguments import parse_args
    from launch.resolve import resolve, settle_input
    from launch.runtime import prepare, settle_memory, settle_precision

    where = ["--backbone", backbone(context), "--output-dir", str(context.folder / "run")]
    pairs = ["USE_CUDA", str(context.on_gpu), "VERBOSE", "False", "THREADS", str(context.cores)]
    cfg = resolve(parse_args([*words[:4], *where, *words[4:], *pairs])).cfg
    with redirect_stdout(None):
        settle_input(cfg)
        settle_precision(cfg)
        settle_memory(cfg, anew=True)
        cfg.freeze()
        prepare(cfg)
        return build_trainer(cfg)


def backbone(context: Context) -> str:
    return "random:ViT-B/16" if context.on_gpu else "demo"


def plain_step(context: Context, classes: int, precision: str):
    """The plain computation: two passes over whole prompts, all images at once."""
    words = ["--classes", str(classes), "--images", str(IMAGES), "--precision", precision]
    words += ["--device", context.device, "--backbone", backbone(context), "--threads", str(context.cores)]
    args: argparse.Namespace = benchmark.parse_arguments(words)
    return benchmark.build_steps(WHAT, args)["plain"]


def matrix_rate(device: str, precision: str) -> float:
    """10^12 operations a second of a product of two large matrices, as training multiplies them."""
    dtype = benchmark.AUTOCAST[precision] or torch.float32
    one = torch.randn(SIDE, SIDE, device=device, dtype=dtype)
    rounds = []
    for _ in range(6):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(5):
            one @ one
        torch.cuda.synchronize()
        rounds.append((time.perf_counter() - begun) / 5)
    return 2 * SIDE**3 / min(rounds) / 1e12


def own_pictures(folder: Path, classes: int) -> Path:
    """A list of drawn pictures: at least a batch to train on, in so many classes with names of 1 to 3 tokens.

    Returns: a CSV file for --images
    """
    each = -(-IMAGES // classes)
    words = (itertools.product(benchmark.WORDS, repeat=length) for length in (1, 2, 3))
    names = [" ".join(name) for name in itertools.chain(*words)][:classes]
    paths = _drawn(folder, classes * (each + 1), size=(64, 64))
    parts = [("train", name) for name in names for _ in range(each)] + [("test", name) for name in names]
    return _listed(folder, paths, parts)


def tests(context: Context) -> str:
    """Zero-shot CLIP on JPEGs of 500 x 375 pixels: with kept pixels and stored features, first and later."""
    paths = _drawn(context.folder / "pictures", PICTURES[context.on_gpu] + 10)
    names = benchmark.WORDS
    parts = [("train", names[k % 10]) for k in range(10)]
    parts += [("test", names[k % 10]) for k in range(len(paths) - 10)]
    pictures = _listed(context.folder / "pictures", paths, parts)
    nothing = ("DATALOADER.TEST_CACHE_GB", 0)
    store = ("FEATURES.STORE", context.folder / "store")
    ways = {
        "nothing kept": nothing,
        "pixels, first test": (),
        "pixels, later test": (),
        "features, first test": (*nothing, *store),
        "features, later test": (*nothing, *store),
        "pixels and features": store,
    }
    rows = context.numbers["rows"] = []
    for number, (way, pairs) in enumerate(ways.items()):
        run = TrainRun(
            context,
            f"test{number}",
            "ZeroshotCLIP",
            *(*pairs, "DATALOADER.NUM_WORKERS", min(8, context.cores)),
            flags=("--backbone", backbone(context)),
            environment={"XDG_CACHE_HOME": str(context.folder / "cache")},
            images=pictures,
        )
        run.start().wait()
        if run.failed:
            context.problem(f"{way}: {run.failed}")
            continue
        seconds, total = run.result["seconds_test"], run.result["total"]
        row = {"way": way, "pictures": total, "seconds": seconds, "pictures_per_s": total / seconds}
        rows.append(row | {"accuracy": run.result["accuracy"]})
        context.save()
    if len({row["accuracy"] for row in rows}) > 1:
        context.problem(f"accuracies differ: {[row['accuracy'] for row in rows]}")
    return "; ".join(f"{row['way']} {row['pictures_per_s']:,.0f} pictures/s" for row in rows)


def _drawn(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> list[Path]:
    folder.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda number: draw(folder, number, size), range(count)))


def _listed(folder: Path, paths: list[Path], parts: list[tuple[str, str]]) -> Path:
    path = folder / "pictures.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "split"])
        writer.writerows([one.name, label, part] for one, (part, label) in zip(paths, parts, strict=True))
    return path
