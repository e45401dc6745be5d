"""predictions.jsonl: what the final test of a run said of every picture. Imports no torch.

First line   {"format": 1, "classes": ["banded", ...], "root": "/data/dtd/images"}
then a line per picture, in the order of the test
             {"image": "banded/a.jpg", "label": 3, "top": [5, 3, 9, 1, 0], "p": [0.41, 0.2, 0.1, 0.1, 0.05]}

`classes` are names by id. `image` is relative to `root`. `label` is the true class. `top` holds the ids of
the highest scores, best first: five, or all where there are fewer classes. `p` holds their probabilities,
the softmax of the logits in float32; it is null where a trainer's output is no logits. Above GZIP_ABOVE
pictures the file is predictions.jsonl.gz.
"""

import gzip
import heapq
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from statistics import NormalDist, fmean
from typing import IO, NamedTuple

from clipfit.io.files import atomic_write
from dassl.run_folder import (
    PREDICTIONS,
    PREDICTIONS_GZIP,
    RESULT,
    Folder,
    predictions_path,
    remove_predictions,
)

FORMAT = 1
TOP = 5  # classes of a picture that are kept
GZIP_ABOVE = 10_000  # pictures
ROUNDING = 1e-6  # of a percentage that is computed in two ways


class Prediction(NamedTuple):
    image: str  # path relative to the root
    label: int
    top: list[int]  # ids of the classes with the highest scores, best first
    p: list[float] | None  # their probabilities, None where the output is no logits

    @property
    def predicted(self) -> int:
        return self.top[0]

    @property
    def right(self) -> bool:
        return self.label == self.predicted


# Writing --------------------------------------------------------------------------------------------


@contextmanager
def writing(folder: Folder, classes: list[str], root: str, pictures: int) -> Iterator[Callable]:
    """Give a function that adds a Prediction. The file replaces an older one when the block ends well.

    Nothing is kept in memory. Args: pictures, about how many will come: many are compressed
    """
    compressed = pictures > GZIP_ABOVE
    name = PREDICTIONS_GZIP if compressed else PREDICTIONS
    with atomic_write(Path(folder, name), "wb") as file, _text(file, compressed) as text:

        def add(prediction: Prediction) -> None:
            text.write(json.dumps(prediction._asdict()) + "\n")

        text.write(json.dumps({"format": FORMAT, "classes": classes, "root": root}) + "\n")
        yield add
    remove_predictions(folder, but=name)


@contextmanager
def _text(file: IO[bytes], compressed: bool) -> Iterator[io.TextIOWrapper]:
    """Lines into an open binary file, which stays open. The same lines give the same bytes."""
    inner = gzip.GzipFile("", "wb", 6, file, mtime=0) if compressed else file
    text = io.TextIOWrapper(inner, encoding="utf-8", newline="\n")
    try:
        yield text
        text.flush()
    finally:
        text.detach()
        if compressed:
            inner.close()


# Reading --------------------------------------------------------------------------------------------


class Predictions:
    """The predictions of a run: `classes`, `root`, and every Prediction when iterated over.

    Raises, also while it is iterated over: ValueError with file and line for damage
    """

    def __init__(self, path: Folder):
        self.path = Path(path)
        _, first = next(self._lines(), (1, None))
        if not isinstance(first, dict) or not isinstance(first.get("format"), int):
            raise self._damage(1, f'the first line must be {{"format": {FORMAT}, "classes": [...], ...}}')
        if first["format"] > FORMAT:
            raise ValueError(
                f"{self.path} has format {first['format']}, the code here reads up to {FORMAT}: update it"
            )
        self.classes, self.root = first.get("classes"), first.get("root")
        if not _is_list_of(str, self.classes) or not isinstance(self.root, str):
            raise self._damage(1, "it must have classes (a list of names) and root (a folder)")

    def __iter__(self) -> Iterator[Prediction]:
        lines = self._lines()
        next(lines)
        for number, line in lines:
            yield self._prediction(number, line)

    def _prediction(self, number: int, line) -> Prediction:
        if not isinstance(line, dict) or not set(Prediction._fields) <= line.keys():
            raise self._damage(number, f"a picture's line has {', '.join(Prediction._fields)}")
        image, label, top, p = (line[name] for name in Prediction._fields)
        if not isinstance(image, str):
            raise self._damage(number, f"image is {image!r}; it must be a path")
        if not _is_list_of(int, top) or not top:
            raise self._damage(number, f"top is {top!r}; it must be a list of class ids")
        for id in (label, *top):
            if type(id) is not int or not 0 <= id < len(self.classes):
                raise self._damage(number, f"{id!r} is no id of the {len(self.classes)} classes")
        if p is not None and not (_is_list_of((int, float), p) and len(p) == len(top)):
            raise self._damage(number, f"p is {p!r}; it must be null or a number for each of {top}")
        if p is not None and not all(0 <= one <= 1 + ROUNDING for one in p):  # NaN is neither
            raise self._damage(number, f"p is {p!r}; a probability is a number from 0 to 1")
        return Prediction(image, label, top, p)

    def _lines(self) -> Iterator[tuple[int, object]]:
        """Number, from 1, and content of every line."""
        number = 0
        try:
            with self._open() as file:
                for line in file:
                    number += 1
                    if not line.endswith(b"\n"):
                        raise self._damage(number, "the line is cut off")
                    yield number, self._value(number, line)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._damage(number + 1, f"the compressed data end or are wrong here ({error})") from error

    def _value(self, number: int, line: bytes):
        try:
            return json.loads(line.decode("utf-8"))
        except json.JSONDecodeError as error:
            raise self._damage(number, f"it is not JSON ({error.msg})") from error
        except UnicodeDecodeError as error:
            raise self._damage(number, "it is not UTF-8 text") from error
        except (ValueError, RecursionError) as error:
            raise self._damage(number, "a number of thousands of digits, or groups without end") from error

    def _open(self) -> IO[bytes]:
        return (gzip.open if self.path.suffix == ".gz" else open)(self.path, "rb")

    def _damage(self, number: int, what: str) -> ValueError:
        return ValueError(
            f"{self.path}, line {number}: {what}; the file is damaged: restore it, or test the model "
            "in another folder"
        )


def read_predictions(folder: Folder) -> Predictions | None:
    """The predictions in a run folder; None if it has none. Raises: as Predictions"""
    path = predictions_path(folder)
    return Predictions(path) if path else None


def _is_list_of(kinds: type | tuple[type, ...], values) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, kinds) and not isinstance(value, bool) for value in values
    )


# Numbers --------------------------------------------------------------------------------------------


class ClassScore(NamedTuple):
    """A class that occurs among the labels."""

    label: int
    name: str
    images: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Percent."""
        return 100 * self.correct / self.images


Counts = Counter[tuple[int, int]]  # (true class, predicted class) -> pictures: the confusion matrix


def count_pairs(predictions: Predictions) -> Counts:
    """Raises: as Predictions"""
    return Counter((prediction.label, prediction.predicted) for prediction in predictions)


def class_scores(counts: Counts, classes: list[str]) -> list[ClassScore]:
    """A row per class that occurs among the labels, in their order."""
    images: Counter[int] = Counter()
    for (label, _), count in counts.items():
        images[label] += count
    return [ClassScore(n, classes[n], images[n], counts[n, n]) for n in sorted(images)]


def macro_f1(counts: Counts) -> float:
    """Mean over the classes that occur among the labels, in percent."""
    occurs: Counter[int] = Counter()  # as a label or as a prediction
    for (label, predicted), count in counts.items():
        occurs[label] += count
        occurs[predicted] += count
    labels = {label for label, _ in counts}
    return 100 * fmean(2 * counts[label, label] / occurs[label] for label in labels)


def most_confused(counts: Counts) -> list[tuple[tuple[int, int], int]]:
    """Pairs (true class, predicted class) that differ with their pictures, the most frequent first."""
    wrong = [(pair, count) for pair, count in counts.items() if pair[0] != pair[1]]
    return sorted(wrong, key=lambda item: (-item[1], item[0]))


def most_confident_errors(predictions: Predictions, most: int) -> list[Prediction]:
    """The pictures that were taken for another class, the most confident first; those without p come last.

    Raises: as Predictions
    """
    wrong = (prediction for prediction in predictions if not prediction.right)
    return heapq.nlargest(most, wrong, key=lambda one: one.p[0] if one.p else -1.0)


def wilson_interval(correct: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an accuracy, in percent. It is that of a sample: pictures drawn at random.

    Args:   total, at least 1
    Source: Wilson, Journal of the American Statistical Association 22, 1927
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = correct / total
    middle = share + z**2 / (2 * total)
    half = z * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low, high = ((middle + side) / (1 + z**2 / total) for side in (-half, half))
    return 100 * max(0.0, min(low, share)), 100 * min(1.0, max(high, share))  # whatever is rounded


def disagreement(counts: Counts, result: dict) -> str:
    """What the predictions of a run say otherwise than its result; empty if nothing."""
    ours = {
        "total": counts.total(),
        "correct": sum(count for (label, predicted), count in counts.items() if label == predicted),
        "macro_f1": macro_f1(counts) if counts else None,
    }
    other = [
        f"{name} is {value} in {PREDICTIONS}, {result[name]} in {RESULT}"
        for name, value in ours.items()
        if result.get(name) is not None and (value is None or abs(value - result[name]) > ROUNDING)
    ]
    return f"{'; '.join(other)}: the two are not of one test" if other else ""


def print_class_scores(scores: list[ClassScore]) -> None:
    """The family's block of TEST.PER_CLASS_RESULT."""
    print("=> per-class result")
    for score in scores:
        print(
            f"* class: {score.label} ({score.name})\ttotal: {score.images:,}\t"
            f"correct: {score.correct:,}\tacc: {score.accuracy:.2f}%"
        )
    print(f"* average: {fmean(score.accuracy for score in scores):.2f}%")
