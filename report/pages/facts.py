"""What produced a finished run, in words: method and data, settings, starts."""

from collections.abc import Iterator

from dassl.config import flatten, load_yaml
from launch.registered import PROJECT

Facts = list[tuple[str, str]]  # what it is called, what it is

RESULT_FACTS = (  # of a result: what to call it, key
    ("method", "trainer"),
    ("its version", "trainer_version"),
    ("data set", "dataset"),
    ("protocol", "protocol"),
    ("backbone", "backbone"),
    ("precision", "precision"),
    ("template", "template"),
    ("shots", "shots"),
    ("seed", "seed"),
    ("classes", "num_classes"),
    ("split", "split"),
    ("epoch", "epoch"),
    ("trained parameters", "trainable_params"),
    ("tested model", "model_dir"),
    ("extras", "extras"),
)
COST_FACTS = (
    ("training images", "train_images"),
    ("skipped steps", "skipped_steps"),
    ("seconds of training", "seconds_train"),
    ("seconds of the test", "seconds_test"),
    ("peak memory, MB", "peak_memory_mb"),
    ("ranks", "ranks"),
    ("inference", "inference"),
)
COUNTS = ("trainable_params", "train_images", "num_classes")
SETTINGS = (  # of a config, beside the node of the method
    "OPTIM.NAME",
    "OPTIM.LR",
    "OPTIM.LR_SCHEDULER",
    "OPTIM.MAX_EPOCH",
    "OPTIM.MAX_STEPS",
    "OPTIM.WARMUP_EPOCH",
    "OPTIM.WEIGHT_DECAY",
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    "INPUT.SIZE",
    "INPUT.TRANSFORMS",
    "TRAINER.UPDATE_LAYERNORM",
)
DIGEST = 12  # hexadecimal digits that are shown


def result_facts(result: dict, keys: tuple[tuple[str, str], ...] = RESULT_FACTS) -> Facts:
    """What a result says of itself; what it does not know is left out."""
    words = [(name, in_words(result.get(key), counts=key in COUNTS)) for name, key in keys]
    return [(name, said) for name, said in words if said]


def settings(config: dict, result: dict) -> Facts:
    """The config's keys that say how it was trained: of the method, then of optimizer and input.

    Args: config, as dassl.run_folder.read_config gives it; empty if the run has none
    """
    values = flatten(config)
    nodes = [f"TRAINER.{node}." for node in _nodes(result.get("trainer") or "")]
    keys = [key for key in values if key.startswith(tuple(nodes))] if nodes else []
    return [(key, in_words(values[key])) for key in (*keys, *SETTINGS) if key in values]


def _nodes(trainer: str) -> list[str]:
    """Names of the config's nodes that a trainer reads: those of its YAML, else its own."""
    name = trainer.partition("@")[0]
    path = PROJECT / "configs/trainers" / f"{name}.yaml"
    if not name or not path.is_file():
        return [name.upper()] if name else []
    return [node for node, value in load_yaml(path).get("TRAINER", {}).items() if isinstance(value, dict)]


def input_facts(inputs: dict) -> Facts:
    """What a run read: images and the beginning of each digest. Args: inputs, of a result"""
    lists = (inputs.get("lists") or {}).items()
    facts = [
        (f"{name} list", f"{entry['images']:,} images, sha256 {entry['digest'][:DIGEST]}")
        for name, entry in lists
        if entry  # a test reads no images to train on
    ]
    names = {
        "classes": "class names",
        "train_images": "content of the images trained on",
        "test_images": "images tested on",
        "backbone": "backbone file",
        "model": "tested model",
        "init_weights": "initial weights",
    }
    facts += [
        (name, f"sha256 {inputs[key][:DIGEST]}")
        for key, name in names.items()
        if isinstance(inputs.get(key), str)
    ]
    code = (inputs.get("code") or {}).items()
    return facts + [(file, f"sha256 {digest[:DIGEST]}") for file, digest in code]


def start_facts(starts: list[dict]) -> Facts:
    """A line per start: when, at which commit, with what beside it, where."""
    return [
        (f"start {number} of {len(starts)}" if len(starts) > 1 else "start", ", ".join(_start(start)))
        for number, start in enumerate(starts, 1)
    ]


def _start(start: dict) -> Iterator[str]:
    commit = start.get("commit")
    reason = start.get("no_commit")
    code = f"commit {commit}" if commit else f"no commit known{f' ({reason})' if reason else ''}"
    files = [*(start.get("changed") or {}), *(start.get("untracked") or {})]
    torch = (start.get("packages") or {}).get("torch")
    parts = [start.get("time"), code + (f" ({', '.join(files)})" if files else ""), start.get("device")]
    yield from filter(None, [*parts, f"torch {torch}" if torch else ""])


def machine_facts(start: dict) -> Facts:
    """Where a start ran, and the installed versions."""
    facts = [(key, in_words(start.get(key))) for key in ("python", "platform", "device", "cuda", "threads")]
    packages = start.get("packages") or {}
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    return [fact for fact in (*facts, ("packages", versions)) if fact[1]]


def in_words(value, counts: bool = False) -> str:
    """A value for a reader; empty if it is unknown. Args: counts, whether it is a number of things"""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if counts and isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)
