"""Every kind of file that the program reads: how a good one is made, who reads it, and what is right of it.

An accepted file is right if what was read of it is what another reader finds in the same bytes, where these
are valid, or what the good file holds, where damage did not matter.
"""

import csv
import gzip
import hashlib
import io
import json
import math
import os
import posixpath
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn

from clipfit.architectures import build
from clipfit.io.checkpoints import load_safetensors
from clipfit.io.digests import DATABASE, Digests
from clipfit.io.pictures import FORMATS, image_size, read_image
from clipfit.modules import OpenAIModel
from clipfit.tokenizer import VOCABULARY_SIZE
from clipfit.weights import read_checkpoint
from dassl import run_folder
from dassl.config import get_cfg_default, load_yaml
from dassl.config.facts import Facts, read_facts
from dassl.data.datasets.base_dataset import check_files
from dassl.engine import resume
from dassl.engine.run_files import StepLog
from dassl.predictions import Predictions
from dassl.utils import list_digest, load_model_file, load_pretrained_weights
from datasets.listing import list_class_folders
from datasets.splits import is_made_here, note_path, read_image_list, read_lines, read_mat, read_split
from datasets.tools.archives import extract
from grid.failures import Failure
from parse_test_res import END_OF_TRAINING, read_run
from report.figures.definition import _drawn_from
from report.figures.training import read_record
from report.printed import read_print
from tests.fuzz import mutations

RUNS = Path(__file__).parents[1] / "fixtures/run_folders/v0.1"
TRAINED = RUNS / "base2new/train_base/demo/shots_16/CLIPFit/demo/seed1"
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kind:
    file: str  # its name where the reader looks for it
    make: Callable[[random.Random], bytes]  # a good file
    read: Callable[[Path], Any]  # the program's reader
    right: Callable[[bytes, Any, Any], bool]  # (content, what was read, what is read of the good file)
    mutations: tuple[mutations.Mutate, ...]
    inputs: int = 80


def same(one: Any, other: Any) -> bool:
    """Whether two values are of the same types and equal, tensors and NaN too."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        facts = [(value.dtype, value.shape, value.layout) for value in (one, other)]
        return facts[0] == facts[1] and one.layout == torch.strided and _bytes(one) == _bytes(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def equals(parse: Callable[[bytes], Any], valid: Callable[[Any], bool] = lambda value: True):
    """Right is what another reader finds in the bytes, if it is valid."""

    def right(content: bytes, found: Any, good: Any) -> bool:
        try:
            value = parse(content)
        except Exception:  # what the other reader cannot read is nothing to accept
            return False
        return same(found, value) and valid(value)

    return right


def as_good(content: bytes, found: Any, good: Any) -> bool:
    return same(found, good)


# Tensors --------------------------------------------------------------------------------------------


def saved(state: Any, new_format: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=new_format)
    return file.getvalue()


def checkpoint(rng: random.Random) -> bytes:
    generator = torch.Generator().manual_seed(rng.randrange(3))
    state = {"a.weight": torch.randn(4, 5, generator=generator), "a.count": torch.tensor(3)}
    optimizer = {
        "state": {0: {"momentum": torch.randn(4, 5, generator=generator)}},
        "param_groups": [{"lr": 0.1}],
    }
    return saved(
        {"state_dict": state, "epoch": 3, "optimizer": optimizer, "scheduler": None, "val_result": 61.5}
    )


def is_checkpoint(state: Any) -> bool:
    tensors = state["state_dict"].values()
    return (
        type(state["epoch"]) is int
        and state["epoch"] >= 0
        and all(isinstance(t, torch.Tensor) for t in tensors)
    )


def vouched_for(valid: Callable[[Any], bool]):
    """Right is what the good file holds, or what torch reads where all CRCs are right."""
    as_torch = equals(lambda content: torch.load(io.BytesIO(content), weights_only=True), valid)

    def right(content: bytes, found: Any, good: Any) -> bool:
        return same(found, good) or (_crcs_are_right(content) and as_torch(content, found, good))

    return right


def _crcs_are_right(content: bytes) -> bool:
    if not content.startswith(b"PK"):
        return True  # the format before torch 1.6 has none
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() is None
    except Exception:
        return False


def initial_weights(path: Path) -> dict:
    model = nn.Sequential()
    model.a = nn.Linear(5, 4, bias=False)
    nn.init.zeros_(model.a.weight)
    load_pretrained_weights(model, path)
    return dict(model.state_dict())


def of_the_file_or_untouched(content: bytes, found: Any, good: Any) -> bool:
    """Weights are those of the file, converted to the model's dtype, or as they were."""
    if same(found, good) or not found["a.weight"].any():
        return True
    state = torch.load(io.BytesIO(content), weights_only=True)
    state = state.get("state_dict", state)
    weight = next(state[name] for name in ("a.weight", "module.a.weight") if name in state)
    return _crcs_are_right(content) and same(found["a.weight"], weight.detach().to(torch.float32))


class SmallTrainer:
    """The parts of a trainer that a resume point is about."""

    def __init__(self):
        self._models = {"m": nn.Linear(3, 2)}
        self._optims = {"m": torch.optim.SGD(self._models["m"].parameters(), lr=0.1, momentum=0.9)}
        self._scheds = {"m": torch.optim.lr_scheduler.CosineAnnealingLR(self._optims["m"], 5)}
        self.scaler = self.recorder = self.inputs = None
        self.best_result, self.seconds_train, self.skipped_steps = 0.0, 1.5, 0
        self.device = torch.device("cpu")
        self.cfg = SimpleNamespace(MODEL=SimpleNamespace(MEMORY_GB=1.0))

    def model_state(self, name: str) -> dict:
        return self._models[name].state_dict()

    def load_model_state(self, name: str, state: dict) -> None:
        self._models[name].load_state_dict(state)

    def extra_state(self) -> dict:
        return {}

    def load_extra_state(self, state: dict) -> None:
        pass


@cache
def _resume_point() -> bytes:
    trainer = SmallTrainer()
    trainer._models["m"](torch.ones(1, 3)).sum().backward()
    trainer._optims["m"].step()
    with TemporaryDirectory() as folder:
        resume.save_resume_point(trainer, folder, 2, {"steps": 1, "passes": 1, "meters": {}})
        return Path(folder, "resume.pt").read_bytes()


def resumed(path: Path) -> dict:
    trainer = SmallTrainer()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        state = resume.read_resume_point(trainer, path.parent)
        resume.restore(trainer, state, path.parent)
    finally:
        random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])
    counts = {name: getattr(trainer, name) for name in ("best_result", "seconds_train", "skipped_steps")}
    return {"epoch": state["epoch"], "m": dict(trainer.model_state("m")), **counts}


def resume_parts(content: bytes) -> dict:
    state = torch.load(io.BytesIO(content), weights_only=True)
    weights = {name: value.detach().to(torch.float32) for name, value in state["models"]["m"].items()}
    counts = {name: state.get(name) for name in ("best_result", "seconds_train", "skipped_steps")}
    return {"epoch": state["epoch"], "m": weights, **counts}


def are_counts(found: dict) -> bool:
    return all(
        isinstance(value, (int, float, dict, NoneType)) and value is not True for value in found.values()
    )


def resumed_right(content: bytes, found: Any, good: Any) -> bool:
    return same(found, good) or (
        _crcs_are_right(content) and equals(resume_parts, are_counts)(content, found, good)
    )


@cache
def _backbone() -> bytes:
    width = {"vision_width": 64, "transformer_width": 64, "vision_layers": 1, "transformer_layers": 1}
    sizes = {
        "image_resolution": 32,
        "vision_patch_size": 16,
        "context_length": 77,
        "vocab_size": VOCABULARY_SIZE,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OpenAIModel(embed_dim=32, transformer_heads=1, **width, **sizes)
    state = model.state_dict()
    state["token_embedding.weight"][100:] = 0
    return mutations.repacked(saved(state))


def backbone_parts(content: bytes) -> dict:
    state = torch.load(io.BytesIO(content), weights_only=True)
    state = {name.removeprefix("module."): value for name, value in state.get("state_dict", state).items()}
    return {name: state[name].detach().to(torch.float32) for name in _backbone_names()}


@cache
def _backbone_names() -> tuple[str, ...]:
    return tuple(torch.load(io.BytesIO(_backbone()), weights_only=True))


def backbone_right(content: bytes, found: Any, good: Any) -> bool:
    finite = all(bool(tensor.isfinite().all()) for tensor in found.values())
    as_torch = equals(backbone_parts)
    return same(found, good) or (finite and _crcs_are_right(content) and as_torch(content, found, good))


# JSON and JSON Lines --------------------------------------------------------------------------------


def as_json(content: bytes) -> Any:
    return json.loads(content.decode("utf-8-sig"))


def as_json_lines(content: bytes, last_may_be_open: bool = True) -> list:
    *lines, last = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if last and not last_may_be_open:
        raise ValueError("the last line is cut off")
    return [json.loads(line.decode("utf-8-sig")) for line in (*lines, *([last] if last else []))]


def dumped(value: Any) -> bytes:
    return json.dumps(value, indent=4).encode()


SPLIT = {
    "train": [["cat/0.png", 0, "cat"], ["dog/0.png", 1, "dog"]],
    "val": [["cat/1.png", 0, "cat"]],
    "test": [["dog/sub/1.png", 1, "dog"]],
}


def split(path: Path) -> dict:
    folder = path.parent / "images"
    for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/sub/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    lists = read_split(str(path), str(folder))
    check_files("Fuzz", *lists, advice=f"see {path}")
    shown = (
        [[os.path.relpath(one.impath, folder), one.label, one.classname] for one in part] for part in lists
    )
    return dict(zip(("train", "val", "test"), shown, strict=True))


def is_split(found: dict) -> bool:
    labels = {name: {label for _, label, _ in items} for name, items in found.items()}
    names = {(label, name) for items in found.values() for _, label, name in items}
    return (
        labels["train"] == set(range(len(labels["train"])))
        and labels["train"] >= labels["val"] | labels["test"]
        and len(names) == len(labels["train"])
        and all(
            not path.startswith("..") and "\0" not in path for items in found.values() for path, _, _ in items
        )
    )


def as_split(content: bytes) -> dict:
    value = as_json(content)
    plain = lambda path: posixpath.normpath(path.replace("\\", "/"))  # noqa: E731
    return {part: [[plain(path), label, name] for path, label, name in value[part]] for part in SPLIT}


def image_list(content: bytes) -> list[str]:
    value = as_json(content)
    images = value["images"] if isinstance(value, dict) else value
    assert "digest" not in value or value["digest"] == list_digest(images)
    return [posixpath.normpath(image.replace("\\", "/")) for image in images]


def text_lines(content: bytes) -> list[str]:
    lines = (line.strip() for line in content.decode("utf-8-sig").split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def is_result(result: dict) -> bool:
    """Whether all numbers can be, and agree."""
    get = lambda key: result.get(key) if result.get(key) is not None else 0  # noqa: E731
    numbers = [get(key) for key in run_folder.LARGEST]
    if not all(type(number) in (int, float) and math.isfinite(number) and number >= 0 for number in numbers):
        return False
    known = all(result.get(key) is not None for key in ("total", "correct", "accuracy")) and result["total"]
    if known and abs(100 * result["correct"] / result["total"] - result["accuracy"]) > 0.011:
        return False
    return get("accuracy") <= 100.01 and get("correct") <= (result.get("total") or math.inf)


def predictions(path: Path) -> list:
    read = Predictions(path)
    return [read.classes, read.root, *(list(one) for one in read)]


def as_predictions(content: bytes) -> list:
    first, *lines = as_json_lines(content, last_may_be_open=False)
    return [
        first["classes"],
        first["root"],
        *([line[key] for key in ("image", "label", "top", "p")] for line in lines),
    ]


def are_predictions(value: list) -> bool:
    classes, _, *lines = value
    return all(
        all(type(id) is int and 0 <= id < len(classes) for id in (label, *top))
        and (p is None or (len(p) == len(top) and all(0 <= one <= 1 for one in p)))
        for _, label, top, p in lines
    )


PREDICTIONS = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"format": 1, "classes": ["cat", "dög", "emu"], "root": "/data/pets"},
        {"image": "cat/1.png", "label": 0, "top": [0, 2, 1], "p": [0.5, 0.25, 0.25]},
        {"image": "dog/1.png", "label": 1, "top": [2, 1, 0], "p": None},
        {"image": "emu/1.png", "label": 2, "top": [2, 1, 0], "p": [1.0, 0.0, 0.0]},
    )
)


def kept_steps(path: Path) -> bytes:
    log = StepLog(path)
    try:
        log.keep(2, 0)
    finally:
        log.close()
    return path.read_bytes()


def as_kept_steps(content: bytes) -> bytes:
    *whole, _ = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines = [line.decode() + "\n" for line in whole]
    places = [(step["epoch"], step.get("batch", 0)) for step in map(json.loads, lines)]
    assert all(type(epoch) is type(batch) is int for epoch, batch in places)
    return "".join(line for line, place in zip(lines, places, strict=True) if place <= (3, 0)).encode()


def record(rng: random.Random) -> bytes:
    lines = [{"epoch": 0, "names": ["m/a", "m/b"]}]
    lines += [{"epoch": 1, "batch": batch, "values": [0.5 * batch, 1e-9]} for batch in (1, 2, 3)]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def as_record(content: bytes) -> tuple:
    head, *rows = as_json_lines(content)
    return head["names"], [row["values"] for row in rows]


def is_record(value: tuple) -> bool:
    names, rows = value
    numbers = [number for row in rows for number in row]
    return (
        all(type(name) is str for name in names)
        and all(len(row) == len(names) for row in rows)
        and all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers)
    )


FAILURE = {"command": ["python", "train.py"], "error": "ValueError: it is wrong", "log": ["a", "b"]}


def failure(path: Path) -> dict:
    found = Failure.read(path.parents[2], path.stem)
    return {"command": found.command, "error": found.error, "log": found.log}


def is_failure(value: dict) -> bool:
    words = [*value["command"], value["error"], *value["log"]]
    return value.keys() == FAILURE.keys() and all(isinstance(word, str) for word in words)


def made_note(path: Path) -> bool:
    split_file = path.with_name("split.json")
    split_file.write_bytes(b"{}")
    assert Path(note_path(str(split_file))) == path
    return is_made_here(str(split_file))


def as_made_note(content: bytes) -> bool:
    value = as_json(content)
    return isinstance(value, dict) and value.get("sha256") == hashlib.sha256(b"{}").hexdigest()


def note_right(content: bytes, found: bool, good: bool) -> bool:
    return not found or equals(as_made_note)(content, found, good)


def listing(path: Path) -> dict:
    """What the class folders hold, listed with this file as what is remembered of them."""
    folder = path.parent / "classes"
    for name in ("cat/0.png", "dog/1.png", "dog/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return list_class_folders(str(folder), cache=str(path))


def remembered(rng: random.Random) -> bytes:
    body = json.dumps({name: [[1, 1], "0.png", ""] for name in ("cat", "dog")})
    head = {"format": 2, "sha256": hashlib.sha256(body.encode()).hexdigest()}
    return f"{json.dumps(head)}\n{body}".encode()


def digests(path: Path) -> str:
    """Digest of this file, which the database remembers."""
    with Digests(path.parent) as known:
        return known.of_file(__file__)


@cache
def _database() -> bytes:
    with TemporaryDirectory() as folder, mock.patch("clipfit.io.digests.SETTLED", -(1 << 62)):
        digests(Path(folder, DATABASE))
        return Path(folder, DATABASE).read_bytes()


# YAML and CSV ---------------------------------------------------------------------------------------


def as_yaml(content: bytes) -> Any:
    """As PyYAML's loader in Python reads it; ours is the one in C."""
    value = yaml.load(content.decode().lstrip("\ufeff"), Loader=yaml.SafeLoader)
    return {} if value is None else value


def as_layer(content: bytes) -> Any:
    value = as_yaml(content)
    return {key: one for key, one in value.items() if key != "_BASE_"}


def config(path: Path) -> dict:
    cfg = get_cfg_default()
    cfg.merge_from_file(path)
    return cfg


def config_right(content: bytes, found: Any, good: Any) -> bool:
    """Every key has the type of its default, and a value that the file gives."""
    default = get_cfg_default()
    given = as_layer(content)

    def fits(node: Any, defaults: Any, values: Any) -> bool:
        if isinstance(defaults, dict):
            values = values if isinstance(values, dict) else {}
            return all(fits(node[key], defaults[key], values.get(key, defaults[key])) for key in defaults)
        numeric = {type(node), type(defaults)} <= {int, float} or {type(node), type(defaults)} <= {
            list,
            tuple,
        }
        return type(node) is type(defaults) or numeric or None in (node, defaults)

    return isinstance(given, dict) and fits(found, default, given)


def facts(path: Path) -> dict:
    found = read_facts(path)
    return {key: getattr(found, key) for key in Facts.__dataclass_fields__ if key != "path"}


def as_facts(content: bytes) -> dict:
    given = as_layer(content)
    values = vars(Facts(**given)).copy()
    del values["path"]
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def printed(path: Path) -> dict:
    read_print.cache_clear()
    return {key: str(cell) for key, cell in read_print(path.parent, path.stem).cells.items()}


def printed_right(content: bytes, found: Any, good: Any) -> bool:
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    return len(found) <= 2 * len(rows) and all(None not in row and None not in row.values() for row in rows)


# Text -----------------------------------------------------------------------------------------------

LIST = b"# mine\ncat/0.png\ndog/0.png\n\n./dog/1.png\n"
LOG = b"Finish training\n=> result\n* total: 300\n* correct: 277\n* accuracy: 92.33%\n* macro_f1: 91.8%\n"


def logged(path: Path) -> float | None:
    return read_run(path.parent, "accuracy", END_OF_TRAINING)


def pointed(path: Path) -> str:
    """The checkpoint that the pointer names, after a start has put it in order."""
    for name in ("model.pth.tar-2", "model.pth.tar-10"):
        path.with_name(name).touch()
    run_folder.repair_pointer(path.parent)
    found = run_folder.pointed_at(path.parent)
    return found.name if found.parent == path.parent and found.is_file() else "no file"


# Archives -------------------------------------------------------------------------------------------

MEMBERS = {"images/a.txt": b"first" * 300, "images/b.txt": b"second", "list.json": b"{}" * 400}


def zipped(rng: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        archive.writestr(zipfile.ZipInfo("images/"), b"")
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(rng: random.Random) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=rng.choice((0, 1, 2))) as archive:
        for name, content in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(file.getvalue(), mtime=0) if rng.random() < 0.5 else file.getvalue()


def unpacked(path: Path) -> dict[str, bytes]:
    """Name -> content of what an archive leaves, anywhere around its target; a link is no content."""
    target = path.parent / "outer/target"
    extract(path, target)
    files = [file for file in path.parent.rglob("*") if file.is_symlink() or file.is_file()]
    return {
        file.relative_to(target).as_posix() if file.is_relative_to(target) else f"OUTSIDE/{file}": b"A LINK"
        if file.is_symlink()
        else file.read_bytes()
        for file in files
        if file != path
    }


def _plain(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def zip_right(content: bytes, found: Any, good: Any) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        expected = {
            _plain(info.filename): archive.read(info) for info in archive.infolist() if not info.is_dir()
        }
    return same(dict(sorted(found.items())), dict(sorted(expected.items())))


def tar_right(content: bytes, found: Any, good: Any) -> bool:
    """All of the good archive's files are there, or the archive is whole and these are its files."""
    if found == good:
        return True
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)  # checks its CRC
    expected, end = {}, 0
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            end = archive.offset
            inner = archive.extractfile(member) if not member.isdir() else None
            if inner is not None:
                expected[_plain(member.name)] = inner.read()
    return found == expected and content[end : end + 512] == bytes(512)


# Pictures -------------------------------------------------------------------------------------------

MODES = {
    "PNG": ("RGB", "RGBA", "P", "L", "I;16", "1", "LA"),
    "TIFF": ("RGB", "L", "I;16", "CMYK", "F"),
    "GIF": ("P",),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("RGB", "L", "1"),
    "BMP": ("RGB", "L", "1"),
}


def picture(rng: random.Random) -> bytes:
    format = rng.choice(sorted({*FORMATS} - {"MPO"} & {*Image.SAVE} if Image.init() or Image.SAVE else ()))
    mode = rng.choice(MODES.get(format, ("RGB",)))
    noise = np.random.default_rng(7).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    file = io.BytesIO()
    options = {"compression": rng.choice(("raw", "tiff_lzw", "tiff_deflate"))} if format == "TIFF" else {}
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(1, 9)
    options |= {"exif": exif} if format in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    image.save(file, format, **({"lossless": True} if format == "WEBP" else {}), **options)
    return file.getvalue()


def pixels(path: Path) -> tuple:
    """As trained on, and as it lies upright; their sizes as the header says."""
    plain, upright = read_image(path), read_image(path, upright=True)
    sizes = image_size(path), image_size(path, upright=True)
    return (
        plain.mode,
        plain.size,
        plain.tobytes(),
        upright.mode,
        sizes[1] == upright.size,
        sizes[0] == plain.size,
    )


def picture_right(content: bytes, found: Any, good: Any) -> bool:
    """What Pillow decodes; of greys with 16 bits the upper 8."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()  # a TIFF that lies on its side changes its size here
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.uint32) // 256).astype(np.uint8))
        image = image.convert("RGB")
    return found == ("RGB", image.size, image.tobytes(), "RGB", True, True)


# safetensors ----------------------------------------------------------------------------------------


def safetensors_file(rng: random.Random) -> bytes:
    from safetensors.torch import save

    numbers = torch.arange(rng.randrange(2, 40), dtype=torch.float32)
    return save({"a": numbers, "b.weight": numbers.half()[:2].reshape(2, 1)}, metadata={"format": "pt"})


def safetensors_right(content: bytes, found: Any, good: Any) -> bool:
    """The format written out: the length of the head, the head as JSON, the bytes of the tensors.

    It has no check sum, so what its head and bytes say is what it holds.
    """
    length = int.from_bytes(content[:8], "little")
    head, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    head.pop("__metadata__", None)
    if head.keys() != found.keys():
        return False
    for name, facts in head.items():
        first, last = facts["data_offsets"]
        if list(found[name].shape) != facts["shape"] or _bytes(found[name]) != data[first:last]:
            return False
    return True


# Annotations of MATLAB ------------------------------------------------------------------------------


@cache
def _mat() -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, {"labels": np.arange(12), "names": np.array(["a", "b"], dtype=object)})
    return file.getvalue()


def mat_right(content: bytes, found: Any, good: Any) -> bool:
    from scipy.io import loadmat

    value = loadmat(io.BytesIO(content), squeeze_me=True)["labels"]
    return same(found, value.reshape(-1).tolist())


# ----------------------------------------------------------------------------------------------------


def fixed(content: bytes) -> Callable[[random.Random], bytes]:
    return lambda rng: content


def one_of(*contents: bytes) -> Callable[[random.Random], bytes]:
    return lambda rng: rng.choice(contents)


def fixture(*paths: Path) -> Callable[[random.Random], bytes]:
    return lambda rng: rng.choice(paths).read_bytes()


def fewshot(rng: random.Random) -> bytes:
    images = ["cat/0.png", "dog/0.png"]
    return dumped(rng.choice((images, {"images": images}, {"images": images, "digest": list_digest(images)})))


def folder_of(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda path: read(path.parent)


STARTS = b"".join(
    json.dumps({"time": f"2031-01-0{n}", "packages": {"torch": "2"}}).encode() + b"\n" for n in (1, 2)
)
CONFIGS = [path for path in sorted(PROJECT.glob("configs/**/*.yaml")) if b"_BASE_" not in path.read_bytes()]
MERGED = (
    b"OPTIM: {LR: 0.002, MAX_EPOCH: 50, STEPSIZE: [1, 2]}\nDATASET:\n  NAME: Demo\n  NUM_SHOTS: 4\nSEED: 1\n"
)
JSON, JSON_LINES, YAML, TEXT = mutations.JSON, mutations.JSON_LINES, mutations.YAML, mutations.TEXT
is_dict = lambda value: isinstance(value, dict)  # noqa: E731

KINDS = {
    "checkpoint": Kind(
        "model.pth.tar-3", checkpoint, load_model_file, vouched_for(is_checkpoint), mutations.TENSORS, 200
    ),
    "checkpoint before torch 1.6": Kind(
        "model.pth.tar-3",
        lambda rng: saved(torch.load(io.BytesIO(checkpoint(rng))), new_format=False),
        load_model_file,
        vouched_for(is_checkpoint),
        mutations.BYTES,
        100,
    ),
    "safetensors": Kind(
        "model.safetensors", safetensors_file, load_safetensors, safetensors_right, mutations.BYTES, 100
    ),
    "initial weights": Kind(
        "init.pt", checkpoint, initial_weights, of_the_file_or_untouched, mutations.TENSORS, 80
    ),
    "resume point": Kind(
        "resume.pt", lambda rng: _resume_point(), resumed, resumed_right, mutations.TENSORS, 200
    ),
    "backbone": Kind(
        "clip.pt",
        lambda rng: _backbone(),
        lambda path: dict(build(read_checkpoint(path), path).state_dict()),
        backbone_right,
        mutations.TENSORS,
        150,
    ),
    "split": Kind("split.json", fixed(dumped(SPLIT)), split, equals(as_split, is_split), JSON, 150),
    "note of a split": Kind(
        "split.made.json",
        fixed(dumped({"seed": 1, "sha256": hashlib.sha256(b"{}").hexdigest()})),
        made_note,
        note_right,
        JSON,
    ),
    "few-shot list": Kind(
        "fewshot.json", fewshot, lambda path: read_image_list(str(path)), equals(image_list), JSON
    ),
    "list": Kind(
        "list.txt",
        fixed(LIST),
        lambda path: read_image_list(str(path)),
        equals(lambda content: [_plain(line) for line in text_lines(content)]),
        TEXT,
    ),
    "annotation lines": Kind(
        "images.txt", fixed(LIST), lambda path: read_lines(str(path)), equals(text_lines), TEXT
    ),
    "annotations of MATLAB": Kind(
        "labels.mat",
        lambda rng: _mat(),
        lambda path: read_mat(str(path), "labels").tolist(),
        mat_right,
        mutations.OUTSIDE,
    ),
    "configuration": Kind("own.yaml", fixture(*CONFIGS), load_yaml, equals(as_layer, is_dict), YAML, 150),
    "merged configuration": Kind("own.yaml", fixed(MERGED), config, config_right, YAML),
    "config.yaml": Kind(
        "config.yaml",
        fixture(TRAINED / "config.yaml"),
        folder_of(run_folder.read_config),
        equals(as_yaml, is_dict),
        YAML,
    ),
    "facts": Kind(
        "birds.yaml", fixture(*sorted(PROJECT.glob("datasets/*.yaml"))), facts, equals(as_facts), YAML, 120
    ),
    "result.json": Kind(
        "result.json",
        fixture(TRAINED / "result.json"),
        folder_of(run_folder.read_result),
        equals(as_json, is_result),
        JSON,
        150,
    ),
    "environment.json": Kind(
        "environment.json",
        fixture(TRAINED / "environment.json"),
        folder_of(run_folder.read_environment),
        equals(as_json, is_dict),
        JSON,
    ),
    "starts.jsonl": Kind(
        "starts.jsonl",
        fixed(STARTS),
        folder_of(run_folder.read_starts),
        equals(as_json_lines, lambda lines: all(map(is_dict, lines))),
        JSON_LINES,
        100,
    ),
    "predictions.jsonl": Kind(
        "predictions.jsonl",
        fixed(PREDICTIONS),
        predictions,
        equals(as_predictions, are_predictions),
        JSON_LINES,
        150,
    ),
    "predictions.jsonl.gz": Kind(
        "predictions.jsonl.gz",
        fixed(gzip.compress(PREDICTIONS, mtime=0)),
        predictions,
        equals(lambda content: as_predictions(gzip.decompress(content)), are_predictions),
        (*mutations.BYTES, *map(mutations.unpacked, JSON_LINES[::3])),
    ),
    "metrics.jsonl": Kind(
        "metrics.jsonl",
        fixture(TRAINED / "metrics.jsonl"),
        kept_steps,
        equals(as_kept_steps),
        JSON_LINES,
        100,
    ),
    "record": Kind("gradient.jsonl", record, read_record, equals(as_record, is_record), JSON_LINES),
    "failure": Kind(
        "out/grid/failed/seed1.json",
        fixed(dumped(FAILURE)),
        lambda path: failure(path),
        equals(as_json, is_failure),
        JSON,
    ),
    "drawn.json": Kind(
        "drawn.json",
        fixed(dumped({"figure1": "0" * 64})),
        folder_of(_drawn_from),
        lambda content, found, good: found == {} or equals(as_json, is_dict)(content, found, good),
        JSON,
    ),
    "log.txt": Kind(
        "log.txt",
        fixed(LOG),
        logged,
        lambda content, found, good: found is None or 0 <= found <= 100,
        TEXT,
    ),
    "pointer": Kind(
        "m/checkpoint",
        fixed(b"model.pth.tar-2\n"),
        pointed,
        lambda content, found, good: found != "no file",
        TEXT,
    ),
    "printed numbers": Kind(
        "table01.csv",
        fixture(*sorted(PROJECT.glob("paper/printed/table0*.csv"))),
        printed,
        printed_right,
        TEXT,
    ),
    "remembered listing": Kind("listing.jsonl", remembered, listing, as_good, JSON_LINES, 40),
    "remembered digests": Kind(DATABASE, lambda rng: _database(), digests, as_good, mutations.BYTES, 40),
    "zip archive": Kind("images.zip", zipped, unpacked, zip_right, mutations.ZIP, 200),
    "tar archive": Kind("images.tar", tarred, unpacked, tar_right, mutations.TAR, 200),
    "picture": Kind("a.png", picture, pixels, picture_right, mutations.BYTES, 300),
}
