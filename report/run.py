"""One finished run: its result and what produced it, every class, what was confused, the wrong images.

It is printed, and written as a page for a browser: report.html in the run folder.

python -m report.run output/few_shot/dtd/shots_16/CLIPFit/vit_b16/seed1 --wrong 50 --csv classes.csv

The numbers of classes and images come from the run's predictions, and are checked against its result.
"""

import csv
import sys
from pathlib import Path

from tabulate import tabulate

from clipfit.io.commands import PATH, Parser
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
)
from dassl.run_folder import PAGE, PREDICTIONS, RESULT, read_command, read_result, read_starts
from launch.finished import print_result
from report.pages.facts import result_facts, start_facts
from report.pages.of_run import write_page
from report.pages.usage import command_to_test_again

MATRIX_UP_TO = 20  # classes; of more, the pairs that are confused most
PAIRS = 20  # of those
WRONG = 20  # images, unless --wrong says how many


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m report.run", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=PATH, help="run folder")
    parser.add_argument("--wrong", type=int, default=WRONG, metavar="N", help="wrong images to show")
    parser.add_argument("--csv", type=PATH, metavar="FILE", help="write the table of classes to FILE")
    parser.add_argument("--page", type=PATH, metavar="FILE", help=f"where the page goes; default: RUN/{PAGE}")
    args = parser.parse_args(argv)
    sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what a terminal cannot show
    try:
        show(Path(args.run), args.wrong, Path(args.csv) if args.csv else None)
        page = write_page(Path(args.run), Path(args.page) if args.page else None)
        print(f"\nThe page of this run is {page}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def show(folder: Path, wrong: int = WRONG, csv_file: Path | None = None) -> None:
    """Print everything that a run folder says about its result.

    Raises: FileNotFoundError if there is no finished run; ValueError for a damaged file
    """
    result = read_result(folder)
    if result is None:
        raise FileNotFoundError(f"{folder} holds no finished run: there is no {RESULT}")
    print(folder)
    print_result(result)
    print(_produced_by(folder, result))
    if result["accuracy"] is None:
        return
    predictions = read_predictions(folder)
    if predictions is None:
        print(f"\nThis run left no {PREDICTIONS}, so it cannot tell of classes and images. {_cure(folder)}")
        return
    counts = count_pairs(predictions)
    if warning := disagreement(counts, result):
        print(f"\nWarning: {warning}")
    scores = class_scores(counts, predictions.classes)
    print(f"\nClasses\n{_class_table(scores)}")
    print(f"\n{_confusions(counts, predictions.classes)}")
    print(f"\n{_wrong_images(predictions, counts, wrong)}")
    if csv_file is not None:
        _write_csv(scores, csv_file)
        print(f"\nThe table of classes is in {csv_file}")


def _produced_by(folder: Path, result: dict) -> str:
    facts = result_facts(result)
    if command := read_command(folder):
        facts.append(("command", command))
    return tabulate([*facts, *start_facts(read_starts(folder))], tablefmt="plain", disable_numparse=True)


def _cure(folder: Path) -> str:
    """The command that makes predictions of a run that has none."""
    command = command_to_test_again(folder)
    if not command:
        return "Run it again in another folder."
    return f"This tests its model in another folder:\n  {command}"


# Classes, confusions, images ------------------------------------------------------------------------


def _table(rows: list, heads: tuple[str, ...], words: int) -> str:
    """A table whose first columns are words and whose others are numbers."""
    sides = ["left"] * words + ["right"] * (len(heads) - words)
    return tabulate(rows, heads, colalign=sides if rows else None, disable_numparse=True)


def _class_table(scores: list[ClassScore]) -> str:
    rows = [
        (score.label, score.name, f"{score.images:,}", f"{score.correct:,}", f"{score.accuracy:.2f}")
        for score in scores
    ]
    return _table(rows, ("id", "class", "images", "correct", "accuracy %"), words=2)


def _confusions(counts: Counts, classes: list[str]) -> str:
    """The confusion matrix; of many classes the pairs that are confused most."""
    labels = sorted({label for label, _ in counts})
    columns = sorted({id for pair in counts for id in pair})
    if len(columns) <= MATRIX_UP_TO:
        rows = [(row, classes[row], *(counts[row, column] or "." for column in columns)) for row in labels]
        heads = ("id", "true class", *map(str, columns))
        return f"Confusion matrix: images by true class (rows) and predicted class\n{_table(rows, heads, 2)}"
    most = most_confused(counts)
    rows = [(classes[label], classes[predicted], count) for (label, predicted), count in most[:PAIRS]]
    title = f"Most confused of {len(most):,} pairs of classes"
    return f"{title}\n{_table(rows, ('true class', 'predicted', 'images'), 2)}"


def _wrong_images(predictions: Predictions, counts: Counts, most: int) -> str:
    """The images that were taken for another class, the most confident first."""
    total = sum(count for (label, predicted), count in counts.items() if label != predicted)
    shown = most_confident_errors(predictions, most)
    if not shown:
        return f"{total:,} wrong images"
    rows = [
        (
            one.image,
            predictions.classes[one.label],
            predictions.classes[one.predicted],
            f"{one.p[0]:.4f}" if one.p else "",
            _probability_of_truth(one),
        )
        for one in shown
    ]
    title = f"{len(shown):,} of {total:,} wrong images, the most confident first, below {predictions.root}"
    return f"{title}\n{_table(rows, ('image', 'true class', 'predicted', 'p predicted', 'p true'), 3)}"


def _probability_of_truth(one: Prediction) -> str:
    """Of the true class; it is at most that of the last class which the predictions hold."""
    if one.p is None:
        return ""
    known = one.label in one.top
    return f"{one.p[one.top.index(one.label)]:.4f}" if known else f"< {max(one.p[-1], 1e-4):.4f}"


def _write_csv(scores: list[ClassScore], path: Path) -> None:
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "class", "images", "correct", "accuracy"])
        writer.writerows([*score, score.accuracy] for score in scores)


if __name__ == "__main__":
    sys.exit(main())
