"""The page of one finished run: report.html in its folder, one file that needs no network.

It shows what `python -m report.run` prints, and the wrong pictures themselves. What would make it long is
cut, and the page says what it leaves out: it stays small with any number of classes and pictures.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipfit.io.files import atomic_write
from dassl.predictions import (
    ClassScore,
    Counts,
    Prediction,
    Predictions,
    class_scores,
    count_pairs,
    disagreement,
    most_confident_errors,
    most_confused,
    read_predictions,
    wilson_interval,
)
from dassl.run_folder import (
    PAGE,
    PREDICTIONS,
    RESULT,
    Folder,
    has_config,
    read_command,
    read_config,
    read_result,
    read_starts,
)
from launch.registered import is_drawn
from report.pages import render
from report.pages.facts import (
    COST_FACTS,
    input_facts,
    machine_facts,
    result_facts,
    settings,
    start_facts,
)
from report.pages.learning import MOST_CURVES, curves, draw, read_steps
from report.pages.thumbnails import thumbnail
from report.pages.usage import command_to_test_again, uses

SHOWN = ("accuracy", "total", "correct", "macro_f1", "model_dir")  # of a result, beside its facts
MATRIX_UP_TO = 20  # classes; of more, the pairs that are confused most
PAIRS = 20  # of those
CLASSES = 1000  # rows of the table of classes; of more, the weakest
PRINTED_CLASSES = 100  # of them on paper
WRONG = 60  # pictures
FIRST_WRONG = 12  # of them, that are unfolded and printed


@dataclass(frozen=True)
class ClassRow:
    """A class as the table shows it."""

    score: ClassScore
    interval: tuple[float, float]  # percent
    taken_for: str  # the class that its pictures are most often taken for, if not for itself
    times: int  # how often; 0: never for another one


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix: true classes in rows, predicted ones in columns."""

    columns: tuple[int, ...]
    rows: tuple[tuple[int, tuple[int, ...]], ...]  # true class, pictures by column

    def share(self, row: tuple[int, ...], count: int) -> str:
        """Of the pictures of a row."""
        return f"{count / sum(row):.2f}"


@dataclass(frozen=True)
class WrongPicture:
    """A picture that was taken for another class."""

    image: str
    label: str
    predicted: str
    p_label: str  # both in words; empty where the output is no logits
    p_predicted: str
    thumbnail: str = ""
    absence: str = ""  # why there is no thumbnail


@dataclass(frozen=True)
class Tested:
    """What the predictions of a run say of classes and pictures."""

    classes: list[str]
    root: str
    warning: str
    rows: list[ClassRow]  # the weakest first
    matrix: Matrix | None  # None: too many classes
    pairs: list[tuple[str, str, int]]
    confused: int  # pairs of classes
    wrong: list[WrongPicture]
    errors: int  # pictures
    classes_left_out: int


def leave_page(folder: Folder) -> None:
    """Write the page of a finished run into its folder, and say so. The run does not fail with it."""
    try:
        print(f"The page of this run is {write_page(folder)}")
    except (ValueError, OSError) as error:
        print(f"No page of this run: {error}")


def write_page(folder: Folder, path: Path | None = None) -> Path:
    """Write the page of a finished run. Returns: its path, by default report.html in the run folder

    Raises: FileNotFoundError if there is no finished run; ValueError for a damaged file; OSError
    """
    path = path or Path(folder, PAGE)
    text = page(Path(folder))
    with atomic_write(path, "wb") as file:  # a file name may hold what is no text
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def page(folder: Path) -> str:
    """The page as text. Raises: as `write_page`"""
    result = read_result(folder)
    if result is None:
        raise FileNotFoundError(f"{folder} holds no finished run: there is no {RESULT}")
    config = read_config(folder) if has_config(folder) else {}
    predictions = read_predictions(folder) if result["accuracy"] is not None else None
    starts = read_starts(folder)
    lines, what = curves(read_steps(folder))
    return render(
        "of_run.html",
        title=_title(result),
        result={key: result.get(key) for key in SHOWN},
        interval=_interval(result),
        embedded=is_drawn(result.get("dataset") or ""),
        tested=read_tested(predictions, result) if predictions else None,
        predictions_file=PREDICTIONS,
        cure=command_to_test_again(folder),
        drawings=[draw(line) for line in lines[:MOST_CURVES]],
        curves_left_out=[line.name for line in lines[MOST_CURVES:]],
        point=what,
        facts=result_facts(result),
        cost=result_facts(result, COST_FACTS),
        settings=settings(config, result),
        inputs=input_facts(result.get("inputs") or {}),
        starts=start_facts(starts),
        machine=machine_facts(starts[-1]) if starts else [],
        command=read_command(folder) or "",
        folder=str(folder),
        uses=list(uses(folder)),
        first_wrong=FIRST_WRONG,
        printed_classes=PRINTED_CLASSES,
    )


def _title(result: dict) -> str:
    named = [result.get("trainer") or "A run", result.get("dataset")]
    return " on ".join(filter(None, named))


def _interval(result: dict) -> tuple[float, float] | None:
    """Of the accuracy; None if nothing was counted."""
    correct, total = result.get("correct"), result.get("total")
    return wilson_interval(correct, total) if total and correct is not None else None


# What was tested ------------------------------------------------------------------------------------


def read_tested(predictions: Predictions, result: dict) -> Tested:
    """Raises: as Predictions"""
    counts = count_pairs(predictions)
    names = predictions.classes
    rows = class_rows(counts, names)
    confused = most_confused(counts)
    return Tested(
        classes=names,
        root=predictions.root,
        warning=disagreement(counts, result),
        rows=rows[:CLASSES],
        matrix=matrix(counts),
        pairs=[(names[label], names[said], count) for (label, said), count in confused[:PAIRS]],
        confused=len(confused),
        wrong=[_wrong_picture(one, predictions) for one in most_confident_errors(predictions, WRONG)],
        errors=sum(count for _, count in confused),
        classes_left_out=len(rows[CLASSES:]),
    )


def class_rows(counts: Counts, classes: Sequence[str]) -> list[ClassRow]:
    """Every class that was tested, the weakest first."""
    taken: dict[int, Counter[int]] = {}
    for (label, said), count in counts.items():
        if label != said:
            taken.setdefault(label, Counter())[said] = count
    rows = []
    for score in class_scores(counts, list(classes)):
        others = taken.get(score.label)
        said, times = min(others.items(), key=lambda one: (-one[1], one[0])) if others else (0, 0)
        interval = wilson_interval(score.correct, score.images)
        rows.append(ClassRow(score, interval, classes[said] if times else "", times))
    return sorted(rows, key=lambda row: (row.score.accuracy, -row.score.images, row.score.label))


def matrix(counts: Counts) -> Matrix | None:
    """The confusion matrix over the classes that occur; None of more than MATRIX_UP_TO."""
    columns = tuple(sorted({id for pair in counts for id in pair}))
    if len(columns) > MATRIX_UP_TO:
        return None
    labels = sorted({label for label, _ in counts})
    return Matrix(columns, tuple((label, tuple(counts[label, said] for said in columns)) for label in labels))


def _wrong_picture(one: Prediction, predictions: Predictions) -> WrongPicture:
    path = Path(predictions.root, one.image)
    small, absence = "", ""
    try:
        small = thumbnail(path)
    except FileNotFoundError:
        absence = "the picture is gone"
    except (OSError, ValueError):
        absence = "the picture cannot be read"
    return WrongPicture(
        image=one.image,
        label=predictions.classes[one.label],
        predicted=predictions.classes[one.predicted],
        p_label=_of_label(one),
        p_predicted=percent(one.p[0]) if one.p else "",
        thumbnail=small,
        absence=absence,
    )


def _of_label(one: Prediction) -> str:
    """The probability of the given label; it is at most that of the last class which the predictions hold."""
    if one.p is None:
        return ""
    if one.label in one.top:
        return percent(one.p[one.top.index(one.label)])
    return percent(one.p[-1]) if one.p[-1] < 0.0005 else f"at most {percent(one.p[-1])}"


def percent(p: float) -> str:
    """A probability in percent; what would read as 0 or 100 without being it is said as a bound."""
    if 0 < p < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= p < 1 else f"{100 * p:.1f} %"
