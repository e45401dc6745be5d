"""figures.yaml -> definitions."""

from dataclasses import MISSING, fields
from functools import cache

from dassl.config import load_yaml
from dassl.utils import unknown_name
from report import definitions
from report.definitions import Row
from report.paper import Paper, check_keys

from .definition import FigureDefinition
from .features import FeatureFigure
from .from_tables import BaseNewScatter, FewShotCurves, Gains
from .sensitivity import SensitivityFigure
from .training import TrainingFigure

FILE = "figures.yaml"
KINDS = {
    "training": TrainingFigure,
    "features": FeatureFigure,
    "sensitivity": SensitivityFigure,
    "few_shot_curves": FewShotCurves,
    "base_new_scatter": BaseNewScatter,
    "gains": Gains,
}


@cache
def load(paper: Paper) -> dict[str, FigureDefinition]:
    """All figures by their id, in the file's order; none without a file.

    Raises: KeyError, ValueError naming a broken entry
    """
    path = paper.folder / FILE
    entries = load_yaml(path) if path.is_file() else {}
    return {id: _read(paper, id, dict(content)) for id, content in entries.items()}


def _read(paper: Paper, id: str, content: dict) -> FigureDefinition:
    where = f"{paper.folder / FILE}, {id}"
    kind = content.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"{where}: {unknown_name('kind', str(kind), KINDS)}")
    keys = [field for field in fields(KINDS[kind]) if field.name != "id"]
    check_keys(content, [key.name for key in keys], where)
    _check_names(paper, content, where)
    if "rows" in content:
        content["rows"] = tuple(Row.read(row, where) for row in content["rows"])
    if "panels" in content:
        content["panels"] = tuple(KINDS[kind].read_panel(panel, where) for panel in content["panels"])
    if lacking := [key.name for key in keys if key.default is MISSING and key.name not in content]:
        raise ValueError(f"{where} lacks {', '.join(lacking)}")
    return KINDS[kind](id=id, **content)


def _check_names(paper: Paper, content: dict, where: str) -> None:
    """Raises: ValueError for a table or a family of data sets that there is not, or one left out."""
    tables = definitions.load(paper)
    if "table" in content and content["table"] not in tables:
        raise ValueError(f"{where}: {unknown_name('table', str(content['table']), tables)}")
    families = [family.name for family in paper.families]
    stated = [family.name for family in paper.families if family.stated]
    for key in ("datasets", "where"):
        if key not in content:
            continue
        if unknown := [name for name in content[key] if name not in families]:
            raise ValueError(f"{where}, {key}: {unknown_name('family', unknown[0], families)}")
        if lacking := [name for name in stated if name not in content[key]]:
            raise ValueError(f"{where}, {key} lacks the family {lacking[0]}")
