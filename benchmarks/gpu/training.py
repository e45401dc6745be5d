"""Checks that train: all methods, without a compiler, equal bits, kill -9, ProGrad's temperature, fp16."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time

from benchmarks.gpu.context import Context
from benchmarks.gpu.harness import PROJECT
from benchmarks.gpu.runs import TrainRun, differences, run_all
from dassl.run_folder import LOG

METHODS = sorted(path.stem for path in (PROJECT / "configs/trainers").glob("*.yaml"))
POINTS = 2.0  # accuracy on a GPU may differ from a CPU's by so much
COMPILERS = ("CC", "CXX", "CUDAHOSTCXX")
SHORT = ("OPTIM.WARMUP_EPOCH", 0)
GRAPH_AWAY = 1e-3  # of a loss: kernels may add in another order, 50 steps later
MOST_SKIPPED = 10  # of 50 steps: the gradient scaler halves its first 65,536 down to 64


def methods(context: Context) -> str:
    """Every method on the embedded data: its exit status, and its accuracy beside a CPU's."""
    if context.quick:
        short = ("OPTIM.MAX_EPOCH", 5 if context.on_gpu else 1)
        flags = () if context.on_gpu else ("--shots", "4")
    else:
        short, flags = (), ()
    here = {name: TrainRun(context, f"here/{name}", name, *short, flags=flags) for name in METHODS}
    on_cpu = {}
    if context.on_gpu:
        no_gpu = ("USE_CUDA", "False")
        on_cpu = {
            name: TrainRun(context, f"cpu/{name}", name, *no_gpu, *short, flags=flags) for name in METHODS
        }
    run_all([*on_cpu.values(), *here.values()], context.cores)

    largest = 0.0
    for name in METHODS:
        row = context.numbers[name] = {
            "exit_status": here[name].process.returncode,
            **{key: here[name].result.get(key) for key in ("accuracy", "precision", "skipped_steps")},
        }
        for where, run in (("", here[name]), (" on the CPU", on_cpu.get(name))):
            if run is not None and run.failed:
                context.problem(f"{name}{where}: {run.failed}")
        if name in on_cpu:
            row["cpu_accuracy"] = on_cpu[name].result.get("accuracy")
            if None not in (row["accuracy"], row["cpu_accuracy"]):
                row["difference"] = row["accuracy"] - row["cpu_accuracy"]
                largest = max(largest, abs(row["difference"]))
                if abs(row["difference"]) > POINTS:
                    context.problem(f"{name}: {row['accuracy']:.2f}%, on the CPU {row['cpu_accuracy']:.2f}%")
    ended = sum(not run.failed for run in here.values())
    beside = f", at most {largest:.2f} points from the CPU's accuracy" if on_cpu else "; no GPU to compare"
    return f"{ended} of {len(METHODS)} methods ended well{beside}"


def no_compiler(context: Context) -> str:
    """CoCoOp where no C compiler is found and nothing was compiled before."""
    empty = context.folder / "empty"
    empty.mkdir()
    caches = {name: str(context.folder / "cache") for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    environment = {"PATH": str(empty), **caches, **dict.fromkeys(COMPILERS)}
    pairs = ("OPTIM.MAX_EPOCH", 1, *SHORT)
    run = TrainRun(context, "run", "CoCoOp", *pairs, flags=("--shots", "2"), environment=environment)
    run_all([run], 1)
    if run.failed:
        context.problem(run.failed)
    context.numbers["steps"] = len(run.losses())
    return f"CoCoOp took {len(run.losses())} steps without a compiler"


def deterministic(context: Context) -> str:
    """Every method twice with DETERMINISTIC True, in two warm processes: the same bits."""
    pairs = ("DETERMINISTIC", "True", "OPTIM.MAX_EPOCH", 2, *SHORT)
    both = [
        [TrainRun(context, f"{which}/{name}", name, *pairs, flags=("--shots", "2")) for name in METHODS]
        for which in ("one", "two")
    ]
    workers = [_Worker(runs) for runs in both]
    errors = [worker.errors() for worker in workers]
    for name, one, two, *said in zip(METHODS, *both, *errors, strict=True):
        if any(said):
            context.problem(f"{name}: {next(filter(None, said))}")
        elif unequal := differences(one.folder, two.folder):
            context.problem(f"{name}: {'; '.join(unequal)}")
        context.numbers[name] = {"steps": len(one.losses()), "accuracy": one.result.get("accuracy")}
    return f"{len(METHODS)} methods, twice each"


def graphs(context: Context) -> str:
    """Every method for 50 steps as a CUDA graph and eager: the losses of both."""
    pairs = ("DETERMINISTIC", "True", "OPTIM.MAX_STEPS", 50)
    runs = {
        name: [
            TrainRun(context, f"graph/{name}", name, *pairs, "TRAIN.CUDA_GRAPH", True),
            TrainRun(context, f"eager/{name}", name, *pairs),
        ]
        for name in METHODS
    }
    run_all([run for both in runs.values() for run in both], context.cores)
    for name, (graph, eager) in runs.items():
        row = context.numbers[name] = {"graph": graph.losses(), "eager": eager.losses()}
        if eager.failed:
            context.problem(f"{name}, eager: {eager.failed}")
        elif graph.failed:
            row["refused"] = graph.failed
        elif eager.losses():
            row["difference"] = max(map(_relative, graph.losses(), eager.losses()))
            if len(graph.losses()) != len(eager.losses()) or row["difference"] > GRAPH_AWAY:
                context.problem(f"{name}: losses differ by {row['difference']:.1e}")
    compared = {name: row["difference"] for name, row in context.numbers.items() if "difference" in row}
    refused = [name for name, row in context.numbers.items() if "refused" in row]
    worst = f", at most {max(compared.values()):.1e} apart" if compared else ""
    return f"{len(compared)} methods the same{worst}; not as a graph: {', '.join(refused) or 'none'}"


def _relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(other), 1e-12)


class _Worker:
    """A process of grid/worker.py that is given these runs, one after the other."""

    def __init__(self, runs: list[TrainRun]):
        self._runs = runs
        self._process = subprocess.Popen(
            [sys.executable, "-m", "grid.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
        )
        for run in runs:
            self._process.stdin.write(json.dumps(run.words).encode() + b"\n")
        self._process.stdin.flush()

    def errors(self) -> list[str]:
        """What went wrong in each run, in their order; empty where nothing did."""
        said = []
        for _ in self._runs:
            answer = self._process.stdout.readline()
            said.append((json.loads(answer)["error"] or "") if answer else "its process had ended")
        self._process.stdin.close()
        self._process.wait()
        return said


def kill_and_resume(context: Context) -> str:
    """A run that is killed in the middle of an epoch goes on in the bits of one that was not."""
    pairs = ("DETERMINISTIC", "True", "DATALOADER.NUM_WORKERS", 4, "TRAIN.CHECKPOINT_FREQ", 1)
    pairs = (*pairs, "OPTIM.MAX_EPOCH", 20 if context.on_gpu else 10)
    whole, killed = (TrainRun(context, name, "CLIPFit", *pairs) for name in ("whole", "killed"))
    whole.start()
    killed.start()
    after = 12  # steps: in the middle of the third epoch of five steps each
    while killed.process.poll() is None and killed.metrics.count("\n") < after:
        time.sleep(0.01)
    killed.process.kill()
    killed.wait()
    context.numbers.update(killed_after_steps=killed.metrics.count("\n"))
    if killed.result or killed.metrics.count("\n") < after:
        whole.wait()
        context.problem(f"the run was to be killed in the middle, but had ended: {killed.failed}")
        return ""
    del killed.result  # looked up too early
    killed.start().wait()
    whole.wait()
    for name, run in (("the uninterrupted run", whole), ("the resumed run", killed)):
        if run.failed:
            context.problem(f"{name}: {run.failed}")
    if not context.problems and "Resuming from" not in (killed.folder / LOG).read_text("utf-8"):
        context.problem("the second start did not resume")
    for text in differences(whole.folder, killed.folder):
        context.problem(text)
    context.numbers.update(steps=len(whole.losses()))
    return f"killed after {context.numbers['killed_after_steps']} of {len(whole.losses())} steps"


def prograd_temperature(context: Context) -> str:
    """ProGrad under amp: finite, and a large LOSS.T does not turn it into CoOp, as an overflow would."""
    pairs = ("TRAINER.COOP.PREC", "amp", "OPTIM.MAX_EPOCH", 10 if context.on_gpu else 4)
    settings = {
        "T 1": ("LOSS.T", 1),
        "T 4": ("LOSS.T", 4),
        "T 32": ("LOSS.T", 32),
        "T 32 without projection": ("LOSS.T", 32, "LOSS.LAMBDA", 0),
    }
    runs = {
        name: TrainRun(context, f"run{number}", "ProGrad", *pairs, *pair)
        for number, (name, pair) in enumerate(settings.items())
    }
    run_all(runs.values(), context.cores)
    for name, run in runs.items():
        losses = run.losses()
        context.numbers[name] = {
            "steps": len(losses),
            "last_loss": losses[-1] if losses else None,
            "skipped_steps": run.result.get("skipped_steps"),
        }
        if run.failed:
            context.problem(f"{name}: {run.failed}")
        elif not losses or not all(map(math.isfinite, losses)):
            context.problem(f"{name}: a loss is not finite")
    if context.problems:
        return ""
    for one, other in (("T 4", "T 1"), ("T 32", "T 32 without projection")):
        if runs[one].losses() == runs[other].losses():
            context.problem(f"{one} has the losses of {other}")
    return "last loss " + ", ".join(
        f"{name}: {row['last_loss']:.4f}" for name, row in context.numbers.items()
    )


def half_precision(context: Context) -> str:
    """CLIPFit for 50 steps in half-precision weights and in fp16 autocast: finite, few steps skipped."""
    pairs = ("OPTIM.MAX_EPOCH", 10)  # of five steps
    runs = {
        prec: TrainRun(context, prec, "CLIPFit", "TRAINER.CLIPFIT.PREC", prec, *pairs)
        for prec in ("fp16", "amp")
    }
    run_all(runs.values(), context.cores)
    for prec, run in runs.items():
        losses, skipped = run.losses(), run.result.get("skipped_steps")
        context.numbers[prec] = {
            "steps": len(losses),
            "skipped_steps": skipped,
            "accuracy": run.result.get("accuracy"),
        }
        if run.failed:
            context.problem(f"{prec}: {run.failed}")
        elif len(losses) != 50 or not all(map(math.isfinite, losses)):
            context.problem(f"{prec}: {len(losses)} steps, not all losses are finite or there should be 50")
        elif prec == "amp" and (skipped is None or skipped > MOST_SKIPPED):
            context.problem(f"amp: {skipped} of 50 steps were skipped")
    return ", ".join(
        f"{prec}: {row['steps']} steps, {row['skipped_steps']} skipped, accuracy {row['accuracy']}"
        for prec, row in context.numbers.items()
    )
