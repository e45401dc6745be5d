"""When two configs are the same experiment, and the file that says which experiment a folder holds."""

import hashlib
import json
import os

import yaml

from dassl.utils.files import atomic_write

# Where a run lies, how it is shown and how fast it goes: none of this changes what it computes.
NOT_PART_OF_THE_EXPERIMENT = {
    "DATALOADER.CACHE_GB",
    "DATALOADER.NUM_WORKERS",
    "DATASET.ROOT",
    "OUTPUT_DIR",
    "RESUME",
    "RUN.MODEL_DIR",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.PRINT_FREQ",
    "VERBOSE",
}


def experiment(cfg) -> dict[str, object]:
    """Every key that decides the result of a run, flattened: ``{"OPTIM.LR": 0.002, ...}``.

    Args: cfg, a config or the nested mapping read back from a config.yaml
    """
    return {key: value for key, value in _flatten(cfg) if key not in NOT_PART_OF_THE_EXPERIMENT}


def config_digest(cfg) -> str:
    """sha256 of the experiment, independent of the order of keys."""
    return digest(experiment(cfg))


def digest(values: dict) -> str:
    """sha256 of a mapping of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def differences(old, new) -> dict[str, tuple]:
    """Keys whose values differ between two experiments, with both values (None for a key that one lacks)."""
    old, new = experiment(old), experiment(new)
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def write_config(cfg, path: str | os.PathLike, command: str) -> None:
    """Write the resolved config as YAML, with the command that made it as first comment."""
    with atomic_write(path) as file:
        file.write(f"# {command}\n{cfg.dump()}")


def read_config(path: str | os.PathLike) -> dict:
    """The nested mapping that :func:`write_config` wrote."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def _flatten(node, prefix: str = ""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
