"""Text passes of one CLIPFit step: this code against the plain computation, in time and memory.

    python -m benchmarks.text_passes
    python -m benchmarks.text_passes --backbone random:ViT-B/16 --classes 100 --threads 1

plain   as the method is usually run: the prompts of all classes, 77 tokens each, go through the text encoder
        twice (once for the cross entropy, once for the regularizer), then backward through both.
fast    models/text.py: one pass over the tokens that differ serves both losses, then one backward.

Both give gradients to the biases of the second feed-forward layers, and the last line says how far these are
apart. Times are the best of --repeat steps after one that is not counted, in one process. Peak memory is that
of a process of its own for each, weights included; on a GPU that of its allocator.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import Tensor

from models.clip import CLIP, normalize
from models.groups import select
from models.loading import load_clip
from models.prompts import PLAIN, fill, tokenize

WORDS = ["red", "blue", "green", "dog", "cat", "house", "tree", "car", "bird", "fish"]  # one token each

Step = Callable[[], tuple[Tensor, ...]]


def main() -> None:
    """Measure and print."""
    args = parse_arguments()
    print(f"{args.backbone}, {args.classes} classes, names of 1 to 3 tokens, {args.device}, float32")
    memory = {which: in_own_process(peak_memory, which, args) for which in ("plain", "fast")}

    steps = build_steps(args)
    gradients, seconds = {}, {}
    for which, step in steps.items():
        seconds[which], gradients[which] = best_time(step, args.repeat, args.device)
    print(f"{'':8}{'seconds':>10}{'peak MiB':>12}")
    for which in steps:
        print(f"{which:8}{seconds[which]:10.3f}{memory[which]:12,.0f}")
    print(f"{'ratio':8}{seconds['plain'] / seconds['fast']:9.1f}x{memory['plain'] / memory['fast']:11.1f}x")
    difference = max(
        ((fast - plain).norm() / plain.norm()).item()
        for fast, plain in zip(gradients["fast"], gradients["plain"], strict=True)
    )
    print(f"largest relative difference of a gradient: {difference:.1e}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of the text passes of one CLIPFit step.")
    parser.add_argument("--backbone", default="random:ViT-B/16")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=2, help="steps timed of each kind (default 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def build_steps(args: argparse.Namespace) -> dict[str, Step]:
    """The two ways to get the gradients of the same loss in the same CLIP."""
    torch.set_num_threads(args.threads)
    clip = load_clip(args.backbone, device=args.device).requires_grad_(False)
    biases = list(select(clip, ["text.ffn_proj_bias"])["text.ffn_proj_bias"].values())
    for bias in biases:
        bias.requires_grad_(True)

    names = [
        " ".join(WORDS[(7 * k + 3 * i) % len(WORDS)] for i in range(1 + k % 3)) for k in range(args.classes)
    ]
    tokens = tokenize(fill(PLAIN, names), names).to(args.device)
    prompts, embedded = clip.embed_prompts(tokens), clip.embed(tokens)
    width = clip.text_encoder.text_projection.shape[1]
    targets = torch.randn(2, args.classes, width, generator=torch.Generator().manual_seed(0)).to(args.device)

    def loss(for_entropy: Tensor, for_regularizer: Tensor) -> Tensor:
        return (normalize(for_entropy) * targets[0]).sum() + (normalize(for_regularizer) * targets[1]).sum()

    def plain() -> tuple[Tensor, ...]:
        features = [plain_features(clip, embedded, tokens) for _ in range(2)]
        return torch.autograd.grad(loss(*features), biases)

    def fast() -> tuple[Tensor, ...]:
        features = clip.text_encoder(prompts)
        return torch.autograd.grad(loss(features, features), biases)

    return {"plain": plain, "fast": fast}


def plain_features(clip: CLIP, embedded: Tensor, tokens: Tensor) -> Tensor:
    """(K, 77, W) embeddings and (K, 77) ids -> (K, D): every row of every prompt through the blocks."""
    encoder = clip.text_encoder
    rows = (embedded + encoder.positional_embedding).permute(1, 0, 2)
    rows = encoder.ln_final(encoder.transformer(rows).permute(1, 0, 2))
    return (
        rows[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)] @ encoder.text_projection
    )


def best_time(step: Step, repeat: int, device: str) -> tuple[float, tuple[Tensor, ...]]:
    """Seconds of the fastest of `repeat` steps, and what the step returns."""
    step()
    seconds = []
    for _ in range(repeat):
        synchronize(device)
        start = time.perf_counter()
        gradients = step()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds), gradients


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def peak_memory(which: str, args: argparse.Namespace) -> float:
    """Peak memory in MiB of a process that takes one step."""
    build_steps(args)[which]()
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
