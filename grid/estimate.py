"""How long runs will take, from those that are finished."""

from collections.abc import Iterable
from statistics import fmean

from .plan import Planned


class Estimate:
    """Mean seconds of the finished runs that are most like a run, among those given and learned of."""

    def __init__(self, runs: Iterable[Planned]):
        self._seconds: dict[tuple, list[float]] = {}
        for run in runs:
            self.learn(run)

    def learn(self, run: Planned) -> None:
        """Take the times of a finished run; nothing of an unfinished one."""
        if run.result is None:
            return
        seconds = sum(run.result.get(key) or 0.0 for key in ("seconds_train", "seconds_test"))
        for kind in _kinds(run):
            self._seconds.setdefault(kind, []).append(seconds)

    def seconds(self, run: Planned) -> float | None:
        """Seconds that the run will take; None while nothing like it is known."""
        return next((fmean(self._seconds[kind]) for kind in _kinds(run) if kind in self._seconds), None)

    def seconds_left(
        self, pending: Iterable[Planned], running: dict[Planned, float], slots: int
    ) -> float | None:
        """Until all are finished, with so many at once; ``running`` says for how long each has been going on.

        None if something about a run is unknown.
        """
        left = [self.seconds(run) for run in pending]
        for run, elapsed in running.items():
            expected = self.seconds(run)
            left.append(None if expected is None else max(expected - elapsed, 0.0))
        if None in left:
            return None
        return max(sum(left) / max(slots, 1), max(left, default=0.0))


def _kinds(run: Planned) -> list[tuple]:
    """Groups of runs that take alike, the closest first."""
    spec = run.spec
    return [
        (spec.eval_only, spec.trainer, run.backbone, spec.protocol, spec.dataset, spec.shots, spec.pairs),
        (spec.eval_only, spec.trainer, run.backbone, spec.dataset),
        (spec.eval_only, spec.trainer, run.backbone),
        (spec.eval_only,),
    ]
