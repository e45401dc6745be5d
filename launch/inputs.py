"""What a run reads, as digests: two runs with equal config and equal inputs are one run.

The lists are made by the data set's own class, as the run will make them: with its seed, and before torch is
imported. A finished run can so be compared with what lies there now in a moment.
"""

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple

from clipfit import backbones
from clipfit.io.digests import Digests, list_digest
from clipfit.io.files import no_regular_file
from dassl.config.identity import experiment
from dassl.data.datasets import build_dataset
from dassl.data.datasets.paths import relative_paths
from dassl.run_folder import checkpoint_folders, find_checkpoint
from dassl.utils import seed_without_torch, set_random_seed

from .bare_errors import message_of
from .registered import FIRST_VERSION, class_fact, source_files

SAMPLED = 100  # one picture in so many counts by content where size and path are enough for the others
# What the images of a run do not depend on.
NOT_FOR_DATA = (
    *("DATALOADER.", "INPUT.", "LOSS.", "MODEL.", "OPTIM.", "TRAIN.", "TRAINER."),
    *("DATASET.PROMPT_TEMPLATE", "RUN.DATASET_FILE", "RUN.LOAD_EPOCH", "RUN.PROTOCOL", "RUN.SOURCE"),
)


class Inputs(NamedTuple):
    """What a run reads. Paths are relative and have forward slashes, as in fewshot.json."""

    digests: dict  # as read_inputs says: what a run writes down
    missing: list[str]  # for each entry that is None because something is not there, a line that says why
    train_files: dict[str, str]  # path -> digest of the training images that count by content
    paths: dict[
        str, list[str]
    ]  # "train", "val", "test" -> paths of its images in order, of lists that are read


def read_inputs(cfg, tensors: bool = False, memory: dict | None = None, without_data: str = "") -> Inputs:
    """Digests of all that the run of a resolved config reads.

    lists          {"train", "val", "test": {"images": number, "digest"}}: of lines "path, label, class name"
                   (between tabs, in order; paths as in fewshot.json); None for a list that is not read;
                   "train_u", unlabelled, only where there is one
    classes        of lines "label, class name" of all classes: the choice that the classifier has
    train_images   of lines "path, digest of the content", in order, and of lines as below beyond the
                   first ``RUN.DIGEST_GB``
    by_content     number of training images that count by content
    test_images    of lines "path, size", every hundredth with the digest of its content: the test images,
                   then the validation images that are no test images
    backbone       of the file; None for random weights
    model          of lines "registered name, digest of the checkpoint" of the model that a test loads
    model_tensors  of the tensors in these checkpoints (only if asked for, as it imports torch)
    init_weights   of the file MODEL.INIT_WEIGHTS; None without one
    trainer_version   the class attribute ``version``, read from the source; None for a class elsewhere
    code           file -> digest: the trainer's file, and the files in ``trainers/`` that it imports

    A run that trains nothing (``RUN.TEST_ONLY``) reads the images that it tests on and no others: test, or
    validation images (``TEST.SPLIT``). Which classes there are, it knows from the lists.

    Python's `random`, NumPy's generator, and torch's where torch is imported already, are seeded, as the run
    does before it makes its lists. What a data set prints goes to standard error: the run prints it again.

    Args: memory, a dict that calls for many runs share, so that what is equal for them is read once;
          without_data, why the data set is not to be read ("": it is)
    Returns: the digests (hex), None for what is not there, and why it is not
    """
    inputs = {
        "lists": {"train": None, "val": None, "test": None},
        **dict.fromkeys(("classes", "train_images", "by_content", "test_images", "backbone", "model")),
        **dict.fromkeys(("init_weights", "trainer_version")),
        "code": {},
    }
    missing = []
    memory = {} if memory is None else memory

    def add(what: str, read: Callable[[], dict]) -> None:
        try:
            inputs.update(read())
        except Exception as error:  # the run itself ends with this error, if it needs what is missing
            missing.append(f"{what}: {message_of(error)}")

    with Digests() as digests:
        if without_data:
            data = Inputs({}, [f"data set {cfg.DATASET.NAME}: {without_data}"], {}, {})
        else:
            key = data_key(cfg)
            if key not in memory:
                memory[key] = _read_data(cfg, digests)
            data = memory[key]
        inputs.update(data.digests)
        missing += data.missing
        add("backbone", lambda: {"backbone": backbones.weights_digest(cfg.MODEL.BACKBONE.NAME)})
        if cfg.MODEL.INIT_WEIGHTS:
            add("MODEL.INIT_WEIGHTS", lambda: {"init_weights": digests.of_file(cfg.MODEL.INIT_WEIGHTS)})
        if cfg.RUN.EVAL_ONLY and cfg.RUN.MODEL_DIR:
            add("tested model", lambda: _model(cfg, digests))
            if tensors:
                inputs["model_tensors"] = None
                add("tensors of the tested model", lambda: {"model_tensors": tested_tensors(cfg)})
        add("code", lambda: _code(cfg, digests))
    return Inputs(inputs, missing, data.train_files, data.paths)


def tested_tensors(cfg) -> str:
    """Digest of the tensors of the model that a test loads. Imports torch.

    Raises: FileNotFoundError, ValueError as the checkpoints' readers
    """
    from clipfit.io.checkpoints import tensors_digest

    return tensors_digest(model_files(cfg.RUN.MODEL_DIR, _epoch(cfg)))


def model_files(folder: str | os.PathLike, epoch: int | None = None) -> dict[str, Path]:
    """Registered name -> checkpoint that a test loads: of the epoch, else the best, else the newest one.

    Raises: FileNotFoundError if there is no model, or not of that epoch
    """
    folders = checkpoint_folders(folder)
    if not folders:
        raise FileNotFoundError(f"there is no checkpoint of a model in {folder}")
    return {name: find_checkpoint(path, epoch) for name, path in folders.items()}


def check_init_weights(cfg) -> None:
    """Raises: FileNotFoundError if MODEL.INIT_WEIGHTS is no file"""
    path = cfg.MODEL.INIT_WEIGHTS
    if path and not os.path.isfile(path):
        raise FileNotFoundError(
            f"MODEL.INIT_WEIGHTS: {path} {no_regular_file(path)}; give a checkpoint, or leave it out"
        )


def note_backbone(inputs: Inputs, cfg) -> None:
    """Add the digest of a backbone that was not known before torch was imported, and may be fetched now.

    Raises: as clipfit.backbones.fetch, if its weights cannot be had
    """
    name = cfg.MODEL.BACKBONE.NAME
    if inputs.digests["backbone"] is None and backbones.fetch(name):
        inputs.digests["backbone"] = backbones.weights_digest(name)
        inputs.missing[:] = [line for line in inputs.missing if not line.startswith("backbone: ")]


def note_tensors(digests: dict, cfg) -> None:
    """Add the digest of the tested model's tensors, where there is a model in files that we can read."""
    if digests["model"]:
        with suppress(OSError, ValueError):  # a trainer of another repository may load what we do not know
            digests["model_tensors"] = tested_tensors(cfg)


def data_key(cfg) -> tuple:
    """What decides the images of a run: two configs with equal keys read the same."""
    values = {**experiment(cfg), "RUN.DIGEST_GB": cfg.RUN.DIGEST_GB}
    values |= {"DATASET.ROOT": cfg.DATASET.ROOT, "DATASET.IMAGES": cfg.DATASET.IMAGES}
    values |= {"RUN.TEST_ONLY": cfg.RUN.TEST_ONLY}
    return tuple(
        sorted((key, repr(value)) for key, value in values.items() if not key.startswith(NOT_FOR_DATA))
    )


def _read_data(cfg, digests: Digests) -> Inputs:
    """The part of the inputs that is the data set's."""
    data, missing, found = _Data(cfg, digests), [], {}
    steps = {f"data set {cfg.DATASET.NAME}": data.lists}
    steps |= {"images trained on": data.train_images, "images tested on": data.test_images}
    for what, read in steps.items():
        try:
            found.update(read())
        except Exception as error:  # as in read_inputs
            missing.append(f"{what}: {message_of(error)}")
        if data.dataset is None:
            break
    paths = {name: paths for name, (_, paths) in {**data.trained, **data.tested}.items()}
    return Inputs(found, missing, data.train_files, paths)


class _Data:
    """The data set of a run and what its digests are made of."""

    def __init__(self, cfg, digests: Digests):
        self.cfg, self.digests = cfg, digests
        self.dataset = None
        self.trained, self.tested = {}, {}  # name of a list -> its images and their relative paths
        self.train_files = {}

    def lists(self) -> dict:
        self.dataset = dataset = build_lists(self.cfg)
        test = {"test": dataset.test, "val": dataset.val}
        if self.cfg.RUN.TEST_ONLY:
            split = "val" if self.cfg.TEST.SPLIT == "val" and dataset.val else "test"
            train, test = {}, {split: test[split]}
        else:
            train = {"train": dataset.train_x, "train_u": dataset.train_u}
        self.trained, self.tested = self._with_paths(train), self._with_paths(test)
        lists = dict.fromkeys(("train", "val", "test"))
        known = {}  # of ImageNet val and test are one list
        for name, (items, paths) in {**self.trained, **self.tested}.items():
            if id(items) not in known:
                lines = (
                    f"{path}\t{item.label}\t{item.classname}" for path, item in zip(paths, items, strict=True)
                )
                known[id(items)] = {"images": len(items), "digest": list_digest(lines)}
            lists[name] = known[id(items)]
        classes = (f"{label}\t{name}" for label, name in sorted(dataset.lab2cname.items()))
        return {"lists": lists, "classes": list_digest(classes)}

    def train_images(self) -> dict:
        if not self.trained:
            return {}
        items = [item for items, _ in self.trained.values() for item in items]
        paths = [path for _, paths in self.trained.values() for path in paths]
        left, count = self.cfg.RUN.DIGEST_GB * 1e9, 0
        for item in items:
            left -= os.stat(item.impath).st_size
            if left < 0:
                break
            count += 1
        contents = self.digests.of_files(item.impath for item in items[:count])
        self.train_files = dict(zip(paths[:count], contents, strict=True))
        lines = [f"{path}\t{digest}" for path, digest in zip(paths[:count], contents, strict=True)]
        lines += self._by_size(items[count:], paths[count:])
        return {"train_images": list_digest(lines), "by_content": count}

    def test_images(self) -> dict:
        lines, seen = [], set()
        for items, paths in self.tested.values():
            if id(items) not in seen:
                lines += self._by_size(items, paths)
                seen.add(id(items))
        return {"test_images": list_digest(lines)}

    def _with_paths(self, lists: dict) -> dict:
        known = {}
        for items in lists.values():
            if items and id(items) not in known:
                known[id(items)] = items, relative_paths(self.dataset, items, self.cfg.DATASET.ROOT)
        return {name: known[id(items)] for name, items in lists.items() if items}

    def _by_size(self, items, paths: list[str]) -> list[str]:
        items = list(items)
        contents = iter(self.digests.of_files(item.impath for item in items[::SAMPLED]))
        lines = []
        for number, (item, path) in enumerate(zip(items, paths, strict=True)):
            content = f"\t{next(contents)}" if number % SAMPLED == 0 else ""
            lines.append(f"{path}\t{os.stat(item.impath).st_size}{content}")
        return lines


def build_lists(cfg):
    """The data set, with the lists that the run will have: a foreign one may draw from global generators."""
    import datasets  # noqa: F401 - every file in the folder registers itself

    cfg = cfg.clone()
    cfg.defrost()
    cfg.VERBOSE = False
    seed = set_random_seed if "torch" in sys.modules else seed_without_torch
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed(cfg.SEED)
        return build_dataset(cfg)


def _epoch(cfg) -> int | None:
    return cfg.RUN.LOAD_EPOCH if cfg.RUN.LOAD_EPOCH >= 0 else None


def _model(cfg, digests: Digests) -> dict:
    files = model_files(cfg.RUN.MODEL_DIR, _epoch(cfg))
    return {"model": list_digest(f"{name}\t{digests.of_file(path)}" for name, path in files.items())}


def _code(cfg, digests: Digests) -> dict:
    files = source_files("trainers", cfg.TRAINER.NAME)
    version = class_fact("trainers", cfg.TRAINER.NAME, "version", FIRST_VERSION)
    return {
        "trainer_version": version if files else None,
        "code": {f"trainers/{path.name}": digests.of_file(path) for path in files},
    }
