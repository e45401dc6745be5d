"""The configuration: every engine key and its meaning, YAML files with parents, errors that name the key."""

from yacs.config import CfgNode as YacsNode

from dassl.config.defaults import engine_defaults
from dassl.config.for_plugins import completed
from dassl.config.node import CfgNode, flatten
from dassl.config.unused import unused_defaults
from dassl.config.yaml_files import load_yaml

__all__ = ["CfgNode", "clean_cfg", "completed", "flatten", "get_cfg_default", "load_yaml"]


def get_cfg_default() -> CfgNode:
    """A fresh config with every engine key at its default."""
    cfg = engine_defaults()
    cfg.merge_from_mapping(unused_defaults(), source="dassl/config/unused.py", allow_new=True)
    return cfg


def clean_cfg(cfg: YacsNode, trainer: str) -> None:
    """Remove every child of `cfg.TRAINER` except NAME and the node called `trainer.upper()`."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", trainer.upper()):
            del cfg.TRAINER[key]
