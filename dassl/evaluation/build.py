"""The registry of evaluators."""

from typing import Any

from dassl.config import completed
from dassl.utils.registry import Registry, check_availability

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: Any, **kwargs) -> Any:
    """Build the evaluator `cfg.TEST.EVALUATOR`. Raises ValueError with the known names for another one."""
    cfg = completed(cfg)
    name = cfg.TEST.EVALUATOR
    check_availability(name, EVALUATOR_REGISTRY.registered_names(), "evaluator (TEST.EVALUATOR)")
    if cfg.VERBOSE:
        print(f"Loading evaluator: {name}")
    return EVALUATOR_REGISTRY.get(name)(cfg, **kwargs)
