"""Arguments to config. Later wins:

engine defaults < configs/trainers/<Trainer>.yaml < data set's YAML < recipe (--protocol) < --config-file
< flags < KEY VALUE pairs
"""

import random
from dataclasses import dataclass
from pathlib import Path

from dassl.config import CfgNode, get_cfg_default, load_yaml
from dassl.config.identity import NOT_PART_OF_THE_EXPERIMENT, digest, experiment
from dassl.utils import unknown_name
from models import backbones

PROJECT = Path(__file__).resolve().parent.parent
CONFIGS = PROJECT / "configs"
DEFAULT_BACKBONE = "ViT-B/16"
DEFAULT_SHOTS = 16
SPELLINGS = {"zsclip": "ZeroshotCLIP", "zsclip2": "ZeroshotCLIP2"}  # beside the names of the trainer YAMLs

# Keys that the run folder's path spells out, so that they need no place in a variant's digest.
IN_THE_PATH = {"DATASET.NAME", "DATASET.NUM_SHOTS", "SEED", "TRAINER.NAME"}
# Keys that only concern a test: a tested run is found under the digest of the other pairs.
ONLY_FOR_TESTS = {
    *("DATASET.SUBSAMPLE_CLASSES", "RUN.SOURCE"),
    *("TEST.SPLIT", "TEST.PER_CLASS_RESULT", "TEST.COMPUTE_CMAT"),
}


@dataclass
class Run:
    """A resolved config and what names the run's folder."""

    cfg: CfgNode
    trained_by: str  # protocol whose run a test loads; empty: nothing to load
    config_name: str  # stem of --config-file, else the backbone
    variant: dict  # pairs that differ from what the project and the files say


def resolve(args) -> Run:
    """Build the config of one run from parsed arguments (launch.arguments.parse_args).

    Raises: KeyError, ValueError, FileNotFoundError naming value, place and nearest valid name.
    """
    pairs = _pair_up(args.pairs)
    files = [load_yaml(path) if path else {} for path in (args.dataset_config_file, args.config_file)]
    dataset_file, config_file = files
    given = [pairs, _flags(args), _dotted(config_file), _dotted(dataset_file)]

    trainer, declared = trainer_defaults(_first(given, "TRAINER.NAME"))
    dataset = _first(given, "DATASET.NAME")
    if not dataset:
        raise ValueError("no data set is named; pass --dataset-config-file configs/datasets/<data set>.yaml")
    recipe, trained_by = load_recipe(trainer, args.protocol, dataset, _first(given, "DATASET.NUM_SHOTS"))

    if trained_by != args.protocol and trained_by and not args.eval_only:
        raise ValueError(
            f"the {args.protocol} protocol of {trainer} only tests, with the model that --protocol "
            f"{trained_by} trains: train that one, then add --eval-only here"
        )

    cfg = get_cfg_default()
    cfg.merge_from_mapping(load_yaml(CONFIGS / "_base_/family.yaml"), source="family.yaml", allow_new=True)
    cfg.merge_from_mapping(declared, source=f"the defaults of {trainer}", allow_new=True)
    cfg.merge_from_mapping(dataset_file, source=args.dataset_config_file)
    cfg.merge_from_mapping(recipe, source=f"the {args.protocol} recipe of {trainer}")
    if args.protocol == "base2new":
        cfg.DATASET.SUBSAMPLE_CLASSES = "new" if args.eval_only else "base"
    cfg.merge_from_mapping(config_file, source=args.config_file)
    cfg.merge_from_list([item for pair in _flags(args).items() for item in pair])
    before_pairs = experiment(cfg)
    cfg.merge_from_list(args.pairs)

    cfg.TRAINER.NAME = trainer
    cfg.RUN.PROTOCOL = args.protocol
    cfg.RUN.DATASET_FILE = Path(args.dataset_config_file).stem
    cfg.RUN.EVAL_ONLY = args.eval_only
    cfg.RUN.MODEL_DIR = args.model_dir
    cfg.RUN.LOAD_EPOCH = -1 if args.load_epoch is None else args.load_epoch
    _settle_backbone(cfg)
    _settle_seed(cfg)
    _name_unread_keys(trainer, declared, [pairs, _dotted(config_file)])

    return Run(
        cfg=cfg,
        trained_by=trained_by if args.eval_only else "",
        config_name=Path(args.config_file).stem
        if args.config_file
        else backbones.slug(cfg.MODEL.BACKBONE.NAME),
        variant=_variant(cfg, pairs, before_pairs, named_by_config_file=bool(args.config_file)),
    )


# Trainers and recipes -------------------------------------------------------------------------------


def trainer_defaults(name: str) -> tuple[str, dict]:
    """Canonical name of a trainer and the keys it declares, with their defaults.

    A trainer that ships no YAML (a plugin in one file) declares them in its class attribute ``defaults``.
    """
    if not name:
        raise ValueError(f"no trainer is named; pass --trainer (shipped: {', '.join(shipped_trainers())})")
    shipped = {shipped_name.lower(): shipped_name for shipped_name in shipped_trainers()}
    plain = name.lower().replace("_", "")
    canonical = SPELLINGS.get(plain, shipped.get(plain, name))
    if canonical in shipped.values():
        return canonical, load_yaml(CONFIGS / f"trainers/{canonical}.yaml")

    import trainers  # noqa: F401 - registers the plugins; only they need torch at this point
    from dassl.engine import TRAINER_REGISTRY

    registered = TRAINER_REGISTRY.registered_names()
    if name not in registered:
        raise ValueError(unknown_name("trainer", name, registered))
    declared = load_yaml(CONFIGS / "_base_/clip.yaml")
    own = getattr(TRAINER_REGISTRY.get(name), "defaults", None)
    if own:
        declared["TRAINER"][name.upper()] = dict(own)
    return name, declared


def shipped_trainers() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "trainers").glob("*.yaml"))


def load_recipe(trainer: str, protocol: str, dataset: str, shots) -> tuple[dict, str]:
    """Settings of (method, protocol, data set, shots), and the protocol whose run its tests load.

    A recipe is a YAML with nested config keys and ``WHEN:``, a list of ``{dataset: [...], shots: [...],
    set: {KEY: value}, source: ...}``, applied in order. A method without a recipe runs on its defaults.
    """
    path = CONFIGS / f"recipes/{trainer}/{protocol}.yaml"
    if not protocol or not path.is_file():
        return ({"DATASET": {"NUM_SHOTS": DEFAULT_SHOTS}} if protocol else {}), protocol
    recipe = load_yaml(path)
    cases, trained_by = recipe.pop("WHEN", []), recipe.pop("TRAINED_BY", "")
    settings = {"DATASET.NUM_SHOTS": DEFAULT_SHOTS, **_dotted(recipe)}
    shots = int(shots or settings["DATASET.NUM_SHOTS"])
    for case in cases:
        unknown = case.keys() - {"dataset", "shots", "set", "source"}
        if unknown:
            raise KeyError(f"{path}: WHEN knows dataset, shots, set and source, not {sorted(unknown)}")
        if dataset in case.get("dataset", [dataset]) and shots in case.get("shots", [shots]):
            settings.update(case["set"])
    return _nested(settings), trained_by


# The last steps -------------------------------------------------------------------------------------


def _settle_backbone(cfg) -> None:
    """Fill in an empty backbone and input size; a size that is not the backbone's own is an error."""
    if not cfg.MODEL.BACKBONE.NAME:
        cfg.MODEL.BACKBONE.NAME = DEFAULT_BACKBONE
    name = cfg.MODEL.BACKBONE.NAME
    backbones.check_name(name)
    own = backbones.input_size(name)
    if not cfg.INPUT.SIZE:
        cfg.INPUT.SIZE = (own, own)
    if tuple(cfg.INPUT.SIZE) != (own, own):
        raise ValueError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but the backbone {name} takes ({own}, {own}); "
            "leave INPUT.SIZE out, or choose another MODEL.BACKBONE.NAME"
        )


def _settle_seed(cfg) -> None:
    if cfg.SEED < 0:
        cfg.SEED = random.SystemRandom().randrange(1, 2**31)
        print(f"no seed was given: this run draws and uses SEED {cfg.SEED}")


def _name_unread_keys(trainer: str, declared: dict, given: list[dict]) -> None:
    """Say once which of the user's keys belong to methods that do not run."""
    read = _dotted(declared).keys()
    unread = [
        key
        for source in given
        for key in source
        if key.startswith(("TRAINER.", "LOSS.")) and key != "TRAINER.NAME" and key not in read
    ]
    if unread:
        print(f"Warning: {trainer} does not read {', '.join(dict.fromkeys(unread))}")


def _variant(cfg, pairs: dict, before: dict, named_by_config_file: bool) -> dict:
    ignored = IN_THE_PATH | NOT_PART_OF_THE_EXPERIMENT
    if not named_by_config_file:
        ignored |= {"MODEL.BACKBONE.NAME"}
    now = experiment(cfg)
    return {key: now[key] for key in pairs if key not in ignored and now[key] != before[key]}


def variant_suffix(variant: dict) -> str:
    """``-<8 hex>`` of the pairs that set a run apart, empty when none does."""
    return f"-{digest(variant)[:8]}" if variant else ""


# Small helpers --------------------------------------------------------------------------------------


def _flags(args) -> dict:
    flags = {
        "DATASET.ROOT": args.root,
        "OUTPUT_DIR": args.output_dir,
        "RESUME": args.resume,
        "SEED": args.seed,
        "DATASET.NUM_SHOTS": args.shots,
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


def _dotted(node: dict, prefix: str = "") -> dict:
    """``{"OPTIM": {"LR": 1}}`` to ``{"OPTIM.LR": 1}``."""
    flat = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(_dotted(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _nested(flat: dict) -> dict:
    """Inverse of :func:`_dotted`."""
    root: dict = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return root
