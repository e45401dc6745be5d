"""The trainer registry."""

from dassl.utils import Registry, check_availability

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg, name: str | None = None):
    """Build the trainer that ``cfg.TRAINER.NAME`` (or ``name``, if given) asks for.

    Raises: ValueError that lists the registered trainers and names the nearest one.
    """
    name = name or cfg.TRAINER.NAME
    check_availability(name, TRAINER_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading trainer: {name}")
    return TRAINER_REGISTRY.get(name)(cfg)
