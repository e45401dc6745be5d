"""clipfit predict: any number of pictures through a model, in their order and in constant memory."""

from __future__ import annotations

import argparse
import csv
import glob
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from clipfit.fit.arguments import add_backbone, add_fit
from clipfit.io.commands import PATH
from clipfit.io.files import atomic_write
from clipfit.io.pictures import is_picture

if TYPE_CHECKING:
    from clipfit.fit.model import Classified, Unreadable

COLUMNS = ("file_name", "label", "score", "label_2", "score_2")
UNSURE = "unsure"  # folder of --into for pictures below the threshold
DIGITS = 7  # of a probability


class Model(Protocol):
    """What predicts: a fit (clipfit/fit/model.py), or the trainer of a run."""

    classes: list[str]

    def predict_each(self, pictures: Iterable[str], top: int) -> Iterator[Classified | Unreadable]: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit(parser)
    parser.add_argument(
        "pictures",
        nargs="+",
        help="files, folders, patterns such as 'new/**/*.jpg'; - reads paths, one a line",
    )
    parser.add_argument("--csv", type=PATH, help=f"write {','.join(COLUMNS)}; - is standard output")
    parser.add_argument("--jsonl", type=PATH, help="write a JSON object per picture; - is standard output")
    parser.add_argument("--fiftyone", type=PATH, help="write FiftyOne's labels.json")
    parser.add_argument("--into", type=PATH, help="copy the pictures into a folder per class below this one")
    parser.add_argument("--top", type=int, default=2, help="classes named per picture (default 2)")
    parser.add_argument(
        "--threshold", type=float, default=0.0, help="probability under which no class is named (default 0)"
    )
    add_backbone(parser)
    parser.add_argument("--cuda", action="store_true", help="run on the GPU")


def check_arguments(args: argparse.Namespace) -> None:
    """Raises: ValueError naming the flag"""
    if args.top < 1:
        raise ValueError(f"--top is {args.top}; name at least one class")
    if not 0 <= args.threshold <= 1:
        raise ValueError(f"--threshold is {args.threshold}; give a probability from 0 to 1")
    if [args.csv, args.jsonl].count("-") > 1:
        raise ValueError("--csv and --jsonl both name standard output; give one of them a file")


def run(args: argparse.Namespace, model: Model) -> int:
    """Predict as the arguments say. Returns: the exit status, 1 if a picture could not be read"""
    unreadable = read = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(writer) for writer in _writers(args, model.classes)]
        for answer in model.predict_each(pictures(args.pictures), max(args.top, 2)):
            if not hasattr(answer, "classes"):
                unreadable += 1
                print(f"skipped: {answer.reason}", file=sys.stderr)
                continue
            read += 1
            for writer in writers:
                writer.add(answer)
        if not read and not unreadable:
            raise FileNotFoundError(f"no pictures in {', '.join(args.pictures)}")
    lost = f"; {unreadable:,} could not be read" if unreadable else ""
    print(f"{read:,} pictures{lost}", file=sys.stderr)
    return 1 if unreadable else 0


def pictures(sources: Sequence[str]) -> Iterator[str]:
    """The paths that the arguments mean, in their order; in folders by name, at any depth."""
    for source in sources:
        source = os.path.expanduser(source) if source != "-" else source
        if source == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        elif os.path.isdir(source):
            for folder, inner, names in os.walk(source):
                inner.sort()
                yield from (os.path.join(folder, name) for name in sorted(names) if is_picture(name))
        elif not os.path.exists(source) and glob.has_magic(source):
            yield from (path for path in sorted(glob.iglob(source, recursive=True)) if os.path.isfile(path))
        else:
            yield source  # one that is not there is reported like one that cannot be read


# Writers: a context each, with add(prediction) --------------------------------------------------------


def _writers(args: argparse.Namespace, classes: list[str]) -> list:
    wanted = [
        (args.csv, lambda path: CSV(path, args.threshold)),
        (args.jsonl, lambda path: JSONLines(path, args.threshold, args.top)),
        (args.fiftyone, lambda path: FiftyOne(path, args.threshold, classes)),
        (args.into, lambda path: Folders(path, args.threshold)),
    ]
    return [make(path) for path, make in wanted if path] or [Lines(args.threshold, args.top)]


class Writer:
    """The common part: a threshold, and an open file that appears when it is whole."""

    def __init__(self, path: str, threshold: float):
        self.path, self.threshold = path, threshold
        self._stack = ExitStack()

    def __enter__(self):
        if self.path == "-":
            self.file = sys.stdout
        else:
            Path(self.path).absolute().parent.mkdir(parents=True, exist_ok=True)
            self.file = self._stack.enter_context(atomic_write(self.path))
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def label(self, prediction: Classified) -> str:
        return prediction.label if prediction.score >= self.threshold else ""

    def name(self, prediction: Classified) -> str:
        """The picture's path as seen from the file that names it, where it lies below; else absolute."""
        path = os.path.abspath(prediction.picture)
        folder = os.getcwd() if self.path == "-" else os.path.dirname(os.path.abspath(self.path))
        below = os.path.relpath(path, folder)
        return path if below.startswith(os.pardir) else below


class CSV(Writer):
    """A list that train.py --images reads again, once it is corrected."""

    def __enter__(self):
        super().__enter__()
        self._rows = csv.writer(self.file, lineterminator="\n")
        self._rows.writerow(COLUMNS)
        return self

    def add(self, prediction: Classified) -> None:
        second = [prediction.classes[1], _rounded(prediction.p[1])] if len(prediction.p) > 1 else ["", ""]
        first = [self.label(prediction), _rounded(prediction.score)]
        self._rows.writerow([self.name(prediction), *first, *second])


class JSONLines(Writer):
    def __init__(self, path: str, threshold: float, top: int):
        super().__init__(path, threshold)
        self.top = top

    def add(self, prediction: Classified) -> None:
        line = {
            "file_name": self.name(prediction),
            "label": self.label(prediction) or None,
            "classes": prediction.classes[: self.top],
            "p": [_rounded(p) for p in prediction.p[: self.top]],
        }
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")


class FiftyOne(Writer):
    """FiftyOneImageClassificationDataset: {"classes": [...], "labels": {path without suffix: class id}}.

    Its pictures lie in `data`, beside the file, and paths start there.
    """

    def __init__(self, path: str, threshold: float, classes: list[str]):
        super().__init__(path, threshold)
        self._classes, self._first = classes, True

    def __enter__(self):
        super().__enter__()
        self.file.write(f'{{"classes": {json.dumps(self._classes, ensure_ascii=False)}, "labels": {{')
        return self

    def add(self, prediction: Classified) -> None:
        stem = os.path.splitext(self.name(prediction))[0].replace(os.sep, "/").removeprefix("data/")
        known = self.label(prediction)
        id = self._classes.index(known) if known else None
        self.file.write(
            f"{'' if self._first else ','}\n{json.dumps(stem, ensure_ascii=False)}: {json.dumps(id)}"
        )
        self._first = False

    def __exit__(self, *error):
        self.file.write("\n}}\n")
        return super().__exit__(*error)


class Folders(Writer):
    """Copies of the pictures, a folder per class. A name that is taken gets a number."""

    def __enter__(self):
        return self

    def add(self, prediction: Classified) -> None:
        folder = Path(self.path, _folder_name(self.label(prediction) or UNSURE))
        folder.mkdir(parents=True, exist_ok=True)
        stem, suffix = os.path.splitext(os.path.basename(prediction.picture))
        target, number = folder / f"{stem}{suffix}", 2
        while target.exists():
            target, number = folder / f"{stem}-{number}{suffix}", number + 1
        shutil.copy2(prediction.picture, target)


class Lines(Writer):
    """For people: a line per picture on standard output."""

    def __init__(self, threshold: float, top: int):
        super().__init__("-", threshold)
        self.top = top

    def add(self, prediction: Classified) -> None:
        shown = zip(prediction.classes[: self.top], prediction.p, strict=False)
        said = ", ".join(f"{name} {p:.1%}" for name, p in shown)
        print(f"{prediction.picture}: {'' if self.label(prediction) else 'unsure: '}{said}")


def _folder_name(label: str) -> str:
    """A class as the name of one folder."""
    return label.replace("/", "_").replace("\\", "_").strip(". ") or "_"


def _rounded(p: float) -> float:
    return float(f"{p:.{DIGITS}g}")
