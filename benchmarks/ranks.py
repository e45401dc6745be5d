"""What a rank of a run on several processes keeps in memory: a training step of CLIPFit on many classes.

    python -m benchmarks.ranks
    python -m benchmarks.ranks --classes 5000 --ranks 1 2 --backbone random:ViT-B/16

The ranks of a run share the classes of its text pass and the pictures of its batch (docs/many_gpus.md). Each
starts with a model of its own; what counts is how much its peak of resident memory grows from there, over one
step with forward and backward pass, on the CPU (gloo), as Linux tells. MODEL.MEMORY_GB is so large that
nothing is done in parts to save memory, unless --memory-gb says otherwise. The losses of all numbers of ranks
are printed too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.launches import build, node_of
from clipfit.io.commands import PATH
from dassl.utils import ranks

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def main(argv: Sequence[str] | None = None) -> None:
    """Start the ranks of every number, or be one of them."""
    parser = argparse.ArgumentParser(description="Peak memory of each rank in a training step.")
    parser.add_argument("--trainer", default="CLIPFit")
    parser.add_argument("--backbone", type=PATH, default="demo")
    parser.add_argument("--classes", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=32, help="batch size of the run (default 32)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--memory-gb", type=float, default=1000.0, help="MODEL.MEMORY_GB (default: all)")
    args = parser.parse_args(argv)
    if "RANK" in os.environ:
        measure(args)
        return
    print(
        f"{args.trainer}, {args.backbone}, {args.classes:,} classes, {args.images} images, fp32", flush=True
    )
    print(f"{'ranks':>5}{'MB of each rank':>32}{'MB of all':>11}{'seconds':>9}{'loss':>11}", flush=True)
    words = sys.argv[1:] if argv is None else argv
    for count in args.ranks:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*TORCHRUN, str(count), "-m", "benchmarks.ranks", *words], check=True, env=environment)


def measure(args: argparse.Namespace) -> None:
    """As a rank: take a step, and let rank 0 print what every rank has found."""
    with ranks.joined():
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            words = ["--backbone", args.backbone, "MODEL.MEMORY_GB", str(args.memory_gb)]
            words += [f"TRAINER.{node_of(args.trainer)}.PREC", "fp32"]
            trainer = build(args.trainer, args.classes, Path(folder), words)
        grown, seconds, loss = growth_of_step(
            trainer, batch_of(args.images, args.classes, trainer.clip.input_size)
        )
        found = ranks.collected((grown, loss)) if ranks.size() > 1 else [(grown, loss)]
        if found:
            each = ", ".join(f"{megabytes:,.0f}" for megabytes, _ in found)
            total = sum(megabytes for megabytes, _ in found)
            print(f"{len(found):5}{each:>32}{total:11,.0f}{seconds:9.1f}{loss:11.6f}", flush=True)


def batch_of(images: int, classes: int, size: int) -> dict[str, Tensor]:
    """Random pictures of a whole batch, the same on every rank."""
    labels = torch.arange(images) % classes
    pictures = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0))
    return {"img": pictures, "label": labels, "domain": torch.zeros_like(labels)}


def growth_of_step(trainer, batch: dict) -> tuple[float, float, float]:
    """Megabytes by which the peak of this process grows in a step, its seconds, and the loss of the batch."""
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
    trainer.set_model_mode("train")
    own = ranks.part(len(batch["label"]))
    with ranks.sharing():
        ranks.take(own)
        part = {name: tensor[own.start : own.stop] for name, tensor in batch.items()}
        ranks.barrier()
        Path("/proc/self/clear_refs").write_text("5")  # the most begins anew with what there is
        before, begun = resident("VmRSS"), time.monotonic()
        loss = trainer.forward_backward(part)["loss"] * own.weight
        seconds, most = time.monotonic() - begun, resident("VmHWM")
    if ranks.size() > 1:
        torch.distributed.all_reduce(loss)
    return (most - before) / 1e6, seconds, loss.item()


def resident(what: str) -> int:
    """Resident memory of this process [bytes]: VmRSS, what it has now, or VmHWM, the most it has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))


if __name__ == "__main__":
    main()
