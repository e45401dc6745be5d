"""What the machine is, and what nvidia-smi answers there; draws the data that other checks train on."""

import platform
import subprocess

import torch

from benchmarks.gpu.context import Context, Skipped
from dassl.config import get_cfg_default
from datasets.demo import Demo
from grid import gpus

LIST = ["nvidia-smi", "-L"]
DRIVER = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]


def look(context: Context) -> str:
    """Versions, card, and nvidia-smi's answers to the questions that the grid asks."""
    seen = context.numbers
    seen.update(
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        card=None,
    )
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        seen.update(
            card=properties.name,
            cards=torch.cuda.device_count(),
            capability=f"{properties.major}.{properties.minor}",
            memory_mb=round(properties.total_memory / 2**20),
        )
    seen["nvidia_smi"] = {" ".join(words): ask(words) for words in (gpus.QUERY, LIST, DRIVER)}
    seen["grid_sees"] = [{"name": gpu.name, "memory_mb": gpu.memory_mb} for gpu in gpus.visible_gpus()]
    context.save()
    _draw(context)
    if not seen["card"]:
        raise Skipped(f"no GPU; torch {seen['torch']}; nvidia-smi: {ask(LIST)}")
    if len(seen["grid_sees"]) != seen["cards"]:
        context.problem(f"torch sees {seen['cards']} GPUs, the grid {len(seen['grid_sees'])}")
    return f"CUDA {seen['cuda']}, cuDNN {seen['cudnn']}, driver {ask(DRIVER)}; nvidia-smi: {ask(gpus.QUERY)}"


def ask(words: list[str]) -> str:
    """What a command answers, or why it does not, in one line."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no answer ({error})"
    said = " | ".join((done.stdout + done.stderr).split("\n")).strip(" |")
    return said if done.returncode == 0 else f"exit status {done.returncode}: {said}"


def _draw(context: Context) -> None:
    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.SEED = str(context.root), 16, 1
    Demo(cfg)
