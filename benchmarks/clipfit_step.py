"""One training step of CLIPFit: this code against the plain computation, in time and memory.

    python -m benchmarks.clipfit_step --threads 1
    python -m benchmarks.clipfit_step --threads 1 --classes 1000 --against ../before --malloc
    python -m benchmarks.clipfit_step --device cuda --precision amp

plain   as the method is usually run: the prompts of all classes, 77 tokens each, go through the text encoder
        twice (for the cross entropy and the regularizer), all images through the whole image tower, then
        backward through everything. Left out above --plain classes, where it does not fit.
here    what a trainer runs: clipfit/chunks.py and clipfit/micro_batches.py in the sizes of clipfit/memory.py.
before  with --against: another checkout of this project, a step as its trainers ran it before micro-batches.

Measured twice: the text passes alone, and the whole step with a batch of images. Every row of the table is
a process of its own, one after the other: the median of --repeat steps, in CPU seconds (on a GPU in seconds),
and its peak memory, weights included (on a GPU that of its allocator). --malloc adds the same rows in an
environment in which glibc keeps what is freed, so that page faults cost nothing. Gradients are those of
everything CLIPFit trains; what is said of them is how far they are from those of the first row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipfit.clip import CLIP
from clipfit.groups import select
from clipfit.io.commands import PATH
from clipfit.loading import load_clip
from clipfit.prompts import PLAIN, fill, tokenize

PROJECT = Path(__file__).parents[1]
WORDS = ["red", "blue", "green", "dog", "cat", "house", "tree", "car", "bird", "fish"]  # one token each

BETA = 8.0
PARTS = ("text passes", "whole step")
AUTOCAST = {"fp32": None, "amp": torch.float16, "amp-bf16": torch.bfloat16}  # --precision
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000"}

Results = dict[str, Tensor]  # "loss", and the gradient of every trained tensor by its name
Step = Callable[..., Results]


def main() -> None:
    """Measure and print."""
    args = parse_arguments()
    if args.measure:
        print(json.dumps(measured(args)))
        return
    long = ", one of 25" if args.long else ""
    print(
        f"{args.backbone}, {args.classes} classes (names of 1 to 3 tokens{long}), {args.images} images, "
        f"{args.device}, {args.threads} threads, {args.precision}"
    )
    kinds = ["plain"] if args.classes <= args.plain else []
    kinds += ["before"] if args.against else []
    environments = {"": {}, ", malloc": MALLOC} if args.malloc else {"": {}}
    rows = [(which, end) for end in environments for which in [*kinds, "here"]]
    for what in args.part or PARTS:
        print(
            f"\n{what:16}{'seconds':>10}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}   loss and gradients",
            flush=True,
        )
        first, reference = None, None
        with tempfile.TemporaryDirectory() as folder:
            for which, end in rows:
                file = Path(folder, "results.pt")
                row = in_own_process(what, which, file, environments[end])
                results = torch.load(file, weights_only=True)
                first, reference = first or row, reference or results
                away = relative_differences(results, reference)
                print(
                    f"{which + end:16}{row['seconds']:10.2f}{row['seconds'] / first['seconds']:8.2f}"
                    f"{row['peak']:10,.0f}{row['peak'] / first['peak']:8.2f}"
                    f"   {abs(results['loss'] / reference['loss'] - 1):.0e}, {max(away.values()):.0e}",
                    flush=True,
                )


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of one CLIPFit step.")
    parser.add_argument("--backbone", type=PATH, default="random:ViT-B/16")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--long", action="store_true", help="the last class has a name of 25 tokens")
    parser.add_argument("--images", type=int, default=32, help="batch size")
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this only")
    parser.add_argument("--repeat", type=int, default=3, help="steps of each kind (default 3)")
    parser.add_argument("--plain", type=int, default=100, metavar="CLASSES", help="above: no plain steps")
    parser.add_argument("--against", metavar="CHECKOUT", help="root of another checkout to measure too")
    parser.add_argument(
        "--malloc", action="store_true", help="also with an allocator that keeps what is freed"
    )
    parser.add_argument("--memory-gb", type=float, default=0.0, help="MODEL.MEMORY_GB (default: a run's)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=AUTOCAST, help="amp: autocast, in float16")
    parser.add_argument("--template", default=PLAIN, help="prompt of a class, with {} for its name")
    parser.add_argument("--measure", nargs=3, metavar=("PART", "KIND", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def in_own_process(what: str, which: str, file: Path, environment: dict[str, str]) -> dict[str, float]:
    """What :func:`measured` gives in a fresh process; `before` runs the code of the other checkout."""
    args = parse_arguments()
    root = Path(args.against if which == "before" else PROJECT).resolve()
    words = [sys.executable, __file__, *sys.argv[1:], "--measure", what, which, str(file)]
    environment = {**os.environ, **environment, "PYTHONPATH": str(root)}
    answer = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(answer.splitlines()[-1])


def measured(args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step and peak MiB of this process; the last step's results go into a file."""
    what, which, file = args.measure
    step = build_steps(what, args)[which]
    seconds = []
    for _ in range(args.repeat):
        begun = clock(args.device)
        results = step()
        seconds.append(clock(args.device) - begun)
    torch.save({name: tensor.cpu() for name, tensor in results.items()}, file)
    return {"seconds": statistics.median(seconds), "peak": peak_memory(args.device)}


def build_steps(what: str, args: argparse.Namespace, clip: CLIP | None = None) -> dict[str, Step]:
    """The ways to get the gradients of the same loss in the same CLIP (`clip`, else it is loaded).

    A step takes a precision (default `args.precision`), and the factor that scales the loss while its
    gradients are computed, as a gradient scaler does (default 1); what it returns is divided by it again.
    """
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    clip = load_clip(args.backbone, device=args.device) if clip is None else clip
    clip.requires_grad_(False)
    groups = ["text.ffn_proj_bias"] + (["image.layernorm"] if what == "whole step" else [])
    trained = {name: p for parameters in select(clip, groups).values() for name, p in parameters.items()}
    for parameter in trained.values():
        parameter.requires_grad_(True)

    names = class_names(args.classes, args.long)
    tokens = tokenize(fill(args.template, names), names).to(args.device)
    prompts = clip.embed_prompts(tokens)
    width = clip.text_encoder.text_projection.shape[1]
    teacher = torch.randn(args.classes, width, generator=generator).to(args.device)
    images = torch.randn(args.images, 3, clip.input_size, clip.input_size, generator=generator).to(
        args.device
    )
    labels = (torch.arange(args.images) % args.classes).to(args.device)
    fixed = torch.randn(args.images, width, generator=generator).to(args.device)
    inputs = images if what == "whole step" else fixed

    def entropy(encode: Callable, some: Tensor, truth: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        logits = clip.logits(encode(some) if what == "whole step" else some, w)
        return F.cross_entropy(logits.float(), truth), logits

    def drift(w: Tensor) -> Tensor:
        return BETA * (1 - F.cosine_similarity(w.float(), teacher).mean())

    def gradients(loss: Tensor, scale: float) -> Results:
        found = torch.autograd.grad(loss * scale, list(trained.values()))
        named = zip(trained, found, strict=True)
        return {"loss": loss.detach(), **{name: gradient / scale for name, gradient in named}}

    def plain(precision: str = "", scale: float = 1.0) -> Results:
        embedded = clip.embed(tokens)
        with autocast(args.device, precision or args.precision):
            for_entropy, for_regularizer = (plain_text(clip, embedded, tokens) for _ in range(2))
            loss, _ = entropy(lambda some: plain_images(clip, some), inputs, labels, for_entropy)
            loss = loss + drift(for_regularizer)
        return gradients(loss, scale)

    def before(precision: str = "", scale: float = 1.0) -> Results:
        from clipfit import chunks

        with autocast(args.device, precision or args.precision):
            w = chunks.encode(clip.text_encoder, prompts)
            loss = entropy(clip.encode_image, inputs, labels, w)[0] + drift(w)
        return gradients(loss, scale)

    def here(precision: str = "", scale: float = 1.0) -> Results:
        from clipfit import chunks, memory
        from clipfit.micro_batches import mean_losses

        def losses(*batch: Tensor) -> tuple[Tensor, Tensor]:
            return entropy(clip.encode_image, *batch)

        sizes = memory.sizes(clip, args.memory_gb or memory.default_budget(torch.device(args.device)))
        with autocast(args.device, precision or args.precision):
            w = chunks.encode(clip.text_encoder, prompts, sizes.rows)
            tensors = list(trained.values())
            loss, _ = mean_losses(losses, inputs, labels, w, tensors, sizes.images, lambda part: part * scale)
            loss = loss + drift(w)
        return gradients(loss, scale)

    return {"plain": plain, "before": before, "here": here}


def class_names(count: int, long: bool = False) -> list[str]:
    """Names of one to three tokens; if `long`, the last has 25."""
    names = [" ".join(WORDS[(7 * k + 3 * i) % len(WORDS)] for i in range(1 + k % 3)) for k in range(count)]
    return [*names[:-1], " ".join(["red"] * 25)] if long else names


def autocast(device: str, precision: str):
    """Mixed precision around the forward pass, as `precision` names it."""
    dtype = AUTOCAST[precision]
    return nullcontext() if dtype is None else torch.autocast(torch.device(device).type, dtype)


def relative_differences(results: Results, reference: Results) -> dict[str, float]:
    """|g - reference| / |reference| of every gradient, by name; computed on the CPU in float64."""
    pairs = {
        name: (results[name].double().cpu(), gradient.double().cpu())
        for name, gradient in reference.items()
        if name != "loss"
    }
    return {name: ((one - other).norm() / other.norm()).item() for name, (one, other) in pairs.items()}


# The plain computation: torch's own attention and nothing cut, shared or recomputed -------------------


def plain_text(clip: CLIP, embedded: Tensor, tokens: Tensor) -> Tensor:
    """(K, 77, W) embeddings and (K, 77) ids -> (K, D): every row of every prompt through the blocks."""
    encoder = clip.text_encoder
    rows = (embedded + encoder.positional_embedding).permute(1, 0, 2)
    mask = torch.full((len(rows), len(rows)), -torch.inf, device=rows.device).triu(1)
    for block in encoder.transformer.resblocks:
        rows = plain_block(block, rows, mask)
    rows = encoder.ln_final(rows.permute(1, 0, 2))
    return (
        rows[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)] @ encoder.text_projection
    )


def plain_images(clip: CLIP, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, D): every row of every image through the blocks of a ViT."""
    tower = clip.image_encoder
    if not hasattr(tower, "transformer"):
        return clip.encode_image(images)
    rows = tower.conv1(images).flatten(2).permute(0, 2, 1)
    rows = torch.cat([tower.class_embedding.to(rows.dtype).expand(len(images), 1, -1), rows], dim=1)
    rows = tower.ln_pre(rows + tower.positional_embedding).permute(1, 0, 2)
    for block in tower.transformer.resblocks:
        rows = plain_block(block, rows)
    return tower.ln_post(rows[0]) @ tower.proj


def plain_block(block: nn.Module, rows: Tensor, mask: Tensor | None = None) -> Tensor:
    """(L, B, W) -> (L, B, W)."""
    seen = block.ln_1(rows)
    rows = rows + block.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
    hidden = block.mlp.c_fc(block.ln_2(rows))
    quick = not isinstance(block.mlp.gelu, nn.GELU)
    hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else block.mlp.gelu(hidden)
    return rows + block.mlp.c_proj(hidden)


# Measuring --------------------------------------------------------------------------------------------


def clock(device: str) -> float:
    """CPU seconds of this process; with a GPU seconds, once it is done."""
    if torch.device(device).type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(device: str) -> float:
    """Peak memory in MiB of this process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main()
