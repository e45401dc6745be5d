"""What train.py shows of a run that is finished already. Imports no torch, but to make a confusion matrix."""

from clipfit.io.commands import pasted
from dassl.predictions import class_scores, count_pairs, disagreement, print_class_scores, read_predictions
from dassl.run_folder import PREDICTIONS

from .compare import NOT_RECORDED, Found


def print_finished(cfg, found: Found) -> None:
    """The lines of a run that is finished already, and what else is asked of it."""
    folder = cfg.OUTPUT_DIR
    print(f"{folder} is finished already" if found.recorded else f"{folder}: {NOT_RECORDED}")
    for note in found.notes:
        print(note)
    print_result(found.result)
    make_what_is_asked(cfg, found.result)


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
