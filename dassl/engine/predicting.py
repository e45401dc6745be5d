"""From the output of a model in the final test to the lines of predictions.jsonl."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from dassl.data.datasets import Datum
from dassl.data.datasets.paths import image_root, relative_paths
from dassl.predictions import TOP, Prediction, writing
from dassl.run_folder import PREDICTIONS
from dassl.utils import ranks

Keep = Callable[[Tensor, Tensor, dict], None]


@contextmanager
def predictions_of(trainer, split: str) -> Iterator[Keep]:
    """Give a function that takes output (B, K), labels (B,) and batch of a test.

    In the final test it writes a line per picture, unless TEST.PREDICTIONS is off; in others it does nothing.
    A plugin whose output is no (B, K) tensor, or whose batches do not name their images, gets no file.
    """
    if not (trainer._in_final_test and trainer.cfg.TEST.PREDICTIONS and ranks.is_first()):
        yield lambda output, labels, batch: None
        return
    dataset, root = trainer.dm.dataset, trainer.cfg.DATASET.ROOT
    items = dataset.val if split == "val" else dataset.test
    add = None  # set by the first batch: only its output says how many classes there are
    possible = True

    def keep(output, labels, batch):
        nonlocal add, possible
        if add is None and possible:
            possible = torch.is_tensor(output) and output.dim() == 2 and "impath" in batch
            if not possible:
                print(f"Note: no {PREDICTIONS}: it needs an output (pictures, classes) and named images")
                return
            classes = _class_names(trainer.lab2cname, items, output.shape[1])
            where = trainer.output_dir, classes, image_root(dataset, root), len(items)
            add = stack.enter_context(writing(*where))
        if possible:
            images = relative_paths(dataset, [Datum(path) for path in batch["impath"]], root)
            for picture in zip(images, labels.tolist(), *top_classes(output), strict=True):
                add(Prediction(*picture))

    with ExitStack() as stack:
        yield keep


def parts_in_order(output, labels: Tensor, batch) -> Iterator[tuple]:
    """The output, labels and batch of every rank's part of a batch of a test: on rank 0 all, on others none.

    Of the batch only the paths of its images come along. A run of one process has it as it is.
    """
    if ranks.size() == 1:
        yield output, labels, batch
        return
    part, names = ranks.taken(), {"impath": batch["impath"]} if "impath" in batch else {}
    if part is None:  # a loader of a plugin's: every rank has it whole
        if ranks.is_first():
            yield output, labels, batch
        return
    output = output.cpu() if torch.is_tensor(output) else output
    # Where pictures are fewer than ranks, some have the same one.
    parts = {start: rest for start, *rest in ranks.collected((part.start, output, labels.cpu(), names)) or ()}
    for start in sorted(parts):
        yield tuple(parts[start])


def _class_names(names: dict[int, str], items, outputs: int) -> list[str]:
    """The name of every id that a label or an output may have; ids that no image has are called by number."""
    names = {item.label: item.classname for item in items} | names
    return [names.get(id, f"class {id}") for id in range(max(outputs, 1 + max(names)))]


def top_classes(output: Tensor) -> tuple[list[list[int]], list[list[float] | None]]:
    """Ids of the highest scores in each row of an output (B, K), best first, and their probabilities.

    Of equal scores the lower id comes first, as the evaluator's argmax has it. What is no logits has
    no probabilities: whole numbers, a batch of probabilities, a row whose softmax is not finite.
    """
    ids = output.sort(dim=1, descending=True, stable=True).indices[:, :TOP]  # (B, TOP)
    logits = output.float()
    p = logits.softmax(dim=1).gather(1, ids)
    are_probabilities = (logits >= 0).all() & ((logits.sum(dim=1) - 1).abs() < 1e-3).all()
    known = p.isfinite().all(dim=1) & ~are_probabilities & output.is_floating_point()
    rows = zip(p.cpu().numpy(), known.tolist(), strict=True)
    # str gives the shortest digits that are this float32: 0.41, not 0.4099999964237213
    return ids.tolist(), [
        [float(str(value)) for value in row] if is_known else None for row, is_known in rows
    ]
