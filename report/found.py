"""The base-to-new runs that lie in an output folder, whoever started them, as one table."""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from dassl.config.identity import experiment
from dassl.run_folder import is_begun, read_config, read_result
from grid.spec import Spec, arguments
from launch.arguments import parse_args
from launch.compare import AUTO
from launch.registered import data_sets, is_drawn, protocol
from launch.resolve import IN_THE_PATH, resolve
from report.definitions import Row
from report.model import Head, Table
from report.numbers import HM_OF, METRIC_HEADS, NOT_RUN, Line, Number, Numbers, Place, laid_out

PROTOCOL = "base2new"
ZERO_SHOT = "ZeroshotCLIP"
COST = ("params", "ms", "mb")  # of the training run
VARIANT = re.compile(r"(.+)-[0-9a-f]{8}")  # folder of a config with other settings (launch/folder.py)
# What a folder's path says, or follows from it, or what a test differs in from the training.
SAID = IN_THE_PATH | {"DATASET.SUBSAMPLE_CLASSES", "MODEL.BACKBONE.NAME", "INPUT.SIZE"}


def base_to_new(output: Path, dataset: str, shots: int, seeds: Iterable[int] = ()) -> Table:
    """Base, new, HM, its gain over zero-shot CLIP, and the cost, of every method and its variants.

    Args:   output, folder that train.py writes into; dataset, stem; seeds, default: all that are found
    Raises: FileNotFoundError if there is no run
    """
    stages = (protocol(PROTOCOL).stage(eval_only) for eval_only in (False, True))
    halves = [output / stage.place / dataset / f"shots_{shots}" for stage in stages]
    folders = (run for half in halves for run in sorted(half.glob("*/*/seed*")) if is_begun(run))
    numbered = (run for run in folders if run.name.removeprefix("seed").isdigit())
    runs = [run for run in numbered if not seeds or _seed(run) in seeds]
    if not runs:
        raise FileNotFoundError(
            f"no base-to-new runs of {dataset} with {shots} shots{' and these seeds' if seeds else ''} in "
            f"{output}; run scripts/<method>/base2new_train.sh and base2new_test.sh first"
        )
    methods = _methods(runs)
    seeds = tuple(sorted({_seed(run) for run in runs}))
    numbers = Numbers(_read(halves, runs, methods, dataset, shots, seeds))
    rest = Place(datasets=(dataset,), shots=shots, metric="hm")
    rows = [(Head(method.name), Place(method=method)) for method in methods]
    return Table(
        id=PROTOCOL,
        title=f"Base-to-new, {dataset}, {shots} shots",
        **laid_out(rows, _columns(methods), lambda place: numbers.cell(place.within(rest), seeds)),
        embedded=any(one.stem == dataset and is_drawn(one.name) for one in data_sets()),
        seeds=seeds,
        notes=(
            "Time is that of training, memory the most that training took: of the GPU, else of the process. "
            "Both compare only between runs on one machine that did nothing else.",
        ),
    )


def _columns(methods: list[Row]) -> list[Line]:
    """The gain is that of the HM over zero-shot CLIP, where that has a run."""
    columns = [(METRIC_HEADS[name], Place(metric=name)) for name in (*HM_OF, "hm", *COST)]
    if methods[0].trainer == ZERO_SHOT:
        columns.insert(3, (Head("gain", unit="points"), Place(metric="hm", over=methods[0])))
    return columns


def _read(halves, runs, methods, dataset: str, shots: int, seeds: tuple[int, ...]) -> Iterator[Number]:
    """The tidy list. Where the seed decides nothing, the first run of a method stands for all seeds."""
    for method, metric, seed in product(methods, (*HM_OF, *COST), seeds):
        place = Path(method.trainer, method.config)
        there = seed
        if method.settled:
            there = min(_seed(run) for run in runs if run.match(f"{place}/*"))
        run = halves[metric == "new"] / place / f"seed{there}"
        result, reason = None, "unfinished" if is_begun(run) else NOT_RUN
        try:
            result = read_result(run)
        except ValueError as error:
            reason = str(error)
        yield Number(method, dataset, shots, seed, metric).read(result, reason, str(run))


def _seed(run: Path) -> int:
    return int(run.name.removeprefix("seed"))


# Methods and their variants -------------------------------------------------------------------------


def _methods(runs: list[Path]) -> list[Row]:
    """A row for every method and config, zero-shot CLIP first; named by what tells them apart."""
    first = {(run.parents[1].name, run.parent.name): run for run in reversed(runs)}
    several = len({_plain(config) for _, config in first}) > 1
    rows = []
    for (trainer, config), run in first.items():
        plain = _plain(config)
        words = [trainer, plain] if several else [trainer]
        if plain != config:
            words.append(_settings(run, plain) or config)
        rows.append(Row(", ".join(words), trainer, config))
    return sorted(rows, key=lambda row: (row.trainer != ZERO_SHOT, row.name))


def _plain(config: str) -> str:
    match = VARIANT.fullmatch(config)
    return match[1] if match else config


def _settings(run: Path, plain: str) -> str:
    """ "BETA 2": what a variant sets otherwise than the plain config; "" if that cannot be told."""
    try:
        ours, others = experiment(read_config(run)), _plain_settings(run, plain)
    except (KeyError, ValueError, OSError):
        return ""
    changed = {
        key: value
        for key, value in ours.items()
        if key in others and value != others[key] and key not in SAID and not key.startswith("RUN.")
        if not (others[key] == "auto" and value in AUTO)
    }
    last = [key.split(".")[-1] for key in changed]
    names = [name if last.count(name) == 1 else key for name, key in zip(last, changed, strict=True)]
    values = (f"{value:g}" if isinstance(value, float) else str(value) for value in changed.values())
    return ", ".join(map(" ".join, zip(names, values, strict=True)))


def _plain_settings(run: Path, plain: str) -> dict[str, object]:
    """Those of a run beside it, else of the recipe."""
    for beside in sorted(run.parents[1].glob(f"{plain}/seed*")):
        return experiment(read_config(beside))
    *_, dataset, shots, trainer, _, _ = run.parts
    spec = Spec(trainer, PROTOCOL, dataset, int(shots.removeprefix("shots_")), seed=1)
    return experiment(resolve(parse_args(arguments(spec))).cfg)
