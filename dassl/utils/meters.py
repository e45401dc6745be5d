"""Running averages of what a training step reports."""

from collections import defaultdict
from collections.abc import Mapping


class AverageMeter:
    """The last value, and the average of all of them weighted by their counts.

    With `ema` the average is exponential instead: avg <- 0.9 avg + 0.1 val, from 0.
    """

    def __init__(self, ema: bool = False):
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self.val = 0.0
        self.avg = 0.0
        self.sum = 0.0
        self.count = 0

    def update(self, val, n: int = 1) -> None:
        """Add a number or a tensor of one element that stands for `n` observations."""
        if hasattr(val, "item"):
            val = val.item()
        self.val = val
        self.sum += val * n
        self.count += n
        if self.ema:
            self.avg = 0.9 * self.avg + 0.1 * val
        elif self.count:
            self.avg = self.sum / self.count


class MetricMeter:
    """One `AverageMeter` per name; `str()` shows value (average): "loss 1.5040 (1.2866) acc 0.0 (25.0)"."""

    def __init__(self, delimiter: str = " "):
        self.meters: dict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, metrics: Mapping | None) -> None:
        """Add the metrics of one step; None (a step that reports nothing) is ignored.

        Raises: TypeError if `metrics` is something else than a mapping
        """
        if metrics is None:
            return
        if not isinstance(metrics, Mapping):
            raise TypeError(f"a step reports a dict of numbers or None, not {type(metrics).__name__}")
        for name, value in metrics.items():
            self.meters[name].update(value)

    def state(self) -> dict[str, dict]:
        """Everything the averages depend on, in plain numbers."""
        return {name: dict(vars(meter)) for name, meter in self.meters.items()}

    def load_state(self, state: Mapping[str, Mapping]) -> None:
        """Inverse of :meth:`state`."""
        for name, values in state.items():
            vars(self.meters[name]).update(values)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
