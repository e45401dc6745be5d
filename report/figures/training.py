"""What training did to the parameters: change and gradient per layer and per iteration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from clipfit.io.files import parse_json
from dassl.config import flatten
from dassl.run_folder import RECORD_FILES, all_checkpoints, has_config, newest_checkpoint, read_config
from dassl.utils import unknown_name
from report.paper import check_keys

from .definition import RunFigure
from .panels import Curve, LinePlot

# What a panel may show -> parameter group (clipfit/groups.py), which of a layer's parameters.
TENSORS = {
    "text bias": ("text.ffn_proj_bias", 0),
    "LayerNorm gain": ("image.layernorm", 0),
    "LayerNorm bias": ("image.layernorm", 1),
}
MOST_TICKS = 12  # more layers have only every fifth marked
LABELS = {"change": "squared change", "gradient": "sum of squared gradients"}


@dataclass(frozen=True)
class PanelOf:
    """A panel: a line per row and tensor, over the layers or, of one layer, over the iterations."""

    title: str
    value: str  # change, or gradient (summed over the iterations)
    tensors: Sequence[str]  # names in TENSORS
    over: str = "layers"
    layer: int = 0  # the one that is followed over the iterations
    rows: Sequence[str] = ()  # names; empty: all

    @property
    def reads_records(self) -> bool:
        """The change at the end needs no record: it is in the checkpoint."""
        return self.value == "gradient" or self.over == "iterations"


@dataclass(frozen=True, kw_only=True)
class TrainingFigure(RunFigure):
    panels: tuple[PanelOf, ...]

    @staticmethod
    def read_panel(entry: dict, where: str) -> PanelOf:
        """Raises: KeyError, ValueError naming an unknown key, value or tensor."""
        known = [field.name for field in fields(PanelOf)]
        check_keys(entry, known, where, "key of a panel")
        panel = PanelOf(**entry)
        for kind, value, known in (
            ("value", panel.value, LABELS),
            ("axis", panel.over, ("layers", "iterations")),
            *(("tensor", tensor, TENSORS) for tensor in panel.tensors),
        ):
            if value not in known:
                raise ValueError(f"{where}: {unknown_name(kind, value, known)}")
        return panel

    def records(self, row: str) -> frozenset[str]:
        """All kinds if one is needed: figures share runs, and none should ask for a second training."""
        needed = any(panel.reads_records and row in (panel.rows or [row]) for panel in self.panels)
        return frozenset(RECORD_FILES) if needed else frozenset()

    def panels_of(self, family, runs):
        return [self._panel(panel, runs) for panel in self.panels]

    def _panel(self, panel: PanelOf, runs: dict) -> LinePlot:
        curves = []
        for row in panel.rows or runs:
            training = Training(runs[row].folder, runs[row].result)
            for tensor in panel.tensors:
                label = tensor if len(panel.tensors) > 1 else row
                if panel.over == "iterations":
                    values = training.change_by_iteration(tensor)[panel.layer]
                else:
                    values = getattr(training, f"{panel.value}_by_layer")(tensor)
                curves.append(Curve(label, range(1, len(values) + 1), values))
        by_layer = panel.over == "layers"
        layers = range(1, len(curves[0].y) + 1)
        ticks = tuple(layers) if len(layers) <= MOST_TICKS else tuple(layers[::5])
        return LinePlot(
            panel.title,
            "layer" if by_layer else "iteration",
            LABELS[panel.value],
            tuple(curves),
            xticks=ticks if by_layer else (),
            markers=by_layer,
            from_zero=True,
        )


class Training:
    """The numbers that a finished run left behind.

    Args: folder of the run; its result, which names backbone and precision
    """

    def __init__(self, folder: str | Path, result: dict):
        self.folder = Path(folder)
        # "amp fp16" trains the float32 values of the file, as fp32 does.
        config = flatten(read_config(folder)) if has_config(folder) else {}
        activation = config.get("MODEL.BACKBONE.ACTIVATION", "auto")
        self.clip = original(result["backbone"], result["precision"].split()[0], activation)

    def names(self, tensor: str) -> list[str]:
        """The parameter of every layer, from the first."""
        from clipfit import groups

        group, place = TENSORS[tensor]
        every, first = (groups.select(self.clip, [name])[name] for name in (group, f"{group}[0]"))
        return list(every)[place :: len(first)]

    def change_by_layer(self, tensor: str) -> list[float]:
        """Squared distance of the newest checkpoint from the original weights; 0 for what did not train."""
        start, end = dict(self.clip.named_parameters()), newest_state(self.folder)
        return [
            (end[name].double() - start[name].detach().double()).square().sum().item() if name in end else 0.0
            for name in self.names(tensor)
        ]

    def gradient_by_layer(self, tensor: str) -> list[float]:
        """Squared gradient, summed over all iterations."""
        return [sum(values) for values in self._recorded("gradient", tensor)]

    def change_by_iteration(self, tensor: str) -> list[list[float]]:
        """Squared change after each iteration: a list per layer."""
        return self._recorded("change", tensor)

    def _recorded(self, kind: str, tensor: str) -> list[list[float]]:
        names, rows = read_record(self.folder / RECORD_FILES[kind])
        place = {name.partition("/")[2]: index for index, name in enumerate(names)}
        return [[row[place[name]] for row in rows] for name in self.names(tensor)]


def read_record(path: str | Path) -> tuple[list[str], list[list[float]]]:
    """Names of the n tensors and an n-list per iteration, of a file that docs/recording.md describes.

    Raises: ValueError with file and line for damage
    """
    names, rows = None, []
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            content = parse_json(line, f"{path}, line {number}")
            values = content.get("values" if names else "names") if isinstance(content, dict) else None
            if not isinstance(values, list) or not all(map(_is_square if names else _is_name, values)):
                raise ValueError(f"{path}, line {number} is no line of a record; restore the file")
            if names and len(values) != len(names):
                raise ValueError(f"{path}, line {number} has {len(values)} values of {len(names)} tensors")
            if names:
                rows.append(values)
            else:
                names = values
    if not names:
        raise ValueError(f"{path} names no tensors; restore the file")
    return names, rows


def _is_name(value) -> bool:
    return isinstance(value, str)


def _is_square(value) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def newest_state(folder: Path) -> dict:
    """Name -> tensor in the newest checkpoint of a run's only model."""
    from dassl.utils import load_model_file

    (model,) = {path.parent for path in all_checkpoints(folder)}
    return load_model_file(newest_checkpoint(model))["state_dict"]


@lru_cache(maxsize=1)  # figures follow each other on the same backbone
def original(backbone: str, precision: str, activation: str):
    """CLIP as training found it."""
    from clipfit.loading import load_clip

    return load_clip(backbone, precision=precision, activation=activation)
