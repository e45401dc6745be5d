"""One finished run: its result and what produced it, every class, what was confused, the wrong images.

python -m report.run output/few_shot/dtd/shots_16/CLIPFit/vit_b16/seed1 --wrong 50 --csv classes.csv

The numbers of classes and images come from the run's predictions, and are checked against its result.
"""

import csv
import heapq
import shlex
import sys
from pathlib import Path

from tabulate import tabulate

from clipfit.io.commands import PATH, Parser, pasted
from clipfit.io.files import atomic_write
from dassl.config import flatten
from dassl.predictions import (
    ClassScore,
    Counts,
    Prediction,
    Predictions,
    class_scores,
    count_pairs,
    disagreement,
    read_predictions,
)
from dassl.run_folder import PREDICTIONS, RESULT, read_command, read_config, read_result, read_starts
from launch.finished import print_result
from launch.registered import protocols

MATRIX_UP_TO = 20  # classes; of more, the pairs that are confused most
PAIRS = 20  # of those
WRONG = 20  # images, unless --wrong says how many
FACTS = (  # of a result: what to call it, key
    ("method", "trainer"),
    ("its version", "trainer_version"),
    ("data set", "dataset"),
    ("protocol", "protocol"),
    ("backbone", "backbone"),
    ("precision", "precision"),
    ("template", "template"),
    ("shots", "shots"),
    ("seed", "seed"),
    ("classes", "num_classes"),
    ("split", "split"),
    ("epoch", "epoch"),
    ("trained parameters", "trainable_params"),
    ("tested model", "model_dir"),
    ("extras", "extras"),
)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m report.run", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=PATH, help="run folder")
    parser.add_argument("--wrong", type=int, default=WRONG, metavar="N", help="wrong images to show")
    parser.add_argument("--csv", type=PATH, metavar="FILE", help="write the table of classes to FILE")
    args = parser.parse_args(argv)
    sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what a terminal cannot show
    try:
        show(Path(args.run), args.wrong, Path(args.csv) if args.csv else None)
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


# What produced it -----------------------------------------------------------------------------------


def _produced_by(folder: Path, result: dict) -> str:
    facts = [(name, _words(result.get(key))) for name, key in FACTS]
    facts.append(("command", read_command(folder) or ""))
    starts = read_starts(folder)
    for number, start in enumerate(starts, 1):
        facts.append((f"start {number} of {len(starts)}" if len(starts) > 1 else "start", _start(start)))
    return tabulate([fact for fact in facts if fact[1]], tablefmt="plain", disable_numparse=True)


def _words(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _start(start: dict) -> str:
    """When, at which commit, with what beside it, where."""
    commit = start.get("commit")
    reason = start.get("no_commit")
    code = f"commit {commit}" if commit else f"no commit known{f' ({reason})' if reason else ''}"
    files = [*(start.get("changed") or {}), *(start.get("untracked") or {})]
    parts = [start.get("time"), code + (f" ({', '.join(files)})" if files else ""), start.get("device")]
    if torch := (start.get("packages") or {}).get("torch"):
        parts.append(f"torch {torch}")
    return ", ".join(filter(None, parts))


def _cure(folder: Path) -> str:
    """The command that makes predictions of a run that has none."""
    command = shlex.split(read_command(folder) or "")
    if command[:2] != ["python", "train.py"]:
        return "Run it again in another folder."
    command = pasted(["python", "train.py", *words_to_test_again(folder, command[2:])])
    return f"This tests its model in another folder:\n  {command}"


def words_to_test_again(folder: Path, words: list[str]) -> list[str]:
    """The words of a command line of train.py that tests the model of a run again.

    Args: words of the command that made the run
    """
    config = flatten(read_config(folder))
    kept, pairs = (
        _without(words, {"--output-dir", "--resume", "OUTPUT_DIR", "RESUME", "TEST.PREDICTIONS"}),
        [],
    )
    parts = [part for part in folder.parts if part not in (folder.anchor, "..")]
    added = ["--output-dir", str(Path("tested", *parts))]
    if not config["RUN.EVAL_ONLY"]:
        added += ["--eval-only", "--model-dir", str(folder)]
        protocol = protocols().get(config["RUN.PROTOCOL"])
        if protocol and protocol.picks_classes and "DATASET.SUBSAMPLE_CLASSES" not in kept:
            pairs = ["DATASET.SUBSAMPLE_CLASSES", config["DATASET.SUBSAMPLE_CLASSES"]]
    if "--seed" not in kept and "SEED" not in kept:
        added += ["--seed", str(config["SEED"])]
    return [*added, *kept, *pairs]


def _without(words: list[str], names: set[str]) -> list[str]:
    """The words less these flags and keys and the word behind each."""
    kept, rest = [], iter(words)
    for word in rest:
        if word in names:
            next(rest, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept


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
    wrong = {pair: count for pair, count in counts.items() if pair[0] != pair[1]}
    most = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    rows = [(classes[label], classes[predicted], count) for (label, predicted), count in most[:PAIRS]]
    title = f"Most confused of {len(wrong):,} pairs of classes"
    return f"{title}\n{_table(rows, ('true class', 'predicted', 'images'), 2)}"


def _wrong_images(predictions: Predictions, counts: Counts, most: int) -> str:
    """The images that were taken for another class, the most confident first."""
    total = sum(count for (label, predicted), count in counts.items() if label != predicted)
    wrong = (prediction for prediction in predictions if not prediction.right)
    shown = heapq.nlargest(most, wrong, key=lambda one: one.p[0] if one.p else -1.0)
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
