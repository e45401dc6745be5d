"""What must be settled before a trainer is built and needs torch: precision, threads, seeds, the log."""

import os

import torch

from dassl.utils import set_random_seed


def settle_precision(cfg) -> None:
    """Turn every ``TRAINER.<NODE>.PREC auto`` into ``amp`` on a GPU and ``fp32`` on a CPU."""
    on_gpu = torch.cuda.is_available() and cfg.USE_CUDA
    for node in cfg.TRAINER.values():
        if isinstance(node, dict) and node.get("PREC") == "auto":
            node.PREC = "amp" if on_gpu else "fp32"


def prepare(cfg) -> None:
    """Fix threads and kernels, seed every generator, print the config."""
    torch.set_num_threads(cfg.THREADS)
    if cfg.DETERMINISTIC:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not cfg.DETERMINISTIC and torch.cuda.is_available() and cfg.USE_CUDA
    print(f"Setting fixed seed: {cfg.SEED}")
    set_random_seed(cfg.SEED)
    if cfg.VERBOSE:
        print(f"** Config **\n{cfg}")
