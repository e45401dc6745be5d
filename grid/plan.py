"""Wanted runs -> every run that must be there, with its folder, its state and its command.

A run is identified by its resolved config (without paths, workers and logging), its trainer's version and
what it reads (launch/compare.py). What lies in its folder is compared with that, for runs that have begun:

done         the result is there, and everything that was to be recorded
unfinished   started, interrupted
stale        the folder holds another experiment: another config, version, code, other images, another
             backbone or tested model; or a training that did not record what it was to record
failed       its last start ended in an error
no data      its data set (or that of the training it tests) is not there
todo         nothing is there yet

A result of a version that did not record its inputs, or whose data are not here to compare, is done with a
footnote.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dassl.config import CfgNode
from dassl.config.identity import digest, experiment
from dassl.run_folder import RESULT, is_begun, read_result, unrecorded
from launch.arguments import parse_args
from launch.compare import AUTO, NOT_RECORDED, Found
from launch.folder import folders_alike, run_folder
from launch.registered import class_source, explicit_name, is_drawn, protocols
from launch.resolve import NO_RECIPE, has_recipe, resolve, trainer_defaults

from .current import Current
from .failures import Failure
from .source import data_folder, trainers_with_runs
from .spec import Spec, arguments, project_file

DEFAULT_OUTPUT = "output"  # where train.py puts its folders by itself
NOT_COMPARED = "not compared with all that the run read: some of it is not here"
MOST_REASONS = 3  # shown of a stale run


@dataclass(eq=False)
class Planned:
    """One run with what is known about it."""

    spec: Spec
    name: str  # run folder relative to the output folder: identifies the run
    folder: Path
    output: Path  # folder of all runs
    needs: "Planned | None"  # the training run that a test loads
    command: list[str]  # ["python", "train.py", ...], works when pasted
    digests: frozenset[str]  # of the configs that are this run's: PREC auto becomes amp or fp32
    family: CfgNode = field(repr=False)  # the config, but for its seed and folders
    declared: dict[str, object] = field(repr=False)  # every declared key with its default
    current: Current = field(repr=False)
    backbone: str
    threads: int  # CPU threads, as settled on this machine
    record: frozenset[str] = frozenset()  # what must be recorded in training (TRAIN.RECORD)
    missing_data: str = ""  # folder of images that is not there
    state: str = "todo"
    reason: str = ""  # of the state, for people
    note: str = ""  # on what it is, for people
    remarks: tuple[str, ...] = ()  # on what is there, though it counts
    footnotes: tuple[str, ...] = ()  # of its number, wherever that is shown
    verify: bool = False  # a result of a version that did not record its inputs is to be made anew
    unregistered: str = ""  # whose file is gone, its trainer's or its data set's: it can only be read
    damage: str = ""  # what is wrong with the files in its folder
    result: dict | None = field(default=None, repr=False)  # result.json while it is up to date

    def refresh(self, anew: bool = False) -> None:
        """Look again at what lies in the folder. Args: anew, its data may have changed since the plan"""
        self.result, self.damage, self.remarks, self.footnotes = None, "", (), ()
        self.state, self.reason = _judge(self, anew)

    def config(self) -> CfgNode:
        """The config of its command, with PREC auto unsettled."""
        cfg = self.family.clone()
        cfg.SEED, cfg.OUTPUT_DIR = self.spec.seed, str(self.folder)
        cfg.RUN.MODEL_DIR = str(self.needs.folder) if self.needs else ""
        return cfg

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
    verify: bool = False,
    backbone: str = "",
    store: str = "",
) -> dict[Spec, Planned]:
    """Every wanted run, and the training runs that wanted tests load, each before its tests.

    Args: wanted, specs with what is to be recorded in their training; root, folder of the data sets;
          prec, TRAINER.<NODE>.PREC of every run ("" or "auto": leave it); threads, CPU threads of every run
          (0: leave it); verify, make results anew that do not say what their runs have read; backbone of
          every run ("": that of its data set); store, folder of image features that runs share ("": none)
    Returns: a run by every spec that asked for it: specs that lead to one folder share one run, and so do
             trainings that differ in the protocol's name only
    Raises: what launch.resolve.resolve raises for a spec that is no valid run
    """
    planner = _Planner(Path(output), root, prec, threads, verify, backbone, store)
    for spec, record in wanted:
        planner.add(spec, frozenset(record))
    for planned in dict.fromkeys(planner.runs.values()):
        planner.finish(planned)
    return planner.runs


@dataclass(frozen=True)
class _Resolved:
    """What all seeds of a spec have in common."""

    parents: dict[str, Path]  # of the run folders: protocol -> folder; its own, then those that train alike
    cfg: CfgNode
    values: dict[str, object]  # the experiment, with PREC auto unsettled
    declared: dict[str, object]  # every declared key with its default
    trained_by: str
    transfers: bool
    source: str
    threads: int
    gone: str  # whose file is gone, in words


class _Planner:
    def __init__(
        self, output: Path, root: str, prec: str, threads: int, verify: bool, backbone: str, store: str
    ):
        self.output, self.root, self.prec, self.threads = output, root, prec, threads
        self.verify, self.store, self.current = verify, store, Current(root)
        self.backbone = ["MODEL.BACKBONE.NAME", backbone] if backbone else []
        self.runs: dict[Spec, Planned] = {}
        self._by_name: dict[str, Planned] = {}
        self._resolved: dict[Spec, _Resolved] = {}
        self._unregistered: dict[str, bool] = {}

    def add(self, spec: Spec, record: frozenset[str] = frozenset()) -> Planned:
        """The run of a spec, new or known; its training run comes first."""
        if spec not in self.runs:
            resolved = self._resolve(spec)
            protocol = _protocol_of(resolved, f"seed{spec.seed}")
            if protocol != spec.protocol:
                self.runs[spec] = self.add(replace(spec, protocol=protocol), record)
                return self.runs[spec]
            needs = None
            if resolved.trained_by:
                source = resolved.source if resolved.transfers else spec.dataset
                needs = self.add(spec.trained(spec.trained_by or resolved.trained_by, source))
            folder = resolved.parents[protocol] / f"seed{spec.seed}"
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
            pairs = [*self._precision(spec.trainer), *self.backbone]
            args = parse_args(arguments(family, self.root, pairs=pairs))
            run = resolve(args, unregistered=self._is_unregistered(spec.trainer))
            if spec.eval_only:
                folders = {spec.protocol: run_folder(run, str(self.output))}
            else:
                folders = folders_alike(run, str(self.output))
            self._resolved[family] = _Resolved(
                parents={name: folder.parent for name, folder in folders.items()},
                cfg=run.cfg,
                values=experiment(run.cfg),
                declared=run.declared,
                trained_by=run.trained_by,
                transfers=run.protocol.transfers,
                source=run.cfg.RUN.SOURCE,
                threads=run.cfg.THREADS,
                gone=self._what_is_gone(spec.trainer, run.cfg.DATASET.NAME),
            )
        return self._resolved[family]

    def _is_unregistered(self, trainer: str) -> bool:
        """Whether runs of a trainer are there and its file no longer is."""
        if trainer not in self._unregistered:
            gone = class_source("trainers", trainer) is None
            self._unregistered[trainer] = gone and trainer in trainers_with_runs(self.output)
        return self._unregistered[trainer]

    def _what_is_gone(self, trainer: str, dataset: str) -> str:
        if self._is_unregistered(trainer):
            return f"trainers/ registers no {trainer}"
        return "" if class_source("datasets", dataset) else f"datasets/ registers no {dataset}"

    def _planned(self, spec, name, folder, resolved, needs) -> Planned:
        values = {**resolved.values, "SEED": spec.seed}
        return Planned(
            spec=spec,
            name=name,
            folder=folder,
            output=self.output,
            needs=needs,
            command=[],
            digests=_digests(values),
            family=resolved.cfg,
            declared=resolved.declared,
            current=self.current,
            backbone=values["MODEL.BACKBONE.NAME"],
            threads=self.threads or resolved.threads,
            missing_data=_missing_data(self.root, values["DATASET.NAME"])
            or (needs.missing_data if needs else ""),
            note="" if has_recipe(spec.trainer, spec.protocol) else NO_RECIPE,
            unregistered=resolved.gone,
            verify=self.verify,
        )

    def _words(self, planned: Planned) -> list[str]:
        """Folders are spelled out only where train.py would not find them by itself."""
        elsewhere = self.output != Path(DEFAULT_OUTPUT)
        told = elsewhere or planned.spec.trained_by
        pairs = [*self._precision(planned.spec.trainer), *self.backbone]
        if planned.record:
            pairs += ["TRAIN.RECORD", str(sorted(planned.record))]
        if self.threads:
            pairs += ["THREADS", str(self.threads)]
        if self.store:
            pairs += ["FEATURES.STORE", str(self.store)]
        return arguments(
            planned.spec,
            self.root,
            output_dir=str(planned.folder) if elsewhere else "",
            model_dir=str(planned.needs.folder) if planned.needs and told else "",
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


def _protocol_of(resolved: _Resolved, seed: str) -> str:
    """The protocol under which a run is done: of those that train alike one with a result, its own before
    others; where there is none, the first that is registered, so that all of them share one training.
    """
    own, *others = resolved.parents
    if not others:
        return own
    done = (name for name, parent in resolved.parents.items() if (parent / seed / RESULT).is_file())
    return next(done, None) or next(name for name in protocols() if name in resolved.parents)


def _digests(values: dict[str, object]) -> frozenset[str]:
    """Of the configs that PREC auto may become: amp where the run met a GPU, else fp32."""
    auto = [key for key in values if key.endswith(".PREC") and values[key] == "auto"]
    return frozenset(digest({**values, **dict.fromkeys(auto, precision)}) for precision in AUTO)


def _missing_data(root: str, dataset: str) -> str:
    """The folder of images that a run would look for in vain; empty if it is there or will be drawn."""
    folder = data_folder(dataset, root)
    return "" if folder is None or is_drawn(dataset) or folder.exists() else str(folder)


# States ---------------------------------------------------------------------------------------------


def _judge(planned: Planned, anew: bool) -> tuple[str, str]:
    """State and its reason; takes the result into ``planned`` if it is up to date."""
    state, reason = _what_is_there(planned, anew)
    needs = planned.needs
    if state == "done" and needs and needs.state == "stale" and needs.result is None:
        planned.result = None
        return "stale", f"its training run is stale: {needs.reason}"
    if state in ("done", "stale"):
        return state, reason
    if planned.missing_data:
        return "no data", f"{planned.missing_data} is not there"
    if needs and needs.state == "failed":
        return "failed", f"its training run failed: {needs.reason}"
    return state, reason


def _what_is_there(planned: Planned, anew: bool) -> tuple[str, str]:
    try:
        return _look(planned, anew)
    except (ValueError, FileNotFoundError) as error:  # files that are damaged, or nothing of ours
        planned.damage = str(error)
        return "stale", planned.damage


def _look(planned: Planned, anew: bool) -> tuple[str, str]:
    """Raises: ValueError for a damaged file, FileNotFoundError for a run without config.yaml"""
    result = read_result(planned.folder)
    if planned.unregistered:
        planned.result = result
        return "todo" if result is None else "done", planned.unregistered
    begun = result is not None or is_begun(planned.folder)
    if begun:
        found = planned.current.compare(planned.config(), planned.declared, anew)
        if changed := [*found.different, *_model_of_earlier_versions(planned, found)]:
            return "stale", _in_words(changed)
        _take(planned, found)
        if lacking := unrecorded(planned.folder, planned.record):
            return "stale", f"{' and '.join(lacking)} not recorded"
        if result is not None and planned.verify and not found.recorded:
            return "stale", f"{NOT_RECORDED}: to be verified"
    if result is not None:
        return "done", ""
    if failure := Failure.read(planned.output, planned.name):
        return "failed", failure.error
    return "unfinished" if begun else "todo", ""


def _take(planned: Planned, found: Found) -> None:
    """Take a result, and what is to be said of it, into ``planned``."""
    planned.result = found.result
    unknown = tuple(line.removeprefix("Note: ") for line in found.not_compared)
    if found.result is not None and not found.recorded:
        planned.footnotes, unknown = (NOT_RECORDED,), (NOT_RECORDED,)
    elif unknown:
        planned.footnotes = (NOT_COMPARED,)
    planned.remarks = (*unknown, *(line.removeprefix("Warning: ") for line in found.changed_code))


def _model_of_earlier_versions(planned: Planned, found: Found) -> list[str]:
    """Why a test that recorded only the config of the model it tested is not this run's."""
    model = (found.result or {}).get("model_digest")
    if found.recorded or not planned.needs or not model or _trained(planned.needs, model):
        return []
    return ["it tested a model of another config"]


def _trained(needs: Planned, model: str) -> bool:
    """Whether the tested model, given by the digest of its config, is of the training that a test needs."""
    return model in needs.digests or (needs.result or {}).get("config_digest") == model


def _in_words(changed: list[str]) -> str:
    """What differs, in one line."""
    more = len(changed) - MOST_REASONS
    shown = changed[:MOST_REASONS] + ([f"and {more} more"] if more > 0 else [])
    return "; ".join(" ".join(line.split()) for line in shown)
