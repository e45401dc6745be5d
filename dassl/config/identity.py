"""When two configs are the same experiment."""

import hashlib
import json
import os

from dassl.config import flatten, get_cfg_default

# Where a run lies, how it is shown and how fast it goes: none of this changes what it computes. (THREADS and
# MODEL.MEMORY_GB may change the last bits, as another processor does.)
NOT_PART_OF_THE_EXPERIMENT = {
    "DATALOADER.CACHE_GB",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST_CACHE_GB",
    "DATASET.IMAGES",
    "DATASET.ROOT",
    "FEATURES.STORE",
    "FEATURES.STORE_GB",
    "FEATURES.VIEWS_GB",
    "MODEL.MEMORY_GB",
    "OUTPUT_DIR",
    "RESUME",
    "RUN.DIGEST_GB",
    "RUN.MODEL_DIR",
    "RUN.NEW_CLASSES",
    "RUN.TEST_ONLY",
    "TEST.ACCEPT",
    "TEST.COMPUTE_CMAT",
    "TEST.PER_CLASS_RESULT",
    "TEST.PREDICTIONS",
    "THREADS",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.CUDA_GRAPH",
    "TRAIN.PRINT_FREQ",
    "TRAIN.RECORD",
    "VERBOSE",
}


def experiment(cfg) -> dict[str, object]:
    """Every key that decides the result of a run, flattened: ``{"OPTIM.LR": 0.002, ...}``.

    Args: cfg, a config or the nested mapping read back from a config.yaml
    """
    every = flatten(cfg)
    left_out = {"RUN.DATASET_FILE"} if every.get("DATASET.IMAGES") else set()  # made of where pictures lie
    left_out |= NOT_PART_OF_THE_EXPERIMENT
    values = {key: value for key, value in every.items() if key not in left_out}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def config_digest(cfg) -> str:
    """sha256 of the experiment, independent of the order of keys."""
    return digest(experiment(cfg))


def digest(values: dict) -> str:
    """sha256 of a mapping of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def differences(old, new, defaults=None) -> dict[str, tuple]:
    """Keys that keep two configs from sharing a folder, with both values (None for one that nobody knows).

    These are the keys of the experiment and the folder of the tested model. A key that one config lacks
    counts as its default: a key that was declared since does not make an old run another experiment.

    Args: old and new, configs or mappings, nested or flat; defaults, likewise, of every declared key
          (launch.resolve.Run.declared); without them only the engine's own are known
    """
    changed = changed_keys(old, new, defaults)
    models = _tested_model(old), _tested_model(new)
    return changed | ({"RUN.MODEL_DIR": models} if models[0] != models[1] else {})


def changed_keys(old, new, defaults=None) -> dict[str, tuple]:
    """As :func:`differences`, of the keys of the experiment alone."""
    declared = experiment(get_cfg_default() if defaults is None else defaults)
    old, new = ({**declared, **experiment(cfg)} for cfg in (old, new))
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _tested_model(cfg) -> str:
    folder = flatten(cfg).get("RUN.MODEL_DIR")
    return os.path.abspath(folder) if folder else ""
