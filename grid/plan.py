"""Wanted runs -> every run that must be there, with its folder, its state and its command.

A run is identified by its resolved config (without paths, workers and logging) and the ``version`` of its
trainer class. What lies in its folder is compared with that; equal digests of configs settle it, else their
keys do, where one that the folder's config.yaml does not know counts as its default:

done         the result is there, and everything that was to be recorded
unfinished   started, interrupted
stale        the folder holds another config, another version's result, a test of another model, or a training
             that did not record what it was to record
failed       its last start ended in an error
no data      its data set (or that of the training it tests) is not there
todo         nothing is there yet
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dassl.config.identity import changed_keys, digest, experiment
from dassl.run_folder import has_config, is_begun, read_config, read_result, unrecorded
from launch.arguments import parse_args
from launch.folder import run_folder
from launch.registered import FIRST_VERSION, class_source, explicit_name
from launch.resolve import (
    NO_RECIPE,
    TRANSFERS,
    has_recipe,
    resolve,
    settle_input_size,
    trainer_defaults,
)

from .failures import Failure
from .source import dataset_folder, trainer_version, trainers_with_runs
from .spec import Spec, arguments, project_file

DEFAULT_OUTPUT = "output"  # where train.py puts its folders by itself


@dataclass(eq=False)
class Planned:
    """One run with what is known about it."""

    spec: Spec
    name: str  # run folder relative to the output folder: identifies the run
    folder: Path
    output: Path  # folder of all runs
    needs: "Planned | None"  # the training run that a test loads
    command: list[str]  # ["python", "train.py", ...], works when pasted
    configs: dict[str, dict]  # digest -> experiment that is this run's: PREC auto becomes amp or fp32
    declared: dict[str, object]  # every declared key with its default
    version: int  # of the trainer class
    backbone: str
    threads: int  # CPU threads, as settled on this machine
    record: frozenset[str] = frozenset()  # what must be recorded in training (TRAIN.RECORD)
    missing_data: str = ""  # folder of images that is not there
    state: str = "todo"
    reason: str = ""  # of the state, for people
    note: str = ""  # on what it is, for people
    unregistered: bool = False  # no file of trainers/ registers its trainer any more: it can only be read
    damage: str = ""  # what is wrong with the files in its folder
    result: dict | None = field(default=None, repr=False)  # result.json while it is up to date

    def refresh(self) -> None:
        """Look again at what lies in the folder."""
        self.result, self.damage = None, ""
        self.state, self.reason = _judge(self)

    @property
    def digests(self) -> frozenset[str]:
        """A result of a config with one of these digests is this run's."""
        return frozenset(self.configs)

    @property
    def runnable(self) -> bool:
        """Whether there is something to do, and the images to do it with."""
        return self.state not in ("done", "no data") and not self.missing_data and not self.unregistered


def plan(
    wanted: Iterable[tuple[Spec, Iterable[str]]],
    output: str | Path,
    root: str,
    prec: str = "",
    threads: int = 0,
) -> dict[Spec, Planned]:
    """Every wanted run, and the training runs that wanted tests load, each before its tests.

    Args: wanted, specs with what is to be recorded in their training; root, folder of the data sets;
          prec, TRAINER.<NODE>.PREC of every run ("" or "auto": leave it); threads, CPU threads of every run
          (0: leave it)
    Returns: a run by every spec that asked for it: specs that lead to one folder share one run
    Raises: what launch.resolve.resolve raises for a spec that is no valid run
    """
    planner = _Planner(Path(output), root, prec, threads)
    for spec, record in wanted:
        planner.add(spec, frozenset(record))
    for planned in dict.fromkeys(planner.runs.values()):
        planner.finish(planned)
    return planner.runs


@dataclass(frozen=True)
class _Resolved:
    """What all seeds of a spec have in common."""

    parent: Path  # of the run folders
    values: dict[str, object]  # the experiment, with PREC auto unsettled
    declared: dict[str, object]  # every declared key with its default
    trained_by: str
    source: str
    threads: int


class _Planner:
    def __init__(self, output: Path, root: str, prec: str, threads: int):
        self.output, self.root, self.prec, self.threads = output, root, prec, threads
        self.runs: dict[Spec, Planned] = {}
        self._by_name: dict[str, Planned] = {}
        self._resolved: dict[Spec, _Resolved] = {}
        self._unregistered: dict[str, bool] = {}

    def add(self, spec: Spec, record: frozenset[str] = frozenset()) -> Planned:
        """The run of a spec, new or known; its training run comes first."""
        if spec not in self.runs:
            resolved = self._resolve(spec)
            needs = None
            if resolved.trained_by:
                source = resolved.source if spec.protocol in TRANSFERS else spec.dataset
                needs = self.add(spec.trained(resolved.trained_by, source))
            folder = resolved.parent / f"seed{spec.seed}"
            name = folder.relative_to(self.output).as_posix()
            planned = self._planned(spec, name, folder, resolved, needs)
            self.runs[spec] = self._by_name.setdefault(name, planned)
            if self.runs[spec].digests != planned.digests:
                raise ValueError(
                    f"{spec} and {self.runs[spec].spec} are different runs, but share the folder {folder}; "
                    "give their config files different names"
                )
        self.runs[spec].record |= record
        return self.runs[spec]

    def finish(self, planned: Planned) -> None:
        """Give it its command, now that all wishes are known, and its state."""
        planned.command = ["python", project_file("train.py"), *self._words(planned)]
        planned.refresh()

    def _resolve(self, spec: Spec) -> _Resolved:
        """Resolved once for all seeds: the seed decides its own key and the last part of the path."""
        family = replace(spec, seed=1)
        if family not in self._resolved:
            pairs = self._precision(spec.trainer)
            args = parse_args(arguments(family, self.root, pairs=pairs))
            run = resolve(args, unregistered=self._is_unregistered(spec.trainer))
            settle_input_size(run.cfg)
            self._resolved[family] = _Resolved(
                parent=run_folder(run, str(self.output)).parent,
                values=experiment(run.cfg),
                declared=run.declared,
                trained_by=run.trained_by,
                source=run.cfg.RUN.SOURCE,
                threads=run.cfg.THREADS,
            )
        return self._resolved[family]

    def _is_unregistered(self, trainer: str) -> bool:
        """Whether runs of a trainer are there and its file no longer is."""
        if trainer not in self._unregistered:
            gone = class_source("trainers", trainer) is None
            self._unregistered[trainer] = gone and trainer in trainers_with_runs(self.output)
        return self._unregistered[trainer]

    def _planned(self, spec, name, folder, resolved, needs) -> Planned:
        values = {**resolved.values, "SEED": spec.seed}
        return Planned(
            spec=spec,
            name=name,
            folder=folder,
            output=self.output,
            needs=needs,
            command=[],
            configs=_configs(values),
            declared=resolved.declared,
            version=trainer_version(values["TRAINER.NAME"]),
            backbone=values["MODEL.BACKBONE.NAME"],
            threads=self.threads or resolved.threads,
            missing_data=_missing_data(self.root, values["DATASET.NAME"])
            or (needs.missing_data if needs else ""),
            note="" if has_recipe(spec.trainer, spec.protocol) else NO_RECIPE,
            unregistered=self._is_unregistered(spec.trainer),
        )

    def _words(self, planned: Planned) -> list[str]:
        """Folders are spelled out only where train.py would not find them by itself."""
        elsewhere = self.output != Path(DEFAULT_OUTPUT)
        pairs = [*self._precision(planned.spec.trainer)]
        if planned.record:
            pairs += ["TRAIN.RECORD", str(sorted(planned.record))]
        if self.threads:
            pairs += ["THREADS", str(self.threads)]
        return arguments(
            planned.spec,
            self.root,
            output_dir=str(planned.folder) if elsewhere else "",
            model_dir=str(planned.needs.folder) if elsewhere and planned.needs else "",
            pairs=pairs,
        )

    def _precision(self, trainer: str) -> list[str]:
        if self.prec in ("", "auto"):
            return []
        return ["TRAINER." + _node_with_precision(trainer) + ".PREC", self.prec]


@functools.cache
def _node_with_precision(trainer: str) -> str:
    """The config node in which a trainer declares its precision."""
    name, declared = trainer_defaults(explicit_name("trainers", trainer))
    for node, keys in declared["TRAINER"].items():
        if isinstance(keys, dict) and "PREC" in keys:
            return node
    raise ValueError(f"{name} has no key PREC; leave the precision to it")


def _configs(values: dict[str, object]) -> dict[str, dict]:
    """By digest, the configs that PREC auto may become: amp where the run met a GPU, else fp32."""
    auto = [key for key in values if key.endswith(".PREC") and values[key] == "auto"]
    settled = ({**values, **dict.fromkeys(auto, precision)} for precision in ("amp", "fp32"))
    return {digest(config): config for config in settled}


def _missing_data(root: str, dataset: str) -> str:
    """The folder of images that a run would look for in vain; empty if it is there or will be drawn."""
    name = dataset_folder(dataset)
    if name is None:
        return ""
    folder = Path(root).expanduser() / name
    return "" if folder.is_dir() else str(folder)


# States ---------------------------------------------------------------------------------------------


def _judge(planned: Planned) -> tuple[str, str]:
    """State and its reason; takes the result into ``planned`` if it is up to date."""
    state, reason = _what_is_there(planned)
    if state in ("done", "stale"):
        return state, reason
    if planned.missing_data:
        return "no data", f"{planned.missing_data} is not there"
    if planned.needs and planned.needs.state == "failed":
        return "failed", f"its training run failed: {planned.needs.reason}"
    return state, reason


def _what_is_there(planned: Planned) -> tuple[str, str]:
    try:
        return _compare(planned)
    except (ValueError, FileNotFoundError) as error:  # files that are damaged, or nothing of ours
        planned.damage = str(error)
        return "stale", planned.damage


def _compare(planned: Planned) -> tuple[str, str]:
    """Raises: ValueError for a damaged file, FileNotFoundError for a run without config.yaml"""
    result = read_result(planned.folder)
    if planned.unregistered:
        planned.result = result
        return "todo" if result is None else "done", f"trainers/ registers no {planned.spec.trainer}"
    if result is not None:
        if changed := _changed(planned, result):
            return "stale", changed
        planned.result = result
    begun = is_begun(planned.folder)
    if result is None and begun and not _is_this_run(planned):
        return "stale", "begun with another config"
    if begun and (lacking := unrecorded(planned.folder, planned.record)):
        return "stale", f"{' and '.join(lacking)} not recorded"
    if result is not None:
        return "done", ""
    if failure := Failure.read(planned.output, planned.name):
        return "failed", failure.error
    return "unfinished" if begun else "todo", ""


def _changed(planned: Planned, result: dict) -> str:
    """Why a result is not this run's, empty if it is."""
    known = has_config(planned.folder)
    if result.get("config_digest") not in planned.digests and not (known and _is_this_run(planned)):
        return "its config has changed"
    version = result.get("trainer_version", FIRST_VERSION)
    if version != planned.version:
        return f"trainer version {version}, now {planned.version}"
    model = result.get("model_digest")
    if planned.needs and model and not _trained(planned.needs, model):
        return "it tested a model of another config"
    return ""


def _is_this_run(planned: Planned) -> bool:
    """Whether the folder's config.yaml is one of the run's configs. Raises: as :func:`_compare`"""
    config = read_config(planned.folder)
    return any(not changed_keys(config, one, planned.declared) for one in planned.configs.values())


def _trained(needs: Planned, model: str) -> bool:
    """Whether the tested model, given by the digest of its config, is of the training that a test needs."""
    return model in needs.digests or (needs.result or {}).get("config_digest") == model
