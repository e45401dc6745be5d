"""Helpers of every layer: registry, files, seeds, meters, the log file, checkpoint files.

Importing this package imports no torch; the names of `torchtools` do when they are first asked for.
"""

from clipfit.io.digests import list_digest
from clipfit.io.files import (
    atomic_write,
    check_isfile,
    listdir_nohidden,
    mkdir_if_missing,
    read_json,
    write_json,
)
from clipfit.io.pictures import read_image
from dassl.utils import ranks
from dassl.utils.for_plugins import (
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    open_all_layers,
    open_specified_layers,
)
from dassl.utils.logger import Logger, close_logger, log_only, settle_streams, setup_logger
from dassl.utils.meters import AverageMeter, MetricMeter
from dassl.utils.registry import (
    Registry,
    check_availability,
    import_folder,
    nearest,
    unknown_name,
)
from dassl.utils.tools import available_cores, seed_without_torch, set_random_seed, tolist_if_not

_NEEDS_TORCH = [
    "count_num_param",
    "load_model_file",
    "load_checkpoint",
    "load_pretrained_weights",
    "resume_from_checkpoint",
    "save_checkpoint",
    "save_whole",
]

__all__ = [
    "AverageMeter",
    "Logger",
    "MetricMeter",
    "Registry",
    "atomic_write",
    "available_cores",
    "check_availability",
    "check_isfile",
    "close_logger",
    "collect_env_info",
    "download_url",
    "get_most_similar_str_to_a_from_b",
    "import_folder",
    "list_digest",
    "listdir_nohidden",
    "log_only",
    "mkdir_if_missing",
    "nearest",
    "open_all_layers",
    "open_specified_layers",
    "ranks",
    "read_image",
    "read_json",
    "seed_without_torch",
    "set_random_seed",
    "settle_streams",
    "setup_logger",
    "tolist_if_not",
    "unknown_name",
    "write_json",
    *_NEEDS_TORCH,
]


def __getattr__(name: str):
    if name in _NEEDS_TORCH:
        from dassl.utils import torchtools

        return getattr(torchtools, name)
    raise AttributeError(f"dassl.utils provides no {name!r}; it has: {', '.join(sorted(__all__))}")
