"""The step of benchmarks/clipfit_step.py: against the CPU in every precision and attention, and its cost."""

from __future__ import annotations

import copy
import statistics
import time
from collections import Counter

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks import clipfit_step as benchmark
from benchmarks.gpu.context import Context
from clipfit.loading import load_clip
from clipfit.prompts import fill, tokenize

WHAT = "whole step"
TEMPLATES = {1: "{}.", 5: "a photo of a {}."}  # rows that all prompts share -> template
BACKENDS = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
ON_CPU = ("math", "flash")
RELATIVE = 1e-4  # fp32: 24 blocks of sums in another order stay well below
COSINE = 0.99  # amp: rounding of 3e-3 (bf16) a step leaves the direction, an error of a kernel does not
SCALES = [2.0**power for power in range(16, -1, -4)]  # as a gradient scaler: begin high, lower on overflow
OPERATION = "aten::_scaled_dot_product_"
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def against_cpu(context: Context) -> str:
    """Loss and gradients of one step beside those of the plain computation on the CPU in fp32."""
    _as_the_engine_computes(context.cores)
    backbone = "random:ViT-B/16" if context.on_gpu else "demo"
    clip = load_clip(backbone)
    there = copy.deepcopy(clip).to(context.device)
    compared, worst = 0, {}
    for shared, template in TEMPLATES.items():
        words = ["--classes", "8", "--images", "8", "--template", template, "--threads", str(context.cores)]
        here = benchmark.parse_arguments(words)
        names = benchmark.class_names(here.classes)
        rows = clip.embed_prompts(tokenize(fill(template, names), names)).layout.shared
        if rows != shared:
            context.problem(f"{template!r} shares {rows} rows, not {shared}")
        reference = benchmark.build_steps(WHAT, here, clip)["plain"]()
        on_device = benchmark.parse_arguments([*words, "--device", context.device])
        step = benchmark.build_steps(WHAT, on_device, there)["here"]
        for precision in benchmark.AUTOCAST:
            for backend in BACKENDS if context.on_gpu else ON_CPU:
                what = f"{backbone}, {shared} shared, {precision}, {backend}"
                row = context.numbers[what] = _compare(step, precision, backend, reference)
                if row["calls"]:
                    compared += 1
                    value = row.get("relative", row.get("cosine"))
                    choose = max if precision == "fp32" else min
                    worst[precision] = choose(worst.get(precision, value), value)
                if row["problem"]:
                    context.problem(f"{what}: {row['problem']}")
                context.save()
    ran = sorted({name.rpartition(", ")[2] for name, row in context.numbers.items() if row["calls"]})
    formats = {"fp32": ".1e"}
    found = ", ".join(f"{name} {value:{formats.get(name, '.6f')}}" for name, value in worst.items())
    return (
        f"{backbone}, {compared} steps with attention {', '.join(ran)}; "
        f"largest relative difference (fp32) and least cosine of a gradient (amp): {found}"
    )


def _compare(step: benchmark.Step, precision: str, backend: str, reference: benchmark.Results) -> dict:
    """One step with a backend for what it takes and math for the rest, beside the reference.

    Returns: `calls` of the backend (0: it does not run here, nothing is compared), calls of others, scale,
    `relative` difference of loss and gradients or the smallest `cosine` of a gradient, and the `problem`
    """
    row = {"calls": 0, "problem": ""}
    backends = list(dict.fromkeys([BACKENDS[backend], SDPBackend.MATH]))
    try:
        with sdpa_kernel(backends, set_priority=True):
            row["scale"], results, row["calls"], row["others"] = _scaled_step(step, precision, backend)
    except RuntimeError as error:
        return {**row, "problem": f"{type(error).__name__}: {error}".splitlines()[0]}
    if not row["calls"]:
        return row
    if not _finite(results):
        return {**row, "problem": "not finite"}
    loss = reference["loss"].item()
    row["loss"] = abs(results["loss"].item() - loss) / abs(loss)
    if precision == "fp32":
        differences = benchmark.relative_differences(results, reference)
        worst = max(differences, key=differences.get)
        row["relative"] = max(row["loss"], differences[worst])
        if row["relative"] > RELATIVE:
            row["problem"] = f"loss differs by {row['loss']:.1e}, {worst} by {differences[worst]:.1e}"
        return row
    cosines = {
        name: F.cosine_similarity(results[name].double().cpu().flatten(), gradient.double().flatten(), dim=0)
        for name, gradient in reference.items()
        if name != "loss"
    }
    worst = min(cosines, key=cosines.get)
    row["cosine"] = cosines[worst].item()
    if row["cosine"] < COSINE:
        row["problem"] = f"{worst} has cosine {row['cosine']:.4f}"
    return row


def _scaled_step(step: benchmark.Step, precision: str, backend: str) -> tuple:
    """The first step whose gradients do not overflow: its scale, results, calls of the backend and others."""
    for scale in SCALES if precision == "amp" else SCALES[-1:]:
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            results = step(precision, scale)
        if _finite(results):
            break
    called = Counter()
    for event in recorded.key_averages():
        if event.key.startswith(OPERATION) and not event.key.endswith("backward"):
            called[event.key.removeprefix(OPERATION)] += event.count
    own = sum(count for name, count in called.items() if backend in name)
    return scale, results, own, called.total() - own


def _finite(results: benchmark.Results) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in results.values())


def clipfit_step(context: Context) -> str:
    """Time, memory, kernel launches and waits of a step at 100 and 1,000 classes, 32 images."""
    _as_the_engine_computes(context.cores)
    clip = load_clip("random:ViT-B/16", device=context.device)
    settings = [(classes, precision, "here") for precision in benchmark.AUTOCAST for classes in (100, 1000)]
    settings += [(100, "amp", "plain"), (100, "fp32", "plain")]
    for measure in (_time_and_memory, _launches_and_waits):  # the profiler slows down what comes behind it
        for classes, precision, which in settings:
            words = ["--classes", str(classes), "--device", context.device, "--precision", precision]
            args = benchmark.parse_arguments([*words, "--threads", str(context.cores)])
            step = benchmark.build_steps(WHAT, args, clip)[which]
            key = f"{classes} classes, {precision}, {which}"
            row = context.numbers.setdefault(key, {})
            try:
                row |= measure(step, args.images, 10 if context.quick else 50)
            except torch.OutOfMemoryError as error:
                context.problem(f"{key}: {str(error).splitlines()[0]}")
            del step
            torch.cuda.empty_cache()
            context.save()
    return "; ".join(
        f"{key} {row['ms']:.1f} ms, {row['images_per_s']:,.0f} images/s, {row['peak_mb']:,.0f} MiB, "
        f"{row['launches']} launches, {sum(row['waits'].values())} waits"
        for key, row in context.numbers.items()
        if {"ms", "launches"} <= row.keys()
    )


def _time_and_memory(step: benchmark.Step, images: int, repeat: int) -> dict:
    """Median of `repeat` steps after three that are not counted, and the allocator's peak meanwhile."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    milliseconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        milliseconds.append(1000 * (time.perf_counter() - start))
    median = statistics.median(milliseconds)
    return {
        "ms": median,
        "ms_least": min(milliseconds),
        "ms_most": max(milliseconds),
        "images_per_s": 1000 * images / median,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20,
    }


def _launches_and_waits(step: benchmark.Step, images: int, repeat: int) -> dict:
    """Calls of the CUDA runtime in one step, less those that the profiler and the last wait bring."""
    step()
    torch.cuda.synchronize()
    counts = _runtime_calls(step) - _runtime_calls(lambda: None)
    return {
        "launches": sum(count for name, count in counts.items() if name.startswith(LAUNCHES)),
        "waits": {name: counts[name] for name in WAITS if counts[name]},
        "copies_to_host": sum(count for name, count in counts.items() if name.startswith("Memcpy DtoH")),
    }


def _runtime_calls(work) -> Counter:
    """How often `work` calls each function of the CUDA runtime and starts each kind of copy."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        work()
        torch.cuda.synchronize()
    counts = Counter()
    for event in recorded.key_averages():
        counts[event.key] += event.count
    return counts


def _as_the_engine_computes(threads: int) -> None:
    """fp32 means fp32 on a GPU too, without TF32."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
