"""For plugins: configs that were not made by `get_cfg_default`, but by a file from Dassl's own defaults."""

from collections.abc import Mapping

from yacs.config import CfgNode as YacsNode

from dassl.config.defaults import engine_defaults
from dassl.config.node import CfgNode


def completed(cfg: YacsNode) -> YacsNode:
    """The config with every engine key: what is missing has its default.

    A config that lacks none is returned itself, any other one as a clone, frozen if it is. What takes a
    config from a plugin calls this first, so the engine reads every key without asking whether it is there.
    """
    if not _lacks(cfg, _DEFAULTS):
        return cfg
    full = cfg.clone()
    frozen = full.is_frozen()
    full.defrost()
    _add_missing(full, engine_defaults())
    if frozen:
        full.freeze()
    return full


def _lacks(node: Mapping, defaults: Mapping) -> bool:
    return any(
        key not in node or (isinstance(value, Mapping) and _lacks(node[key], value))
        for key, value in defaults.items()
    )


def _add_missing(node: YacsNode, defaults: CfgNode) -> None:
    for key, value in defaults.items():
        if key not in node:
            node[key] = value
        elif isinstance(value, Mapping):
            _add_missing(node[key], value)


_DEFAULTS = engine_defaults()  # read only: the values that a config gets are made anew
