"""One training step of CLIPFit: this code against the plain computation, in time and memory.

    python -m benchmarks.clipfit_step
    python -m benchmarks.clipfit_step --backbone random:ViT-B/16 --classes 100 --images 32 --threads 2
    python -m benchmarks.clipfit_step --device cuda --precision amp

plain   as the method is usually run: the prompts of all classes, 77 tokens each, go through the text encoder
        twice (once for the cross entropy, once for the regularizer), then backward through both.
fast    clipfit/text.py: one pass over the tokens that differ serves both losses, then one backward.

Measured twice: the text passes alone, and the whole step with a batch of images (whose share is the same in
both). Gradients are those of everything CLIPFit trains; the last line says how far these are apart. Times are
the best of --repeat steps after one that is not counted, plain and fast in one process. Peak memory is that
of a process of its own for each, weights included; on a GPU that of its allocator.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from clipfit.clip import CLIP
from clipfit.groups import select
from clipfit.io.commands import PATH
from clipfit.loading import load_clip
from clipfit.prompts import PLAIN, fill, tokenize

WORDS = ["red", "blue", "green", "dog", "cat", "house", "tree", "car", "bird", "fish"]  # one token each

BETA = 8.0
PARTS = ("text passes", "whole step")
AUTOCAST = {"fp32": None, "amp": torch.float16, "amp-bf16": torch.bfloat16}  # --precision

Results = dict[str, Tensor]  # "loss", and the gradient of every trained tensor by its name
Step = Callable[..., Results]


def main() -> None:
    """Measure and print."""
    args = parse_arguments()
    print(
        f"{args.backbone}, {args.classes} classes (names of 1 to 3 tokens), {args.images} images, "
        f"{args.device}, {args.threads} threads, {args.precision}"
    )
    # Memory first: a process counts what its parent held when it was started.
    memory = {
        what: {which: in_own_process(peak_memory, what, which, args) for which in ("plain", "fast")}
        for what in PARTS
    }
    for what in PARTS:
        results, seconds = {}, {}
        for which, step in build_steps(what, args).items():
            seconds[which], results[which] = best_time(step, args.repeat, args.device)
        print(f"\n{what:12}{'seconds':>10}{'peak MiB':>12}")
        for which in seconds:
            print(f"{which:12}{seconds[which]:10.3f}{memory[what][which]:12,.0f}")
        faster = seconds["plain"] / seconds["fast"]
        smaller = memory[what]["plain"] / memory[what]["fast"]
        print(f"{'ratio':12}{faster:9.1f}x{smaller:11.1f}x")
        differences = relative_differences(results["fast"], results["plain"])
        print(f"largest relative difference of a gradient: {max(differences.values()):.1e}")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of one CLIPFit step.")
    parser.add_argument("--backbone", type=PATH, default="random:ViT-B/16")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--images", type=int, default=32, help="batch size")
    parser.add_argument("--repeat", type=int, default=2, help="steps timed of each kind (default 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=AUTOCAST, help="amp: autocast, in float16")
    parser.add_argument("--template", default=PLAIN, help="prompt of a class, with {} for its name")
    return parser.parse_args(argv)


def build_steps(what: str, args: argparse.Namespace, clip: CLIP | None = None) -> dict[str, Step]:
    """The two ways to get the gradients of the same loss in the same CLIP (`clip`, else it is loaded).

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

    names = class_names(args.classes)
    tokens = tokenize(fill(args.template, names), names).to(args.device)
    prompts, embedded = clip.embed_prompts(tokens), clip.embed(tokens)
    width = clip.text_encoder.text_projection.shape[1]
    teacher = torch.randn(args.classes, width, generator=generator).to(args.device)
    images = torch.randn(args.images, 3, clip.input_size, clip.input_size, generator=generator).to(
        args.device
    )
    labels = (torch.arange(args.images) % args.classes).to(args.device)
    fixed = torch.randn(args.images, width, generator=generator).to(args.device)

    def run(features: Callable[[], tuple[Tensor, Tensor]], precision: str, scale: float) -> Results:
        with autocast(args.device, precision or args.precision):
            for_entropy, for_regularizer = features()
            image = clip.encode_image(images) if what == "whole step" else fixed
            drift = 1 - F.cosine_similarity(for_regularizer.float(), teacher).mean()
            loss = F.cross_entropy(clip.logits(image, for_entropy).float(), labels) + BETA * drift
        gradients = torch.autograd.grad(loss * scale, list(trained.values()))
        named = zip(trained, gradients, strict=True)
        return {"loss": loss.detach(), **{name: gradient / scale for name, gradient in named}}

    def plain(precision: str = "", scale: float = 1.0) -> Results:
        two_passes = (plain_features(clip, embedded, tokens) for _ in range(2))
        return run(lambda: tuple(two_passes), precision, scale)

    def fast(precision: str = "", scale: float = 1.0) -> Results:
        return run(lambda: (clip.text_encoder(prompts),) * 2, precision, scale)

    return {"plain": plain, "fast": fast}


def class_names(count: int) -> list[str]:
    """Names of one to three tokens."""
    return [" ".join(WORDS[(7 * k + 3 * i) % len(WORDS)] for i in range(1 + k % 3)) for k in range(count)]


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


def plain_features(clip: CLIP, embedded: Tensor, tokens: Tensor) -> Tensor:
    """(K, 77, W) embeddings and (K, 77) ids -> (K, D): every row of every prompt through the blocks."""
    encoder = clip.text_encoder
    rows = (embedded + encoder.positional_embedding).permute(1, 0, 2)
    rows = encoder.ln_final(encoder.transformer(rows).permute(1, 0, 2))
    return (
        rows[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)] @ encoder.text_projection
    )


def best_time(step: Step, repeat: int, device: str) -> tuple[float, Results]:
    """Seconds of the fastest of `repeat` steps, and what the step returns."""
    step()
    seconds = []
    for _ in range(repeat):
        synchronize(device)
        start = time.perf_counter()
        results = step()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds), results


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def peak_memory(what: str, which: str, args: argparse.Namespace) -> float:
    """Peak memory in MiB of a process that takes one step."""
    build_steps(what, args)[which]()
    if torch.device(args.device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def in_own_process(function: Callable, *arguments: object) -> float:
    """Result of `function` in a fresh process, whose memory no one else has touched."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main()
