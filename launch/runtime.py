"""What must be settled before a trainer is built and needs torch: precision, threads, seeds, the log."""

import os

import torch

from clipfit.memory import default_budget
from dassl.run_folder import has_config, is_begun, read_config
from dassl.utils import log_only, set_random_seed


def settle_precision(cfg) -> None:
    """Turn every ``TRAINER.<NODE>.PREC auto`` into ``amp`` on a GPU and ``fp32`` on a CPU."""
    on_gpu = cfg.USE_CUDA and torch.cuda.is_available()
    for node in cfg.TRAINER.values():
        if isinstance(node, dict) and node.get("PREC") == "auto":
            node.PREC = "amp" if on_gpu else "fp32"


def settle_memory(cfg, anew: bool) -> None:
    """Give ``MODEL.MEMORY_GB`` a value: that of the run that goes on, else a share of the device's memory.

    Args: anew, nothing goes on: what the run's folder holds is set aside
    """
    if not cfg.MODEL.MEMORY_GB and not anew:
        cfg.MODEL.MEMORY_GB = _budget_before(cfg.RESUME or cfg.OUTPUT_DIR)
    if not cfg.MODEL.MEMORY_GB:
        device = "cuda" if cfg.USE_CUDA and torch.cuda.is_available() else "cpu"
        cfg.MODEL.MEMORY_GB = default_budget(torch.device(device))


def _budget_before(folder: str) -> float:
    """MODEL.MEMORY_GB of the run in a folder; 0 if nothing is begun there, or it had none."""
    if not (is_begun(folder) and has_config(folder)):
        return 0.0
    return float(read_config(folder).get("MODEL", {}).get("MEMORY_GB", 0))


def choose_kernels() -> None:
    """float32 is computed in float32, not in TF32; attention on a GPU by any kernel but cuDNN's.

    cuDNN's attention, which torch prefers on the newest GPUs in half precision, has given NaN gradients under
    masks; nobody has measured it here.
    """
    # The older of torch's two interfaces for TF32 comes last: then both can be read, by plugins too.
    torch.backends.fp32_precision = "none"
    torch.backends.cudnn.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cuda.enable_mem_efficient_sdp(True)
    torch.backends.cuda.enable_math_sdp(True)
    torch.backends.cuda.enable_cudnn_sdp(False)


def prepare(cfg) -> None:
    """Fix threads and kernels, seed every generator, write the whole config to the log.

    Each setting is made whatever it was: one process may do many runs.
    """
    torch.set_num_threads(cfg.THREADS)
    if cfg.DETERMINISTIC:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(cfg.DETERMINISTIC)
    torch.backends.cudnn.deterministic = cfg.DETERMINISTIC
    torch.backends.cudnn.benchmark = not cfg.DETERMINISTIC and cfg.USE_CUDA and torch.cuda.is_available()
    choose_kernels()
    if cfg.USE_CUDA and not torch.cuda.is_available() and torch.backends.mps.is_available():
        print("Note: the GPU of this Mac (MPS) is not used; the run computes on the CPU")
    print(f"Setting fixed seed: {cfg.SEED}")
    set_random_seed(cfg.SEED)
    log_only(f"** Config **\n{cfg}")
