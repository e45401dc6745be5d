"""Harmonic mean of base and new accuracy as a hyper-parameter varies."""

from dataclasses import dataclass

from report.numbers import HM_OF, Numbers, Place
from report.results import number
from report.selection import Content

from .definition import FigureDefinition, Missing, Sketch, check_done, fingerprints
from .panels import Curve, LinePlot

PROTOCOL = "base2new"
LEAST_SPAN = 4.0  # points of the vertical axis


@dataclass(frozen=True, kw_only=True)
class SensitivityFigure(FigureDefinition):
    """A row per value of the hyper-parameter, whose name is the value.

    datasets   by family: those that the average is over, as far as they are selected
    """

    rows: tuple
    datasets: dict[str, list[str]]
    shots: int
    xlabel: str

    def specs(self, selection):
        for family in selection.families:
            for runs in self._runs(family, selection).values():
                yield from ((spec, frozenset()) for spec in runs.values())

    def content(self, paper):
        datasets = {family: tuple(stems) for family, stems in self.datasets.items()}
        return Content(datasets, tuple(row.trainer for row in self.rows), (self.shots,))

    def _runs(self, family, selection) -> dict:
        """Data set -> (row, seed, base or new) -> run."""
        if not selection.of_shots([self.shots]):
            return {}
        return {
            dataset: {
                (row, seed, half): row.spec(
                    selection.paper, dataset, PROTOCOL, self.shots, seed, eval_only=half == "new"
                )
                for row in self.rows
                if selection.has_method(row.trainer)
                for seed in selection.seeds
                for half in HM_OF
            }
            for dataset in selection.of_datasets(self.datasets.get(family.name, ()))
        }

    def sketches(self, selection, outcomes):
        for family in selection.families:
            try:
                done = self._done(family, selection, outcomes)
            except Missing as missing:
                yield Sketch(family.embedded, reason=str(missing), tag=family.tag)
                continue
            seeds = ", ".join(map(str, selection.seeds))
            yield Sketch(
                embedded=family.embedded,
                tag=family.tag,
                where=f"average of {len(done)} data sets" if len(done) > 1 else next(iter(done)),
                note=f"Data sets: {', '.join(done)}. Seeds: {seeds}.",
                inputs=fingerprints(run for runs in done.values() for run in runs.values()),
                panels=lambda done=done: [self.panel(done)],
            )

    def _done(self, family, selection, outcomes) -> dict:
        """The data sets whose runs are all done. Raises: Missing if there is none."""
        done, problems = {}, []
        for dataset, specs in self._runs(family, selection).items():
            runs = {key: outcomes[spec] for key, spec in specs.items()}
            try:
                check_done(runs.values())
            except Missing as missing:
                problems.append(str(missing))
            else:
                if runs:
                    done[dataset] = runs
        if not done:
            raise Missing(problems[0] if problems else "none of its runs is selected")
        return done

    def panel(self, done: dict) -> LinePlot:
        """Harmonic mean of the mean base and the mean new accuracy over data sets and seeds, as in tables.

        Its deviation is that of the harmonic means of the single seeds.
        """
        numbers = Numbers(
            number(row, dataset, self.shots, seed, half, run)
            for dataset, runs in done.items()
            for (row, seed, half), run in runs.items()
        )
        keys = list(next(iter(done.values())))
        rows, seeds = (tuple(dict.fromkeys(key[place] for key in keys)) for place in (0, 1))
        scores = [numbers.score(Place(row, tuple(done), self.shots, "hm"), seeds) for row in rows]
        values = tuple(float(row.name) for row in rows)
        means, deviations = [one.mean for one in scores], [one.sd or 0.0 for one in scores]
        curve = Curve("harmonic mean", values, means, deviations)
        return LinePlot(
            "", self.xlabel, "harmonic mean (%)", (curve,), xticks=values, evenly=True, least_span=LEAST_SPAN
        )
