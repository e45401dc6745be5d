"""A grid of few-shot runs with a store of image features, and without: processor time, and the bits of both.

    python -m benchmarks.shared_features
    python -m benchmarks.shared_features --epochs 50 --methods CoOp KgCoOp --backbone random:ViT-B/32

Runs every method whose image tower is frozen on the embedded data, one run after the other in warm
processes, as `reproduce.py run` does. Seconds are processor seconds of everything that the grid starts.
"""

import argparse
import resource
import tempfile
from pathlib import Path

from benchmarks.gpu.runs import differences
from clipfit.io.commands import PATH, default_root
from grid import scheduler
from grid.display import Display
from grid.executors.local import LocalExecutor
from grid.plan import Planned, plan
from grid.spec import Spec

METHODS = ["CoOp", "KgCoOp", "ProGrad", "CoCoOp", "CLIPAdapter"]


def main() -> None:
    """Run both grids, compare and print."""
    parser = argparse.ArgumentParser(description="A few-shot grid with and without a store of features.")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10, help="of every method (default 10)")
    parser.add_argument("--backbone", default="", type=PATH)
    parser.add_argument("--root", default=default_root(), type=PATH, help="folder of the data sets")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        grid(args, ["ZeroshotCLIP"], Path(folder, "first"))  # draws the data
        without, seconds = grid(args, args.methods, Path(folder, "without"))
        store = Path(folder, "store")
        with_store, less = grid(args, args.methods, Path(folder, "with"), str(store))
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) / 1e6
        for one, other in zip(without, with_store, strict=True):
            if unequal := differences(one.folder, other.folder):
                raise SystemExit(f"{one.spec.trainer}, seed {one.spec.seed}: {'; '.join(unequal)}")
    print(f"\n{'':14}{'runs':>6}{'CPU seconds':>13}{'ratio':>8}{'store, MB':>11}")
    print(f"{'without':14}{len(without):6}{seconds:13.1f}")
    print(f"{'with the store':14}{len(with_store):6}{less:13.1f}{seconds / less:7.2f}x{size:11.1f}")
    print("losses and trained tensors of all runs are equal in every bit")


def grid(
    args: argparse.Namespace, methods: list[str], output: Path, store: str = ""
) -> tuple[list[Planned], float]:
    """The runs, and the processor seconds that they took."""
    pairs = ("OPTIM.MAX_EPOCH", str(args.epochs), "OPTIM.WARMUP_EPOCH", "0")
    specs = [
        Spec(method, "few_shot", "demo", args.shots, seed, pairs=pairs)
        for method in methods
        for seed in args.seeds
    ]
    planned = plan(
        [(spec, ()) for spec in specs], str(output), args.root, store=store, backbone=args.backbone, threads=1
    )
    runs = list(planned.values())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = scheduler.run(runs, LocalExecutor(jobs=1), Display())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if summary.failed:
        raise SystemExit("; ".join(f"{run.spec.trainer}: {run.reason}" for run in summary.failed))
    seconds = sum(getattr(after, one) - getattr(before, one) for one in ("ru_utime", "ru_stime"))
    return runs, seconds


if __name__ == "__main__":
    main()
