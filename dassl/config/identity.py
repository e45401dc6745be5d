"""When two configs are the same experiment."""

import hashlib
import json
import os

from dassl.config.node import flatten

# Where a run lies, how it is shown and how fast it goes: none of this changes what it computes. (THREADS may
# change the last bits, as another processor does.)
NOT_PART_OF_THE_EXPERIMENT = {
    "DATALOADER.CACHE_GB",
    "DATALOADER.NUM_WORKERS",
    "DATASET.ROOT",
    "OUTPUT_DIR",
    "RESUME",
    "RUN.MODEL_DIR",
    "TEST.COMPUTE_CMAT",
    "TEST.PER_CLASS_RESULT",
    "TEST.PREDICTIONS",
    "THREADS",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.PRINT_FREQ",
    "TRAIN.RECORD",
    "VERBOSE",
}


def experiment(cfg) -> dict[str, object]:
    """Every key that decides the result of a run, flattened: ``{"OPTIM.LR": 0.002, ...}``.

    Args: cfg, a config or the nested mapping read back from a config.yaml
    """
    values = {key: value for key, value in flatten(cfg).items() if key not in NOT_PART_OF_THE_EXPERIMENT}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def config_digest(cfg) -> str:
    """sha256 of the experiment, independent of the order of keys."""
    return digest(experiment(cfg))


def digest(values: dict) -> str:
    """sha256 of a mapping of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def differences(old, new) -> dict[str, tuple]:
    """Keys that keep two configs from sharing a folder, with both values (None for a key that one lacks).

    These are the keys of the experiment and the folder of the tested model.
    """
    old, new = ({**experiment(cfg), "RUN.MODEL_DIR": _tested_model(cfg)} for cfg in (old, new))
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _tested_model(cfg) -> str:
    folder = flatten(cfg).get("RUN.MODEL_DIR")
    return os.path.abspath(folder) if folder else ""
