"""Classification: accuracy, macro F1, accuracy per class, confusion matrix."""

from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import torch

from clipfit.io.files import atomic_write
from dassl.evaluation.build import EVALUATOR_REGISTRY
from dassl.predictions import ClassScore, Counts, print_class_scores
from dassl.run_folder import CONFUSION_MATRIX


class EvaluatorBase:
    """Fed batch by batch, asked for the results at the end."""

    def __init__(self, cfg: Any):
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        raise NotImplementedError

    def evaluate(self) -> OrderedDict:
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Compares the highest-scored class with the label.

    `_correct` and `_total` count images; `_y_true` and `_y_pred` list their labels and predictions in order;
    `_per_class_res` maps each label to a list of 1 (right) and 0 with TEST.PER_CLASS_RESULT, else it is None.

    Args: lab2cname label -> class name, needed for TEST.PER_CLASS_RESULT
    """

    def __init__(self, cfg: Any, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise ValueError("TEST.PER_CLASS_RESULT prints class names: build the evaluator with lab2cname")
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._correct = 0
        self._total = 0
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._per_class_res = defaultdict(list) if self.cfg.TEST.PER_CLASS_RESULT else None

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add a batch: `mo` (B, K) scores, `gt` (B,) labels.

        Raises: FloatingPointError for scores that are NaN
        """
        if mo.isnan().any():
            raise FloatingPointError(
                "the model's scores are NaN: it has diverged; lower OPTIM.LR, or use PREC fp32"
            )
        predicted, labels = mo.argmax(dim=1).cpu(), gt.cpu()
        self._correct += int((predicted == labels).sum())
        self._total += len(labels)
        self._y_true.extend(labels.tolist())
        self._y_pred.extend(predicted.tolist())
        if self._per_class_res is not None:
            for label, match in zip(labels.tolist(), (predicted == labels).int().tolist(), strict=True):
                self._per_class_res[label].append(match)

    def evaluate(self) -> OrderedDict:
        """Print the results and return them in percent, accuracy first.

        Returns: accuracy, error_rate, macro_f1 (mean over the classes that occur among the labels) and, with
                 TEST.PER_CLASS_RESULT, perclass_accuracy
        Raises: ValueError if nothing was processed
        """
        if not self._total:
            raise ValueError("there is nothing to evaluate: no image was processed; is the split empty?")
        y_true, y_pred = torch.tensor(self._y_true), torch.tensor(self._y_pred)
        num_classes = 1 + int(max(y_true.max(), y_pred.max()))
        images = y_true.bincount(minlength=num_classes)  # (K,) per class: how many there are,
        predicted = y_pred.bincount(minlength=num_classes)  # how often it was predicted,
        hits = y_true[y_true == y_pred].bincount(minlength=num_classes)  # and how often rightly
        present = images.nonzero().flatten()

        f1 = 2 * hits[present].double() / (images + predicted)[present]
        accuracy = 100 * self._correct / self._total
        results = OrderedDict(accuracy=accuracy, error_rate=100 - accuracy, macro_f1=100 * f1.mean().item())
        print(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {results['accuracy']:.2f}%\n"
            f"* error: {results['error_rate']:.2f}%\n"
            f"* macro_f1: {results['macro_f1']:.2f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            per_class = 100 * hits[present].double() / images[present]
            results["perclass_accuracy"] = per_class.mean().item()
            print_class_scores(
                [
                    ClassScore(label, self._lab2cname[label], int(images[label]), int(hits[label]))
                    for label in present.tolist()
                ]
            )
        if self.cfg.TEST.COMPUTE_CMAT:
            counts = Counter(zip(self._y_true, self._y_pred, strict=True))
            num_classes = max(num_classes, 1 + max(self._lab2cname or [0]))
            save_confusion_matrix(counts, num_classes, self.cfg.OUTPUT_DIR)
        return results


def save_confusion_matrix(counts: Counts, num_classes: int, folder: str) -> None:
    """Write cmat.pt, (K, K): row true class, column predicted class; rows sum to 1, or to 0 if empty."""
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    for (label, predicted), count in counts.items():
        matrix[label, predicted] = count
    path = Path(folder) / CONFUSION_MATRIX
    with atomic_write(path, "wb") as file:
        torch.save(matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1), file)
    print(f"Confusion matrix saved to {path}")
