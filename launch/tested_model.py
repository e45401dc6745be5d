"""Whether the model that a test loads is one that this test can load: how the run that trained it was set.

What shapes a model must be equal: its backbone (by content), the form of its input, and what its method says.
Data set, classes, seed, shots, optimizer, precision and weights of losses may differ.
"""

from pathlib import Path

from dassl.config import flatten
from dassl.config.identity import experiment
from dassl.predictions import read_predictions
from dassl.run_folder import CONFIG, checkpoint_folders, has_config, read_config

from .compare import recorded_inputs, short
from .inputs import Inputs
from .protocols import Protocol
from .registered import class_fact, plain_name

SHAPING = (
    "INPUT.SIZE",
    "INPUT.PIXEL_MEAN",
    "INPUT.PIXEL_STD",
    "INPUT.INTERPOLATION",
    "INPUT.RESIZE",
    "MODEL.BACKBONE.ACTIVATION",
    "TRAINER.NAME",
    "TRAINER.UPDATE_LAYERNORM",
    "DATASET.PROMPT_TEMPLATE",
)
BACKBONE = "MODEL.BACKBONE.NAME"


def check_model_dir(cfg) -> None:
    """Raises: ValueError, FileNotFoundError if a test of a method that trains has no model to load"""
    folder = cfg.RUN.MODEL_DIR
    if not cfg.RUN.EVAL_ONLY or not class_fact("trainers", cfg.TRAINER.NAME, "trains", False):
        return
    if not folder:
        raise ValueError(
            f"--eval-only tests a trained model, and {cfg.TRAINER.NAME} needs one: give its run folder with "
            "--model-dir, or a --protocol that trains it"
        )
    if not Path(folder).is_dir():
        what = "is no folder" if Path(folder).exists() else "does not exist"
        raise FileNotFoundError(f"--model-dir {folder} {what}; give the run folder of the model")
    if has_config(folder) or checkpoint_folders(folder):
        return
    inside = [str(path) for path in sorted(Path(folder).iterdir()) if path.is_dir() and has_config(path)]
    hint = f"; did you mean {inside[0]}?" if inside else "; give the run folder of the model"
    raise FileNotFoundError(f"--model-dir {folder} holds no run and no checkpoint{hint}")


def check_tested_model(cfg, declared: dict, inputs: Inputs) -> list[str]:
    """Compare a test with the run that trained its model, and leave in ``TEST.ACCEPT`` what it had to take.

    Args:    cfg, settled and not frozen; declared, every declared key with its default
    Returns: notes for the user
    Raises:  ValueError naming what differs, with both values, or a key of TEST.ACCEPT that is not compared
    """
    folder = cfg.RUN.MODEL_DIR
    keys = shaping_keys(cfg.TRAINER.NAME)
    if unknown := [key for key in cfg.TEST.ACCEPT if key not in (*keys, BACKBONE)]:
        raise ValueError(
            f"TEST.ACCEPT names {unknown[0]}, which a test does not compare with the training run; "
            f"choose from {', '.join((BACKBONE, *keys))}"
        )
    if not has_config(folder):
        return [f"Note: {folder} has no {CONFIG}: how its model was trained is not known, nor compared"]
    trained = {**experiment(declared), **experiment(read_config(folder))}
    now = flatten(cfg)
    different = {key: (trained.get(key), _plain(now.get(key))) for key in keys}
    different = {key: pair for key, pair in different.items() if pair[0] != pair[1]}
    different |= _backbones(trained, cfg, folder, inputs)
    refused = {key: pair for key, pair in different.items() if key not in cfg.TEST.ACCEPT}
    if refused:
        lines = "\n".join(
            f"  {key}: {_shown(there)} there, {_shown(here)} now" for key, (there, here) in refused.items()
        )
        raise ValueError(
            f"--model-dir {folder}: that model was trained in another way than this test would use it:\n"
            f"{lines}\n"
            "give the test the same settings or another --model-dir, or take it as it is with "
            f'TEST.ACCEPT "{list(refused)}"'
        )
    cfg.TEST.ACCEPT = [key for key in cfg.TEST.ACCEPT if key in different]
    return []


def check_tested_classes(cfg, protocol: Protocol, dataset) -> None:
    """Compare the classes of a shifted test set, once it is read, with those that its model was trained on.

    A model whose training left no predictions (dassl/predictions.py) is not compared.
    Raises: ValueError naming a class that it was not trained on
    """
    folder = cfg.RUN.MODEL_DIR
    if protocol.targets != "shifted" or not (cfg.RUN.EVAL_ONLY and folder):
        return
    trained = read_predictions(folder)
    if trained is None:
        return
    known = {name.replace("_", " ") for name in trained.classes}
    classes = dataset.classnames
    if new := [name for name in classes if name.replace("_", " ") not in known]:
        raise ValueError(
            f"the {protocol.name} protocol tests on other images of the classes trained on, but {len(new)} "
            f"of the {len(classes)} classes of {cfg.DATASET.NAME} are not among those of the model in "
            f"{folder}, such as {new[0]!r}; name the classes as the source does, or use cross_dataset"
        )


def shaping_keys(trainer: str) -> tuple[str, ...]:
    """The keys, beside the backbone, in which a test must equal the training of its model."""
    node = class_fact("trainers", trainer, "node", "") or plain_name(trainer).upper()
    own = class_fact("trainers", trainer, "shapes_the_model", ())
    return (*SHAPING, *(f"TRAINER.{node}.{key}" for key in own))


def _backbones(trained: dict, cfg, folder: str, inputs: Inputs) -> dict[str, tuple]:
    """By the digests of the files where both are known, else by name."""
    there, now = (recorded_inputs(folder) or {}).get("backbone"), inputs.digests["backbone"]
    names = trained.get(BACKBONE), cfg.MODEL.BACKBONE.NAME
    if there and now:
        if there == now:
            return {}
        files = zip(names, (there, now), strict=True)
        return {BACKBONE: tuple(f"{name} (sha256 {short(file)})" for name, file in files)}
    return {} if names[0] == names[1] else {BACKBONE: names}


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _shown(value) -> str:
    return value if isinstance(value, str) and value else repr(value)
