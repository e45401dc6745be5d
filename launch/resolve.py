"""Arguments to config. Later wins:

engine defaults < configs/trainers/<Trainer>.yaml < data set's YAML < recipe (--protocol) < --config-file
< flags < KEY VALUE pairs

The keys are declared by the engine, by `configs/_base_/family.yaml` (nodes of the family's methods) and by
the trainer: in its YAML, or in the attribute ``defaults`` of a class without one (both is an error), or, for
a class that has neither, in the user's own files (:func:`declare_nodes`).
"""

import argparse
import io
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from clipfit import backbones
from clipfit.families.facts import Input
from clipfit.io.commands import default_root
from dassl.config import CfgNode, flatten, get_cfg_default, load_yaml
from dassl.config.identity import NOT_PART_OF_THE_EXPERIMENT, digest, experiment
from dassl.run_folder import run_folder_of_model
from dassl.utils import available_cores, unknown_name

from .inputs import build_lists
from .protocols import Protocol
from .registered import (
    PHOTOS,
    PROJECT,
    class_fact,
    class_lineage,
    class_source,
    data_set,
    data_sets,
    method_name,
    methods,
    name_of_images,
    plain_name,
    protocols,
    settled_name,
)
from .registered import protocol as registered_protocol
from .values import check_values, notes_on_values

CONFIGS = PROJECT / "configs"
DEFAULT_BACKBONE = "ViT-B/16"
DEFAULT_SHOTS = 16
NO_RECIPE = "no recipe, the method's defaults"
MOST_THREADS = 4  # more rarely make a run faster; ask for them by THREADS

# Keys that the run folder's path spells out, so that they need no place in a variant's digest.
IN_THE_PATH = {"DATASET.NAME", "DATASET.NUM_SHOTS", "SEED", "TRAINER.NAME"}
BUDGET = "OPTIM.MAX_STEPS"
PER_IMAGE = ("per_image", "least", "most")  # of a budget that follows the number of training images
# What a config.yaml from before these keys means without them: what the only backbones of then have.
BEFORE_THE_KEY = {"INPUT.RESIZE": "shortest"}
PATHS = (  # keys that are paths: ~ is the home folder
    *("DATASET.ROOT", "DATASET.IMAGES", "DATASET.FEWSHOT_LIST", "OUTPUT_DIR", "RESUME"),
    *("MODEL.BACKBONE.NAME", "MODEL.INIT_WEIGHTS"),
)


class NoBudget(ValueError):
    """A recipe does not say how long the images train."""


@dataclass
class Run:
    """A resolved config and what names the run's folder."""

    cfg: CfgNode
    protocol: Protocol
    trained_by: str  # protocol whose run a test loads; empty: nothing to load
    config_name: str  # stem of --config-file, else the backbone
    variant: dict  # flags and pairs that differ from what the project and the files say
    has_folder: bool  # somebody named the output folder
    drew_seed: bool  # nobody gave one
    notes: list[str]  # what the user should read in the log
    declared: dict  # every declared key with its default: of the engine, the family and the trainer
    made: list[Path] = field(default_factory=list)  # folders that this start made, the run's own first


def resolve(args, unregistered: bool = False) -> Run:
    """Build the config of one run from parsed arguments (launch.arguments.parse_args).

    Two things wait: ``PREC auto`` (launch/runtime.py), and what of ``INPUT`` the backbone says where it is a
    file or open_clip's (:func:`settle_input`), because they need torch.

    Args: unregistered, the trainer need not be there any more: where its runs lie can be told without it
    Raises: KeyError, ValueError, FileNotFoundError naming value, place and nearest valid name.
    """
    _check_flags(args)
    asked = registered_protocol(args.protocol)
    pairs, flags = _pair_up(args.pairs), _flags(args)
    notes = []
    with _warnings_to(notes):
        dataset_stem, dataset_path, dataset_file = _dataset(args)
        config_file = load_yaml(args.config_file) if args.config_file else {}
    files = {dataset_path: dataset_file, args.config_file: config_file}
    given = [pairs, flags, flatten(config_file), flatten(dataset_file)]

    trainer, declared = trainer_defaults(_first(given, "TRAINER.NAME"), args.replace, unregistered)
    dataset = _first(given, "DATASET.NAME")
    if not dataset:
        raise ValueError(f"no data set is named; pass --dataset (there is: {_stems()}), or --images")
    dataset = settled_name("datasets", dataset, args.replace)
    recipe, trained_by = load_recipe(
        *(trainer, args.protocol, plain_name(dataset), _first(given, "DATASET.NUM_SHOTS"))
    )
    by_images = recipe.pop(BUDGET) if isinstance(recipe.get(BUDGET), dict) else {}
    if unregistered:
        recipe = {key: value for key, value in recipe.items() if not key.startswith("TRAINER.")}
    if args.protocol and not has_recipe(trainer, args.protocol):
        notes.append(f"Note: {trainer}, {args.protocol}: {NO_RECIPE}")
    if trained_by not in ("", args.protocol) and not args.eval_only:
        raise ValueError(
            f"the {args.protocol} protocol of {trainer} only tests, with the model that --protocol "
            f"{trained_by} trains: train that one, then add --eval-only here"
        )

    with _warnings_to(notes):
        cfg = get_cfg_default()
        cfg.merge_from_mapping(
            load_yaml(CONFIGS / "_base_/family.yaml"), source="family.yaml", allow_new=True
        )
        cfg.merge_from_mapping(declared, source=f"the defaults of {trainer}", allow_new=True)
        defaults = {**flatten(cfg), **BEFORE_THE_KEY}
        own_nodes = [name for name, keys in declared["TRAINER"].items() if isinstance(keys, dict)]
        if not own_nodes or is_replacement(trainer):
            for path, content in files.items():
                if nodes := declare_nodes(cfg, content, source=path):
                    own_nodes += nodes
                    notes.append(f"Note: {path} declares {', '.join(f'TRAINER.{name}' for name in nodes)}")
        merge = partial(cfg.merge_from_mapping, own_nodes=own_nodes)
        merge(dataset_file, source=dataset_path or "--dataset")
        merge(recipe, source=f"the {args.protocol} recipe of {trainer}")
        if asked.picks_classes:
            cfg.DATASET.SUBSAMPLE_CLASSES = asked.stage(args.eval_only).classes
        merge(config_file, source=args.config_file)
        shipped = experiment(cfg)
        for key, value in flags.items():
            _assign(cfg, key, value)
        merge(pairs, source="command line")
    if not is_replacement(trainer):
        notes += _unread_keys(trainer, declared, [pairs, flatten(config_file)])

    cfg.TRAINER.NAME = trainer
    cfg.DATASET.NAME = dataset
    cfg.RUN.PROTOCOL = args.protocol
    cfg.RUN.DATASET_FILE = dataset_stem
    if cfg.RUN.DATASET_FILE:
        cfg.RUN.DATASET_FILE += dataset.removeprefix(plain_name(dataset))
    cfg.RUN.EVAL_ONLY = args.eval_only
    cfg.RUN.TEST_ONLY = args.eval_only or not class_fact("trainers", trainer, "trains", True)
    cfg.RUN.MODEL_DIR, epoch = run_folder_of_model(args.model_dir, args.load_epoch)
    cfg.RUN.LOAD_EPOCH = -1 if epoch is None else epoch
    cfg.RUN.NEW_CLASSES = args.eval_only and (
        asked.targets == "other" or asked.are_new(cfg.DATASET.SUBSAMPLE_CLASSES)
    )
    _check_classes(cfg, asked)
    _settle_paths(cfg)
    check_values(cfg)
    notes += notes_on_values(cfg)
    _name_backbone(cfg)
    cfg.THREADS = cfg.THREADS or min(MOST_THREADS, available_cores())
    drawn = _settle_seed(cfg)
    if by_images or cfg.DATASET.IMAGES:
        free = not any(key in source for source in given for key in (BUDGET, "OPTIM.MAX_EPOCH"))
        notes += _settle_to_images(cfg, by_images if free else {})
    own_name = Path(args.config_file).stem
    return Run(
        cfg=cfg,
        protocol=asked,
        trained_by=trained_by if args.eval_only else "",
        config_name=own_name or backbones.slug(cfg.MODEL.BACKBONE.NAME),
        variant=_variant(cfg, [*flags, *pairs], shipped, named_by_config_file=bool(own_name)),
        has_folder=any("OUTPUT_DIR" in source for source in given),
        drew_seed=bool(drawn),
        notes=notes + drawn,
        declared=defaults,
    )


def resolve_training(args, run: Run, pairs: list[str]) -> tuple[argparse.Namespace, Run]:
    """The run that trained the model which the test ``run`` loads, from the same flags and these pairs.

    Returns: its arguments, resolved as they would be for train.py
    """
    training = argparse.Namespace(**vars(args))
    training.protocol, training.pairs = run.trained_by, pairs
    if run.protocol.transfers:
        if args.dataset_config_file:
            folder = Path(args.dataset_config_file).parent
            training.dataset_config_file = str(folder / f"{run.cfg.RUN.SOURCE}.yaml")
        else:
            training.dataset, training.images = run.cfg.RUN.SOURCE, ""
    training.eval_only, training.load_epoch, training.output_dir = False, None, ""
    training.redo = False
    return training, resolve(training)


# Data sets, trainers and recipes -------------------------------------------------------------------


def _dataset(args) -> tuple[str, str, dict]:
    """What ``--dataset``, ``--dataset-config-file`` or ``--images`` names: stem, its YAML's path, settings.

    Raises: ValueError for an unknown name, with the nearest, or if two of the flags are given
    """
    if args.images:
        if other := args.dataset or args.dataset_config_file:
            raise ValueError(f"--images {args.images} and {other} both name what to train on; give one")
        images = os.path.abspath(args.images)
        return name_of_images(images), "--images", {"DATASET": {"NAME": PHOTOS, "IMAGES": images}}
    stem, path = Path(args.dataset_config_file).stem, args.dataset_config_file
    if args.dataset:
        if path:
            raise ValueError(
                f"--dataset {args.dataset} and --dataset-config-file {path} both name a data set; give one"
            )
        found = data_set(args.dataset)
        if found.config is None:
            return found.stem, "", {"DATASET": {"NAME": found.name}}
        stem, path = found.stem, str(found.config)
    return stem, path, load_yaml(path) if path else {}


def _stems() -> str:
    return ", ".join(one.stem for one in data_sets())


def trainer_defaults(name: str, replace: bool = False, unregistered: bool = False) -> tuple[str, dict]:
    """Canonical name of a trainer and the keys it declares, with their defaults.

    They stand in its YAML, or in the class attribute ``defaults`` of a plugin in one file: the keys of its
    node, ``cfg.TRAINER.<NAME>`` (or the ``node`` that its class names). One that replaces a shipped trainer
    (launch/registered.py) has the keys of both.

    Raises: ValueError for an unknown name (unless ``unregistered``), and for keys in both places
    """
    if not name:
        raise ValueError(f"no trainer is named; pass --trainer (there are: {', '.join(methods())})")
    name = settled_name("trainers", method_name(name), replace)
    path = CONFIGS / f"trainers/{plain_name(name)}.yaml"
    declared = load_yaml(path if path.is_file() else CONFIGS / "_base_/clip.yaml")
    source = class_source("trainers", name)
    if source is None and unregistered:
        return name, declared
    if path.is_file() and not is_replacement(name):
        _check_one_home(name, source, path)
        return name, declared
    node, own = _defaults_of_class(name)
    if own:
        declared["TRAINER"].setdefault(node or plain_name(name).upper(), {}).update(own)
    return name, declared


def _check_one_home(name: str, source, path: Path) -> None:
    """Raises: ValueError if no file registers a trainer that has a YAML, or if its class has defaults too"""
    if source is None:
        raise ValueError(unknown_name("trainer", name, methods()))
    if stated := source.constants.get("defaults", "defaults" in source.computed and ["defaults"]):
        raise ValueError(
            f"trainers/{source.file}.py, class {name}, states defaults ({', '.join(stated)}), and so does "
            f"{path.relative_to(PROJECT)}; move those of the class into the YAML"
        )


def _defaults_of_class(name: str) -> tuple[str, dict]:
    """``node`` of a class and its ``defaults`` over those of its bases.

    They are read from the source. Only what stands there as no literal, or is registered elsewhere than in a
    file of trainers/, is imported, with torch.
    Raises: ValueError for an unknown name
    """
    classes = class_lineage("trainers", name)
    if classes and not any({"node", "defaults"} & source.computed for source in classes):
        attributes = [source.constants for source in classes]
    else:
        import trainers  # noqa: F401 - registers the plugins
        from dassl.engine import TRAINER_REGISTRY

        if name not in TRAINER_REGISTRY:
            raise ValueError(unknown_name("trainer", name, TRAINER_REGISTRY.registered_names()))
        attributes = [vars(parent) for parent in TRAINER_REGISTRY.get(name).__mro__]
    own = {}
    for one in reversed(attributes):
        own.update(one.get("defaults", {}))
    return next((one["node"] for one in attributes if one.get("node")), ""), own


def declare_nodes(cfg: CfgNode, content: dict, source: str) -> list[str]:
    """Declare the nodes of TRAINER that a user's file brings, for a trainer that declares none itself.

    YAML files of the CoOp family carry ``TRAINER: {TCP: {ALPHA: 0.7}}``, which their own train.py declares.
    Here it is declared by the first of the data set's YAML and ``--config-file`` (each with its parents) that
    gives a node that nobody has declared: these keys, of the types of these values. Every other source may
    then set these keys and no others, so a misspelt key is an error. A node that is there already, such as
    those of the family's methods, gets no new keys. A trainer that ships a YAML or sets ``defaults`` has
    declared its node: with it, any other new node is an error.

    Returns: the names of the declared nodes
    """
    known = set(cfg.TRAINER)
    new = {}
    for key, value in flatten(content).items():
        top, *rest = key.split(".")
        if top == "TRAINER" and len(rest) > 1 and rest[0] not in known:
            new[key] = value
    cfg.merge_from_mapping(new, source=source, allow_new=True)
    return [name for name in cfg.TRAINER if name not in known]


def has_recipe(trainer: str, protocol: str) -> bool:
    return _recipe_file(trainer, protocol).is_file()


def _recipe_file(trainer: str, protocol: str) -> Path:
    """A method's own recipe, else the one that the protocol has for all methods, which may be missing too."""
    own = CONFIGS / f"recipes/{plain_name(trainer)}/{protocol}.yaml"
    return own if own.is_file() else CONFIGS / f"recipes/{protocol}.yaml"


def load_recipe(trainer: str, protocol: str, dataset: str, shots) -> tuple[dict, str]:
    """Settings of (method, protocol, data set, shots) by dotted key; the protocol whose run its tests load.

    A recipe is a YAML with nested config keys and ``WHEN:``, a list of ``{dataset: [...], shots: [...],
    set: {KEY: value}, source: ...}``, applied in order. A method without a recipe runs on its defaults.
    ``OPTIM.MAX_STEPS: {per_shot: 300}`` is 300 steps for every image per class. ``{per_image: 1, least: 100,
    most: 2000}`` counts all images trained on: it is handed on, since only the data set knows their number.

    Raises: KeyError, ValueError naming the recipe; NoBudget for steps per shot where all images are taken
    """
    path = _recipe_file(trainer, protocol)
    if not path.is_file():
        settings = {"DATASET.NUM_SHOTS": DEFAULT_SHOTS} if protocol else {}
        return settings, registered_protocol(protocol).trained_by or protocol
    recipe = load_yaml(path)
    cases, trained_by = recipe.pop("WHEN", []), recipe.pop("TRAINED_BY", "")
    settings = {"DATASET.NUM_SHOTS": DEFAULT_SHOTS, **flatten(recipe)}
    if isinstance(budget := recipe.get("OPTIM", {}).get("MAX_STEPS"), dict):
        settings = {key: value for key, value in settings.items() if not key.startswith(f"{BUDGET}.")}
        settings[BUDGET] = budget
    shots = shots or settings["DATASET.NUM_SHOTS"]
    if not str(shots).lstrip("-").isdigit():
        raise ValueError(f"DATASET.NUM_SHOTS is {shots!r}; give a whole number of images per class")
    shots = int(shots)
    for case in cases:
        unknown = case.keys() - {"dataset", "shots", "set", "source"}
        if unknown:
            raise KeyError(f"{path}: WHEN knows dataset, shots, set and source, not {sorted(unknown)}")
        if dataset in case.get("dataset", [dataset]) and shots in case.get("shots", [shots]):
            settings.update(case["set"])
    if isinstance(budget := settings.get(BUDGET), dict) and "per_image" not in budget:
        settings[BUDGET] = _steps(budget, shots, path)
    return settings, trained_by


def _steps(budget: dict, shots: int, path: Path) -> int:
    """Steps of a budget that is stated per shot."""
    if budget.keys() != {"per_shot"} or type(budget["per_shot"]) is not int:
        raise ValueError(f"{path}: {BUDGET} is {budget}; write a number of steps or {{per_shot: 300}}")
    if shots < 1:
        raise NoBudget(
            f"{BUDGET} of {path} is {budget['per_shot']} steps per image of a class; --shots {shots} takes "
            "all images: give a number of --shots"
        )
    return budget["per_shot"] * shots


def trained_alike(trainer: str, protocol: str, dataset: str, shots: int) -> list[str]:
    """The protocols under which a method is trained in the same way, ``protocol`` among them.

    Their recipes agree, and so do the classes: they differ in the name only, and one training serves all.

    Args:    dataset, DATASET.NAME
    Returns: names in the order of the registered protocols, so that the first is the same for all of them
    """
    known = protocols()
    if protocol not in known or not class_fact("trainers", trainer, "trains", True):
        return [protocol]
    asked = known[protocol]
    names = [
        one.name
        for one in known.values()
        if (one.picks_classes, one.train.classes) == (asked.picks_classes, asked.train.classes)
    ]
    if names == [protocol]:
        return names
    recipes = {protocol: load_recipe(trainer, protocol, dataset, shots)}
    for name in names:
        with suppress(NoBudget):  # that protocol is for other shots: it trains nothing alike
            recipes[name] = load_recipe(trainer, name, dataset, shots)
    settings = {name: {**recipe, "DATASET.NUM_SHOTS": shots} for name, (recipe, _) in recipes.items()}
    trains = [name for name in names if name in recipes]
    trains = [name for name in trains if name == protocol or recipes[name][1] in ("", name)]
    return [name for name in trains if settings[name] == settings[protocol]]


def _steps_of_images(budget: dict, images: int, trainer: str) -> int:
    """Steps of a budget ``{per_image, least, most}``, which recipes state."""
    if budget.keys() != set(PER_IMAGE):
        raise ValueError(f"{BUDGET} in a recipe of {trainer} is {budget}; state {', '.join(PER_IMAGE)}")
    return round(min(max(budget["per_image"] * images, budget["least"]), budget["most"]))


# The last steps -------------------------------------------------------------------------------------


def _name_backbone(cfg) -> None:
    """Fill in an empty backbone, and how pictures are read by one of which that is known without torch."""
    if not cfg.MODEL.BACKBONE.NAME:
        cfg.MODEL.BACKBONE.NAME = DEFAULT_BACKBONE
    name = cfg.MODEL.BACKBONE.NAME
    if backbones.is_name(name):
        settle_input(cfg, now=False)
    elif not backbones.looks_like_path(name):
        backbones.check_name(name)


def settle_input(cfg, now: bool = True) -> None:
    """Fill in what INPUT leaves to the backbone. That of a file stands in it, and reading it imports torch.

    With ``now`` False what takes torch is left empty.
    Raises: as clipfit.backbones.input_of; ValueError for a size that is not the backbone's own
    """
    name = cfg.MODEL.BACKBONE.NAME
    own = backbones.input_of(name, now)
    if own is None:
        return
    said = _said_of_input(own)
    for key, value in said.items():
        if not cfg.INPUT[key]:
            cfg.INPUT[key] = value
    size = said["SIZE"]
    if tuple(cfg.INPUT.SIZE) != size:
        raise ValueError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but the backbone {name} takes {size}; "
            "leave INPUT.SIZE out, or choose another MODEL.BACKBONE.NAME"
        )


def _settle_to_images(cfg, budget: dict) -> list[str]:
    """Fill in what follows from the images: the budget of steps, and whether anything is tested.

    Args:   budget, of the recipe, by the number of images; empty: it stays
    Raises: as the data set; ValueError if a test has no images
    """
    with redirect_stderr(io.StringIO()):  # what the data set prints; the run prints it again
        dataset = build_lists(cfg)
    notes = []
    if budget:
        images = len(dataset.train_x)
        steps = cfg.OPTIM.MAX_STEPS = _steps_of_images(budget, images, cfg.TRAINER.NAME)
        size = min(cfg.DATALOADER.TRAIN_X.BATCH_SIZE, images)
        notes.append(f"budget: {steps:,} steps of {size:,} of {images:,} pictures ({BUDGET} sets another)")
    if not dataset.test and not cfg.TEST.NO_TEST:
        if cfg.RUN.EVAL_ONLY:
            raise ValueError(f"{cfg.DATASET.IMAGES}: there are no pictures to test on; see --test-share")
        cfg.TEST.NO_TEST = True
        notes.append("Note: there are no pictures to test on, so the final test is left out (--test-share)")
    return notes


def _said_of_input(own: Input) -> dict:
    """Keys of INPUT with the values that a backbone has."""
    return {
        "SIZE": (own.size, own.size),
        "PIXEL_MEAN": list(own.mean),
        "PIXEL_STD": list(own.std),
        "INTERPOLATION": own.interpolation,
        "RESIZE": own.resize,
    }


def _settle_seed(cfg) -> list[str]:
    """Replace a negative seed by a drawn one, and say so."""
    if cfg.SEED >= 0:
        return []
    asked = "no seed was given" if cfg.SEED == -1 else f"SEED {cfg.SEED} asks for a random seed"
    cfg.SEED = random.SystemRandom().randrange(1, 2**31)
    return [f"{asked}: this run draws and uses SEED {cfg.SEED}"]


def _check_flags(args) -> None:
    if args.eval_only and args.no_train:
        raise ValueError(
            "--eval-only tests a trained model and --no-train stops before anything: give one of them"
        )
    if args.redo and (args.no_train or args.resume):
        other = "--no-train leaves the run folder alone" if args.no_train else "--resume goes on with a run"
        raise ValueError(f"--redo starts a run anew and {other}: give one of them")
    if args.load_epoch is not None and not args.eval_only:
        raise ValueError(
            "--load-epoch chooses the model of a test; add --eval-only, or use --resume to train on"
        )


def check_replaced(args, cfg) -> None:
    """Raises: ValueError if ``--replace`` was given and nothing takes the place of anything"""
    if args.replace and not any(map(is_replacement, (cfg.TRAINER.NAME, cfg.DATASET.NAME))):
        raise ValueError(
            f"--replace: no file of your own in trainers/ registers a {cfg.TRAINER.NAME}, and none in "
            f"datasets/ a {cfg.DATASET.NAME}; leave it out, or see that your file registers that name"
        )


def _check_classes(cfg, asked: Protocol) -> None:
    """Raises: ValueError if the method knows only its classes, and the protocol or the test has others"""
    new_classes = cfg.RUN.NEW_CLASSES or asked.targets == "other"
    if not new_classes or class_fact("trainers", cfg.TRAINER.NAME, "new_classes", True):
        return
    known = protocols().values()
    whole = [one.name for one in known if not one.tests_new_classes]
    halves = [f"the {one.train.classes} classes of {one.name}" for one in known if one.picks_classes]
    others = [one.name for one in known if one.targets == "other"]
    raise ValueError(
        f"{cfg.TRAINER.NAME} knows only the classes of its training images: there is no test on new classes "
        f"and no {' or '.join(others)} protocol; choose {', '.join(whole)} or {' or '.join(halves)}"
    )


def _settle_paths(cfg) -> None:
    """The data root where nobody gave one, and ``~`` in every path."""
    cfg.DATASET.ROOT = cfg.DATASET.ROOT or default_root()
    values = flatten(cfg)
    for key in PATHS:
        if values[key]:
            _assign(cfg, key, os.path.expanduser(values[key]))


def _assign(cfg, key: str, value) -> None:
    """Set a dotted key to the value of a flag as it is: a folder may be called 2024."""
    *parents, leaf = key.split(".")
    for parent in parents:
        cfg = cfg[parent]
    cfg[leaf] = value


def is_replacement(name: str) -> bool:
    """Whether a settled name of a trainer or data set is that of a class in the place of a shipped one."""
    return name != plain_name(name)


def _unread_keys(trainer: str, declared: dict, given: list[dict]) -> list[str]:
    """A note on the user's keys that the trainer does not read; none for a plugin that declares no keys."""
    read = flatten(declared).keys()
    if not any(key.startswith("TRAINER.") and key.count(".") > 1 for key in read):
        return []
    unread = [
        key
        for source in given
        for key in source
        if key.startswith(("TRAINER.", "LOSS.")) and key != "TRAINER.NAME" and key not in read
    ]
    return [f"Warning: {trainer} does not read {', '.join(dict.fromkeys(unread))}"] if unread else []


def _variant(cfg, given: list[str], shipped: dict, named_by_config_file: bool) -> dict:
    """The given keys whose values differ from the shipped ones and do not stand in the path anyway."""
    ignored = IN_THE_PATH | NOT_PART_OF_THE_EXPERIMENT
    if not named_by_config_file:
        ignored |= {"MODEL.BACKBONE.NAME"}
    now = experiment(cfg)
    shipped["MODEL.BACKBONE.NAME"] = shipped["MODEL.BACKBONE.NAME"] or DEFAULT_BACKBONE
    name = cfg.MODEL.BACKBONE.NAME
    if backbones.is_name(name) and (own := backbones.input_of(name, now=False)):
        said = {f"INPUT.{key}": value for key, value in _said_of_input(own).items() if key != "SIZE"}
        shipped |= {key: shipped[key] or value for key, value in said.items()}  # to repeat it changes nothing
    return {key: now[key] for key in given if key not in ignored and now[key] != shipped[key]}


def variant_suffix(variant: dict) -> str:
    """``-<8 hex>`` of the settings that set a run apart, empty when none does."""
    return f"-{digest(variant)[:8]}" if variant else ""


# Small helpers --------------------------------------------------------------------------------------


@contextmanager
def _warnings_to(notes: list[str]) -> Iterator[None]:
    """Add what is warned of meanwhile to the notes of a run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes += [f"Warning: {warning.message}" for warning in caught]


def _flags(args) -> dict:
    flags = {
        "DATASET.ROOT": args.root,
        "OUTPUT_DIR": args.output_dir,
        "RESUME": args.resume,
        "SEED": args.seed,
        "DATASET.NUM_SHOTS": args.shots,
        "DATASET.TEST_SHARE": args.test_share,
        "DATASET.PROMPT_TEMPLATE": args.template,
        "DATASET.SOURCE_DOMAINS": args.source_domains,
        "DATASET.TARGET_DOMAINS": args.target_domains,
        "INPUT.TRANSFORMS": args.transforms,
        "TRAINER.NAME": args.trainer,
        "MODEL.BACKBONE.NAME": args.backbone,
        "MODEL.HEAD.NAME": args.head,
    }
    return {key: value for key, value in flags.items() if value not in (None, "", [])}


def _pair_up(pairs: list[str]) -> dict:
    if late := [word for word in pairs if word.startswith("--")]:
        raise ValueError(f"{late[0]} stands behind a KEY VALUE pair; flags come before all pairs")
    if len(pairs) % 2:
        raise ValueError(f"KEY VALUE pairs are incomplete: {pairs[-1]!r} has no partner in {' '.join(pairs)}")
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _first(given: list[dict], key: str):
    """The value of ``key`` in the first source that has one."""
    return next((source[key] for source in given if source.get(key) not in (None, "")), "")
