"""Small helpers: cores, seeds, lists; and the path under which plugins of Dassl import many others."""

import os
import random
from typing import Any

# Plugins import these from `dassl.utils.tools`.
from clipfit.io.files import (
    check_isfile,
    listdir_nohidden,
    mkdir_if_missing,
    read_json,
    write_json,
)
from clipfit.io.pictures import read_image
from dassl.utils import ranks
from dassl.utils.for_plugins import collect_env_info, download_url, get_most_similar_str_to_a_from_b
from dassl.utils.registry import check_availability

__all__ = [
    "available_cores",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "download_url",
    "get_most_similar_str_to_a_from_b",
    "listdir_nohidden",
    "mkdir_if_missing",
    "read_image",
    "read_json",
    "seed_without_torch",
    "set_random_seed",
    "tolist_if_not",
    "write_json",
]


def available_cores() -> int:
    """CPU cores that this process may use: of those there are, an equal share for each rank of a run."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, there // ranks.on_this_machine())


def set_random_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy, torch and every GPU. Raises: as `seed_without_torch`"""
    import torch

    seed_without_torch(seed)
    torch.manual_seed(seed)  # seeds every GPU too


def seed_without_torch(seed: int) -> None:
    """Seed Python's `random` and NumPy.

    Raises: ValueError for a seed outside [0, 2**32 - 1], the range of NumPy's generator
    """
    import numpy as np

    if not 0 <= seed < 2**32:
        raise ValueError(f"the seed is {seed}; choose one from 0 to {2**32 - 1}")
    random.seed(seed)
    np.random.seed(seed)


def tolist_if_not(x: Any) -> list:
    """`x` if it is a list, else a list that holds `x` (a tuple too)."""
    return x if isinstance(x, list) else [x]
