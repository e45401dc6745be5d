"""figures.yaml -> definitions."""

from dataclasses import fields
from functools import cache

from dassl.config import load_yaml
from dassl.utils import unknown_name
from launch.resolve import PROJECT
from report.definitions import Row

from .definition import FigureDefinition
from .features import FeatureFigure
from .from_tables import BaseNewScatter, FewShotCurves, Gains
from .sensitivity import SensitivityFigure
from .training import TrainingFigure

FILE = PROJECT / "paper/figures.yaml"
KINDS = {
    "training": TrainingFigure,
    "features": FeatureFigure,
    "sensitivity": SensitivityFigure,
    "few_shot_curves": FewShotCurves,
    "base_new_scatter": BaseNewScatter,
    "gains": Gains,
}


@cache
def load() -> dict[str, FigureDefinition]:
    """All figures by their id, in the file's order. Raises: KeyError, ValueError naming a broken entry."""
    return {id: _read(id, dict(content)) for id, content in load_yaml(FILE).items()}


def _read(id: str, content: dict) -> FigureDefinition:
    where = f"{FILE.name}, {id}"
    kind = content.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"{where}: {unknown_name('kind', str(kind), KINDS)}")
    known = [field.name for field in fields(KINDS[kind]) if field.name != "id"]
    if unknown := [key for key in content if key not in known]:
        raise KeyError(f"{where}: {unknown_name('key', unknown[0], known)}")
    if "rows" in content:
        content["rows"] = tuple(Row.read(row, where) for row in content["rows"])
    if "panels" in content:
        content["panels"] = tuple(KINDS[kind].read_panel(panel, where) for panel in content["panels"])
    return KINDS[kind](id=id, **content)
