"""What train.py shows of a run that is finished already. Imports no torch, but to make a confusion matrix."""

import os

from clipfit.fit.files import FACTS
from clipfit.fit.files import FOLDER as FIT
from clipfit.io.commands import pasted
from dassl.predictions import (
    Predictions,
    class_scores,
    count_pairs,
    disagreement,
    most_confident_errors,
    print_class_scores,
    read_predictions,
)
from dassl.run_folder import PARTS, PREDICTIONS, read_result

from .compare import NOT_RECORDED, Found

MOST_ERRORS = 10  # wrong pictures at the end of a run


def print_finished(cfg, found: Found) -> None:
    """The lines of a run that is finished already, and what else is asked of it."""
    folder = cfg.OUTPUT_DIR
    print(f"{folder} is finished already" if found.recorded else f"{folder}: {NOT_RECORDED}")
    for note in found.notes:
        print(note)
    print_result(found.result)
    if cfg.DATASET.IMAGES:
        print_pictures(cfg)
    make_what_is_asked(cfg, found.result)


def print_pictures(cfg) -> None:
    """The end of a run on own pictures: accuracy, the pictures it got wrong, and where its files are."""
    folder = cfg.OUTPUT_DIR
    result = read_result(folder) or {}
    if result.get("total"):
        print(
            f"accuracy {result['accuracy']:.1f} %: {result['correct']:,} of {result['total']:,} pictures "
            "that it was not trained on are right"
        )
        if predictions := read_predictions(folder):
            _print_errors(predictions, result["total"] - result["correct"])
    elif not cfg.RUN.EVAL_ONLY:
        print("not tested: there are no pictures that it was not trained on")
    print(f"files of this run: {folder} ({PARTS}: where each picture went)")
    if os.path.isfile(os.path.join(folder, FIT, FACTS)):
        fit = os.path.join(folder, FIT)
        print(f"the model: {fit} (what new pictures show: {pasted(['clipfit', 'predict', fit, 'PICTURES'])})")


def _print_errors(predictions: Predictions, count: int) -> None:
    names = predictions.classes
    errors = most_confident_errors(predictions, MOST_ERRORS)
    if errors:
        print("wrong pictures" + (f", the first {len(errors)} of {count:,}:" if count > len(errors) else ":"))
    for one in errors:
        shown = dict(zip(one.top, one.p or [], strict=False))
        taken = f" ({shown[one.predicted]:.2f})" if shown else ""
        true = f" ({shown[one.label]:.2f})" if one.label in shown else ""
        true = f" (below {one.p[-1]:.2f})" if one.p and not true else true
        print(f"  {one.image}: {names[one.predicted]}{taken} instead of {names[one.label]}{true}")


def print_result(result: dict) -> None:
    """The result block of a finished run."""
    print("=> result")
    if result["accuracy"] is None:
        print("* not tested")
        return
    for name in ("total", "correct"):
        if result[name] is not None:
            print(f"* {name}: {result[name]:,}")
    for name, key in (("accuracy", "accuracy"), ("error", "error_rate"), ("macro_f1", "macro_f1")):
        if result[key] is not None:
            print(f"* {name}: {result[key]:.2f}%")


def make_what_is_asked(cfg, result: dict) -> None:
    """What TEST.PER_CLASS_RESULT and TEST.COMPUTE_CMAT ask for, from the predictions of a finished run.

    Raises: ValueError with file and line for predictions that are damaged
    """
    folder = cfg.OUTPUT_DIR
    asked = [key for key in ("PER_CLASS_RESULT", "COMPUTE_CMAT") if cfg.TEST[key]]
    if not asked or result["accuracy"] is None:
        return
    predictions = read_predictions(folder)
    if predictions is None:
        keys = " and ".join(f"TEST.{key}" for key in asked)
        print(
            f"{keys}: this run left no {PREDICTIONS} to make that from; "
            f"{pasted(['python', '-m', 'report.run', folder])} says how to get one"
        )
        return
    counts = count_pairs(predictions)
    if warning := disagreement(counts, result):
        print(f"Warning: {warning}")
    if cfg.TEST.PER_CLASS_RESULT:
        print_class_scores(class_scores(counts, predictions.classes))
    if cfg.TEST.COMPUTE_CMAT:
        from dassl.evaluation.evaluator import save_confusion_matrix

        save_confusion_matrix(counts, len(predictions.classes), folder)
