"""What a training step asks of a device: kernels that it launches, and moments at which the host waits.

    python -m benchmarks.launches
    python -m benchmarks.launches --trainer ProGrad CoOp --classes 1000 --precision fp16

Counted on a CPU: every operation that reaches a device, beneath automatic differentiation and autocast, but
for those that only make room or a view. On a GPU each is a launch, a few are two. It is a step of a trainer
with the engine around it, its optimizer as torch runs it on a GPU: all tensors at once. The numbers depend on
classes and layers, not on the batch.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.clipfit_step import class_names
from clipfit import text
from clipfit.io.commands import PATH

# Operations that make room, or another tensor of the same values, though their schema does not say so.
FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "lift_fresh",
    "_local_scalar_dense",
}
COPIES = {"_to_copy", "copy_", "clone", "cat", "stack", "index_select", "index_copy", "index_add"}
COPIES |= {"fill_", "zero_", "zeros", "zeros_like", "new_zeros", "ones_like", "scalar_tensor", "where"}
COPIES |= {"select_backward", "slice_backward", "index_put"}
# Operations that give the host a number or a size; a tensor made of Python numbers, which goes to the device.
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "lift_fresh"}
# Operations that are a fill and a copy, or two copies.
TWO = {"select_backward", "slice_backward", "index_copy", "index_add", "index_put"}
TO_HOST = {"tolist", "cpu", "numpy"}  # of a tensor; on a CPU they are no operations
PRECISIONS = {"fp32": ["fp32"], "bf16": ["amp", "bf16"], "fp16": ["amp", "fp16"]}


class DeviceCounts:
    """Launches and waits, by the names of operations."""

    def __init__(self):
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.on_host: list[Tensor] = []  # copies that nobody waits for while they are under way

    def restart(self) -> None:
        """Count from zero."""
        self.launches.clear()
        self.waits.clear()

    @property
    def copies(self) -> int:
        """Launches that change no value: copies, fills, other precisions."""
        return sum(self.launches[name] for name in COPIES)


@contextmanager
def counted() -> Iterator[DeviceCounts]:
    """Count what is asked of the device inside."""
    counts = DeviceCounts()
    stepping = []  # optimizers keep the number of their steps on the host, and read it there
    hooks = [
        register_optimizer_step_pre_hook(lambda *_: stepping.append(True)),
        register_optimizer_step_post_hook(lambda *_: stepping.clear()),
    ]
    try:
        with _Calls(counts), _Operations(counts, stepping):
            yield counts
    finally:
        for hook in hooks:
            hook.remove()


class _Operations(TorchDispatchMode):
    """DeviceCounts operations where they reach the device."""

    def __init__(self, counts: DeviceCounts, stepping: list):
        super().__init__()
        self._counts, self._stepping = counts, stepping

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        space, _, name = func._schema.name.partition("::")
        if space == "aten" and not func.is_view and name not in FREE:
            self._counts.launches[name] += 2 if name in TWO else 1
        if (name in WAITS or _is_masked(name, args)) and not self._stepping and not self._is_known(args):
            self._counts.waits[name] += 1
        return func(*args, **(kwargs or {}))

    def _is_known(self, args: tuple) -> bool:
        """Whether the host has the tensor already."""
        return any(args and args[0] is one for one in self._counts.on_host)


def _is_masked(name: str, args: tuple) -> bool:
    """Whether places are given by truth values, whose number decides a shape."""
    if name not in ("index", "index_put", "index_put_"):
        return False
    return any(place is not None and place.dtype in (torch.bool, torch.uint8) for place in args[1])


class _Calls(TorchFunctionMode):
    """DeviceCounts calls that bring values of a tensor to the host, and copies that the host waits for."""

    def __init__(self, counts: DeviceCounts):
        super().__init__()
        self._counts = counts

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        words = *args, *kwargs.values()
        moves = name == "to" and any(isinstance(word, (str, torch.device)) for word in words)
        if name in TO_HOST or (moves and not kwargs.get("non_blocking")):
            self._counts.waits[name] += 1
        result = func(*args, **kwargs)
        if moves and "cpu" in words and kwargs.get("non_blocking"):
            self._counts.on_host.append(result)
        return result


def count_step(trainer, warm: int = 2) -> DeviceCounts:
    """What one step of a built trainer asks of the device, after a few that are not counted."""
    from dassl.engine.steps import StepWatch

    batch = next(iter(trainer.train_loader_x))
    trainer.set_model_mode("train")
    trainer.num_batches, trainer.batch_idx = warm + 2, -1
    watch = trainer._step_watch = StepWatch(trainer, 0, 0)
    trainer.epoch = 0
    try:
        with counted() as counts:
            for trainer.batch_idx in range(warm + 1):
                counts.restart()
                trainer.forward_backward(batch)
        return counts
    finally:
        trainer._step_watch = None
        watch.close()


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Let a CPU do what a GPU would: prompts attend at once, optimizers take all their tensors at once."""
    on_cpu = text.AT_ONCE["cpu"]
    text.AT_ONCE["cpu"] = text.AT_ONCE["cuda"]
    hook = register_optimizer_step_pre_hook(_all_at_once)
    try:
        yield
    finally:
        text.AT_ONCE["cpu"] = on_cpu
        hook.remove()


def _all_at_once(optimizer: Optimizer, *_) -> None:
    for group in optimizer.param_groups:
        if "foreach" in group:
            group["foreach"] = True


def build(trainer: str, classes: int, folder: Path, words: Sequence[str]):
    """A trainer over classes of names of 1 to 3 tokens, on the CPU, whose one picture nobody opens."""
    import datasets  # noqa: F401 - registers
    import trainers  # noqa: F401
    from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
    from dassl.engine import build_trainer
    from launch.arguments import parse_args
    from launch.resolve import resolve, settle_input

    class Names(DatasetBase):
        def __init__(self, cfg):
            Image.new("RGB", (8, 8)).save(folder / "picture.png")
            items = [
                Datum(str(folder / "picture.png"), label, classname=name)
                for label, name in enumerate(class_names(classes))
            ]
            super().__init__(train_x=items, test=items)

    DATASET_REGISTRY.register(Names, force=True)
    argv = ["--trainer", trainer, "--dataset", "demo", "--root", str(folder), "--output-dir", str(folder)]
    cfg = resolve(parse_args([*argv, *words, "USE_CUDA", "False", "DATALOADER.NUM_WORKERS", "0"])).cfg
    settle_input(cfg)
    cfg.DATASET.NAME = "Names"
    cfg.freeze()
    torch.manual_seed(0)
    return build_trainer(cfg)


def main(argv: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description="Kernel launches and waits of a training step.")
    parser.add_argument("--trainer", nargs="+", default=["CLIPFit"])
    parser.add_argument("--backbone", type=PATH, default="random:ViT-B/16")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--images", type=int, default=2, help="batch size (default 2)")
    parser.add_argument("--precision", default="bf16", choices=PRECISIONS)
    parser.add_argument("--each", action="store_true", help="also how often each operation is launched")
    args = parser.parse_args(argv)
    print(f"{args.backbone}, {args.classes} classes (names of 1 to 3 tokens), {args.precision}")
    print(f"{'':12}{'launches':>10}{'copies, fills, casts':>22}{'waits':>7}")
    for trainer in args.trainer:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), as_on_a_gpu():
            counts = counts_of(trainer, args, Path(folder))
        waits = ", ".join(f"{name} {count}" for name, count in counts.waits.most_common()) or 0
        print(f"{trainer:12}{counts.launches.total():10,}{counts.copies:22,}  {waits!s:>5}", flush=True)
        if args.each:
            for name, count in counts.launches.most_common():
                print(f"{'':12}{count:10,}  {name}")


def counts_of(trainer: str, args: argparse.Namespace, folder: Path) -> DeviceCounts:
    """Build a trainer and count its step."""
    prec, *dtype = PRECISIONS[args.precision]
    words = ["--backbone", args.backbone, f"TRAINER.{node_of(trainer)}.PREC", prec, "MODEL.MEMORY_GB", "40"]
    if dtype:
        words += ["TRAINER.AMP_DTYPE", *dtype]
    words += ["DATALOADER.TRAIN_X.BATCH_SIZE", str(args.images)]
    return count_step(build(trainer, args.classes, folder, words))


def node_of(trainer: str) -> str:
    """The config node of a shipped method."""
    import trainers  # noqa: F401 - registers
    from dassl.engine import TRAINER_REGISTRY

    return TRAINER_REGISTRY.get(trainer)._node()


if __name__ == "__main__":
    main()
