"""What a run folder holds beside what a run would do there: config, trainer's version, code, inputs.

One comparison for finished and unfinished runs, for ``--resume`` and for tests. It prints nothing and needs
no torch, but where the file of a tested model has changed: then its tensors decide.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clipfit import backbones
from clipfit.io.digests import list_digest
from dassl.config import flatten
from dassl.config.identity import differences, digest, experiment
from dassl.run_folder import (
    FEWSHOT,
    Folder,
    has_config,
    is_begun,
    read_config,
    read_environment,
    read_result,
)
from dassl.utils import read_json

from .bare_errors import message_of
from .inputs import Inputs, tested_tensors
from .registered import FIRST_VERSION, shipped_code

AUTO = ("amp", "fp32")  # what PREC auto may have become
FROM_THE_BACKBONE = tuple(
    f"INPUT.{key}" for key in ("SIZE", "PIXEL_MEAN", "PIXEL_STD", "INTERPOLATION", "RESIZE")
)  # where they are left empty
LISTS = {
    "train": "the training list",
    "train_u": "the list of unlabelled images",
    "val": "the validation list",
    "test": "the test list",
}
OLD_LISTS = {"train": "train_x", "val": "val", "test": "test"}  # as environment.json always had them
NOT_RECORDED = "finished, inputs not recorded"  # of a result that an earlier version has written


@dataclass
class Found:
    """What lies in a run folder."""

    result: dict | None = None  # of a finished run
    begun: bool = False  # something there took work to make
    recorded: bool = True  # the folder says what its run has read
    different: list[str] = field(default_factory=list)  # what makes it another run: a line each, both values
    changed_code: list[str] = field(default_factory=list)  # of a shipped method whose version is as before
    not_compared: list[str] = field(default_factory=list)  # what could not be, as it is not here
    elsewhere: str = ""  # under which other protocol its model was trained

    @property
    def notes(self) -> list[str]:
        """What the user should read, where nothing makes it another run."""
        return [*filter(None, [self.elsewhere]), *self.changed_code, *self.not_compared]

    @property
    def words(self) -> str:
        """Its state, as messages call it."""
        return "an unfinished run" if self.result is None else "a finished run"


def compare(
    folder: Folder,
    cfg,
    declared: dict,
    inputs: Inputs | None = None,
    apart: Iterable[str] = (),
    tensors: Callable[..., str] = tested_tensors,
) -> Found:
    """What lies in ``folder``, and how it differs from the run of a resolved config.

    Args:   declared, every declared key with its default (launch.resolve.Run); inputs of that run, None: do
            not compare them; apart, keys that may differ; tensors, how the digest of a tested model's tensors
            is made (cfg -> digest) where its file differs: the default imports torch
    Raises: ValueError naming a damaged file; FileNotFoundError for a begun run without config.yaml
    """
    result = read_result(folder)
    found = Found(result, begun=result is not None or is_begun(folder))
    if found.begun:
        return _compared(folder, cfg, declared, inputs, apart, found, tensors)
    return found


def compare_resumed(folder: Folder, cfg, declared: dict, inputs: Inputs | None) -> Found:
    """As :func:`compare`, for the run that ``--resume`` names: only ``OPTIM.MAX_EPOCH`` may differ."""
    found = Found(begun=True)
    if not has_config(folder):
        return found
    return _compared(folder, cfg, declared, inputs, ("OPTIM.MAX_EPOCH",), found)


def recorded_inputs(folder: Folder) -> dict | None:
    """Digests of what the run in a folder has read, None if it does not say."""
    return (read_result(folder) or {}).get("inputs") or read_environment(folder).get("inputs")


def _compared(folder, cfg, declared: dict, inputs, apart, found: Found, tensors=tested_tensors) -> Found:
    there = recorded_inputs(folder)
    found.recorded = there is not None
    changed = _changed_keys(folder, cfg, declared, apart, found)
    for key in apart:
        changed.pop(key, None)
    if inputs is not None:
        if there is None:
            there = _of_earlier_versions(folder, found.result)
        comparison = _Comparison(Path(folder), cfg, there, inputs, found, tensors)
        for key in comparison.known_by_content(changed):
            del changed[key]
        comparison.all(changed)
    found.different[:0] = [f"{key}: {old!r} there, {new!r} now" for key, (old, new) in changed.items()]
    return found


def _changed_keys(folder: Folder, cfg, declared: dict, apart, found: Found) -> dict[str, tuple]:
    """Keys of the config that differ, with both values. PREC auto, not settled yet, may be what is there."""
    values = experiment(cfg)
    auto = [key for key in values if key.endswith(".PREC") and values[key] == "auto"]
    by_folder = cfg.RUN.MODEL_DIR and "RUN.MODEL_DIR" not in apart
    if found.result is not None and not by_folder:  # equal digests settle it without reading YAML
        settled = ({**values, **dict.fromkeys(auto, precision)} for precision in AUTO)
        if found.result.get("config_digest") in map(digest, settled):
            return {}
    changed = differences(read_config(folder), cfg, declared)
    for key in auto:
        if key in changed and changed[key][0] in AUTO:
            del changed[key]
    return changed


def _of_earlier_versions(folder: Folder, result: dict | None) -> dict:
    """What a run that recorded no inputs says of them: its lists of paths, and its trainer's version."""
    known = {}
    if result is not None:
        known["trainer_version"] = result.get("trainer_version", FIRST_VERSION)
    lists = read_environment(folder).get("lists", {})
    known["path_lists"] = {name: lists[old] for name, old in OLD_LISTS.items() if lists.get(old)}
    return known


class _Comparison:
    """Adds to ``found`` what differs between the inputs that are recorded there and those of now."""

    def __init__(self, folder: Path, cfg, there: dict, inputs: Inputs, found: Found, tensors):
        self.folder, self.cfg, self.there, self.found = folder, cfg, there, found
        self.now, self.inputs = inputs.digests, inputs
        self.tensors = tensors

    @cached_property
    def fewshot(self) -> dict:
        """Which images the run there was trained on, one by one."""
        path = self.folder / FEWSHOT
        content = read_json(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise ValueError(f"{path} is damaged: it is no list of images; restore it or remove it")
        return content

    def known_by_content(self, changed: dict) -> list[str]:
        """Of the keys that differ, those whose files are compared by content: their paths do not matter."""
        contents = {
            "DATASET.FEWSHOT_LIST": self.cfg.RUN.TEST_ONLY or self._both_lists("train"),
            "MODEL.BACKBONE.NAME": self._both("backbone") and self._is_path(changed),
            "MODEL.INIT_WEIGHTS": self._both("init_weights"),
            "RUN.MODEL_DIR": self._both("model"),
        }
        known = [key for key, true in contents.items() if true and key in changed]
        # Not read yet from the backbone's file, which decides them.
        return known + [key for key in FROM_THE_BACKBONE if key in changed and not flatten(self.cfg)[key]]

    def all(self, changed: dict) -> None:
        """Compare everything; ``changed`` are the keys of the config that differ."""
        self._version()
        self._code()
        self._data()
        if "MODEL.BACKBONE.NAME" not in changed:
            self._file("backbone", "the backbone", self.cfg.MODEL.BACKBONE.NAME)
        if "MODEL.INIT_WEIGHTS" not in changed:
            self._file("init_weights", "MODEL.INIT_WEIGHTS", self.cfg.MODEL.INIT_WEIGHTS)
        if "RUN.MODEL_DIR" not in changed:
            self._model()
        if self.inputs.missing and self.found.result is not None:
            reasons = "; ".join(" ".join(line.split()) for line in self.inputs.missing)
            self.found.not_compared.append(f"Note: not compared with what is here: {reasons}")

    # Method

    def _version(self) -> None:
        there, now = self.there.get("trainer_version"), self.now["trainer_version"]
        if None not in (there, now) and there != now:
            self._differs(f"the version of {self.cfg.TRAINER.NAME}:", there, now)

    def _code(self) -> None:
        """A file of the user's is the method itself; ours have a version, which says what matters."""
        there, now = self.there.get("code"), self.now["code"]
        if not there or not now:
            return
        shipped = {f"trainers/{path.name}" for path in shipped_code()}
        files = [name for name in sorted(there.keys() | now.keys()) if there.get(name) != now.get(name)]
        for name in files:
            if name not in shipped:
                self._differs(f"{name}: sha256", short(there.get(name)), short(now.get(name)))
        ours = [name for name in files if name in shipped]
        if ours and self.there.get("trainer_version") == self.now["trainer_version"]:
            self.found.changed_code.append(
                f"Warning: {' and '.join(ours)} {'have' if len(ours) > 1 else 'has'} changed since, and the "
                f"version of {self.cfg.TRAINER.NAME} has not: if the change alters numbers, raise `version` "
                "of the class, or run anew with --redo"
            )

    # Data

    def _data(self) -> None:
        if self.now["classes"] is None:
            return  # the data set is not here
        same = {name: self._list(name) for name in LISTS}
        if same["train"] and same["train_u"]:
            self._train_images()
        if same["test"] and same["val"] and self._same_parts() and self._other("test_images"):
            self._differ("the test images, their sizes or contents:", "test_images")
        if all(same.values()) and self._other("classes"):
            self._differ("the classes, their names or labels:", "classes")

    def _list(self, name: str) -> bool:
        """Whether a list is the same; one that is not adds its line."""
        if "lists" not in self.there:
            return self._old_list(name)
        there, now = (side["lists"].get(name) for side in (self.there, self.now))
        if there == now or (now is None and self.cfg.RUN.TEST_ONLY):
            return True
        self.found.different.append(f"{LISTS[name]}: {self._of_list(name, there, now)}")
        return False

    def _same_parts(self) -> bool:
        """Whether the test images are of the same lists: earlier versions read more than a test needs."""
        parts = [
            {name for name in ("test", "val") if side.get("lists", {}).get(name)}
            for side in (self.there, self.now)
        ]
        return parts[0] == parts[1]

    def _old_list(self, name: str) -> bool:
        """As :meth:`_list`, where only the paths are recorded."""
        there, paths = self.there["path_lists"].get(name), self.inputs.paths.get(name)
        if there is None or paths is None:
            return True
        now = {"images": len(paths), "digest": list_digest(paths)}
        if there == now:
            return True
        self.found.different.append(f"{LISTS[name]}: {self._of_list(name, there, now)}")
        return False

    def _of_list(self, name: str, there: dict | None, now: dict | None) -> str:
        """How two lists differ."""
        if there is None or now is None:
            counts = ["none" if one is None else f"{one['images']:,} images" for one in (there, now)]
            return f"{counts[0]} there, {counts[1]} now"
        counts = f"{there['images']:,} images there, {now['images']:,} now"
        old, new = self.fewshot.get("images") if name == "train" else None, self.inputs.paths.get(name, [])
        if old and old == new:
            return f"{counts}, with other labels or class names"
        if old and sorted(old) == sorted(new):
            return f"{counts}, in another order"
        if old and there["images"] == now["images"]:
            pairs = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
            first = f"first {pairs[0][0]} there, {pairs[0][1]} now" if pairs else ""
            return f"{counts}; {len(pairs):,} of them differ, {first}"
        if there["images"] != now["images"]:
            return counts
        return (
            f"{counts}, but others, in another order or with other labels "
            f"(sha256 {short(there['digest'])} there, {short(now['digest'])} now)"
        )

    def _train_images(self) -> None:
        if not self._other("train_images"):
            return
        limit = read_config(self.folder).get("RUN", {}).get("DIGEST_GB", self.cfg.RUN.DIGEST_GB)
        if self.there.get("by_content") != self.now["by_content"] and limit != self.cfg.RUN.DIGEST_GB:
            self.found.not_compared.append(
                f"Note: the training images cannot be compared: RUN.DIGEST_GB was {limit} there and is "
                f"{self.cfg.RUN.DIGEST_GB} now; give RUN.DIGEST_GB {limit} to compare them"
            )
            return
        old, new = self.fewshot.get("files") or {}, self.inputs.train_files
        other = [path for path in new if path in old and old[path] != new[path]]
        if not other:
            self._differ("the training images:", "train_images")
            return
        first = f"sha256 {short(old[other[0]])} there, {short(new[other[0]])} now"
        self.found.different.append(
            f"the training images: {len(other):,} of {len(new):,} differ, first {other[0]}: {first}"
        )

    # Files

    def _file(self, key: str, what: str, path: str) -> None:
        if self._other(key):
            self._differ(f"{what} {path}:", key)

    def _model(self) -> None:
        """The tested model. If the files differ, the tensors in them decide."""
        if not self._other("model"):
            return
        folder = self.cfg.RUN.MODEL_DIR
        tensors = self.there.get("model_tensors")
        if tensors is None:
            self._differ(f"the model in {folder}, its checkpoint:", "model")
            return
        try:
            new = self.tensors(self.cfg)
        except (OSError, ValueError) as error:
            self.found.different.append(f"the model in {folder} cannot be read: {message_of(error)}")
            return
        if new != tensors:
            self.found.different.append(
                f"the model in {folder} was trained anew: its checkpoint and its tensors differ "
                f"(sha256 {short(tensors)} there, {short(new)} now)"
            )

    # Small helpers

    def _both(self, key: str) -> bool:
        return bool(self.there.get(key)) and bool(self.now.get(key))

    def _other(self, key: str) -> bool:
        """Whether both are known, and differ."""
        return self._both(key) and self.there[key] != self.now[key]

    def _both_lists(self, name: str) -> bool:
        if "lists" in self.there:
            return bool(self.there["lists"].get(name)) and bool(self.now["lists"][name])
        return name in self.there["path_lists"] and name in self.inputs.paths

    @staticmethod
    def _is_path(changed: dict) -> bool:
        """Whether one of two backbones is a file, and so known by its content rather than by its name."""
        return not all(backbones.is_name(name) for name in changed.get("MODEL.BACKBONE.NAME", ()))

    def _differ(self, what: str, key: str) -> None:
        self.found.different.append(
            f"{what} sha256 {short(self.there[key])} there, {short(self.now[key])} now"
        )

    def _differs(self, what: str, there, now) -> None:
        self.found.different.append(f"{what} {there} there, {now} now")


def short(digest: str | None) -> str:
    """The beginning of a digest, for people."""
    return f"{digest[:12]}..." if digest else "none"
