"""Values of a resolved config that no run can use, refused with the key before torch is imported."""

import math

from clipfit.group_names import parse
from dassl.config import flatten
from dassl.utils import available_cores, nearest

from .registered import class_fact, plain_name

SMALLEST = {  # the least that keys can be
    "SEED": -(2**31),
    "THREADS": 0,
    "RUN.DIGEST_GB": 0,
    "TRAIN.PRINT_FREQ": 1,
    "TRAIN.CHECKPOINT_FREQ": 0,
    "DATALOADER.NUM_WORKERS": -1,
    "DATALOADER.CACHE_GB": 0,
    "MODEL.MEMORY_GB": 0,
    "DATALOADER.TEST_CACHE_GB": 0,
    "DATALOADER.K_TRANSFORMS": 1,
    "FEATURES.STORE_GB": 0,
    "DATALOADER.TRAIN_X.BATCH_SIZE": 1,
    "DATALOADER.TRAIN_X.N_INS": 1,
    "DATALOADER.TEST.BATCH_SIZE": 1,
    "OPTIM.MAX_EPOCH": 1,
    "OPTIM.MAX_STEPS": 0,
    "OPTIM.LR": 0,
    "OPTIM.WEIGHT_DECAY": 0,
    "OPTIM.MOMENTUM": 0,
    "OPTIM.SGD_DAMPNING": 0,
    "OPTIM.RMSPROP_ALPHA": 0,
    "OPTIM.ADAM_BETA1": 0,
    "OPTIM.ADAM_BETA2": 0,
    "OPTIM.GAMMA": 0,
    "OPTIM.LR_MIN": 0,
    "OPTIM.BASE_LR_MULT": 0,
    "OPTIM.WARMUP_CONS_LR": 0,
    "OPTIM.WARMUP_MIN_LR": 0,
    "LOSS.LAMBDA": 0,
    "TRAINER.CLIPFIT.BETA": 0,
    "TRAINER.COOP.W": 0,
}
BELOW_ONE = ("OPTIM.MOMENTUM", "OPTIM.ADAM_BETA1", "OPTIM.ADAM_BETA2")  # shares of a running mean
CHOICES = {
    "TEST.SPLIT": ("test", "val"),
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
    "MODEL.BACKBONE.ACTIVATION": ("auto", "quick_gelu", "gelu"),
    "INPUT.RESIZE": ("shortest", "squash"),
}
LEFT_TO_THE_BACKBONE = ("INPUT.RESIZE",)  # may be empty
FEW_THREADS = 64  # any machine can start so many; a run may be planned on a smaller machine than it runs on
THREADS_PER_CORE = 4


def check_values(cfg) -> None:
    """Raises: ValueError with key, value and what is allowed"""
    values = flatten(cfg)
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is {value}; give a finite number")
    for key, smallest in SMALLEST.items():
        if key in values and (values[key] is None or values[key] < smallest):
            raise ValueError(f"{key} is {values[key]}; it must be at least {smallest}")
    for key in BELOW_ONE:
        if values[key] >= 1:
            raise ValueError(f"{key} is {values[key]}; it must be less than 1")
    for key, choices in CHOICES.items():
        if key in LEFT_TO_THE_BACKBONE and not values[key]:
            continue
        if key in values and values[key] not in choices:
            guess = nearest(str(values[key]), choices)
            hint = f"did you mean {guess}? " if guess else ""
            raise ValueError(f"{key} is {values[key]!r}; {hint}choose {' or '.join(choices)}")
    most = max(FEW_THREADS, THREADS_PER_CORE * available_cores())
    if most < cfg.THREADS:
        raise ValueError(
            f"THREADS is {cfg.THREADS}, and this machine has {available_cores()} cores; give at most {most}"
        )
    if 0 in (cfg.INPUT.PIXEL_STD or ()):
        raise ValueError(f"INPUT.PIXEL_STD is {cfg.INPUT.PIXEL_STD}; pixels are divided by it: give no zeros")
    _check_shots(cfg)
    _check_groups(cfg)


def _check_shots(cfg) -> None:
    shots = cfg.DATASET.NUM_SHOTS
    if shots == 0:
        raise ValueError(
            "DATASET.NUM_SHOTS (--shots) is 0, and nothing trains without images: --trainer ZeroshotCLIP "
            "tests CLIP as it is (without --shots), and --shots -1 takes all images"
        )
    if shots is None or shots < -1:
        raise ValueError(
            f"DATASET.NUM_SHOTS (--shots) is {shots}; give a number of images per class, or -1 for all"
        )


def _check_groups(cfg) -> None:
    """Names of parameter groups and maps; whether the backbone has their layers is seen when it is built."""
    trainer = cfg.TRAINER.NAME
    node = class_fact("trainers", trainer, "node", "") or plain_name(trainer).upper()
    for fact, of in (("names_groups", "parameter group"), ("names_maps", "map")):
        for key in class_fact("trainers", trainer, fact, ()):
            names = cfg.TRAINER[node][key]
            for name in [names] if isinstance(names, str) else names:
                try:
                    parse(str(name), of)
                except ValueError as error:
                    raise ValueError(f"TRAINER.{node}.{key}: {error}") from error


def notes_on_values(cfg) -> list[str]:
    """What can be run and is hardly meant, for the log."""
    warmup, epochs = cfg.OPTIM.WARMUP_EPOCH, cfg.OPTIM.MAX_EPOCH
    if cfg.RUN.TEST_ONLY or warmup is None or warmup < epochs:
        return []
    return [
        f"Warning: OPTIM.WARMUP_EPOCH {warmup} is not less than OPTIM.MAX_EPOCH {epochs}: the whole training "
        "is warm-up"
    ]
