"""One run of train.py, as a user would ask for it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from launch.folder import ONLY_FOR_TESTS
from launch.registered import data_set, explicit_name
from launch.resolve import PROJECT


@dataclass(frozen=True)
class Spec:
    """What a run is, without saying where it lies or how fast it goes."""

    trainer: str  # "CLIPFit"
    protocol: str  # of launch/protocols/, e.g. "base2new"
    dataset: str  # stem of a data set (launch/registered.py)
    shots: int  # labelled images per class
    seed: int
    eval_only: bool = False  # a test of a trained model (new classes, transfer targets)
    source: str = ""  # of a transfer test: stem of the data set trained on; "": what the data set's YAML says
    trained_by: str = ""  # of a test: protocol that trained its model; "": what the method's recipe says
    config_file: str = ""  # relative to the project, e.g. "configs/ablations/bias_a.yaml"
    pairs: tuple[str, ...] = ()  # KEY VALUE KEY VALUE

    def trained(self, protocol: str, dataset: str) -> "Spec":
        """The run that trained the model of this test."""
        pairs = zip(self.pairs[::2], self.pairs[1::2], strict=True)
        lasting = tuple(word for pair in pairs if pair[0] not in ONLY_FOR_TESTS for word in pair)
        where = {"protocol": protocol, "dataset": dataset, "source": "", "trained_by": ""}
        return replace(self, eval_only=False, pairs=lasting, **where)


def arguments(
    spec: Spec, root: str = "", output_dir: str = "", model_dir: str = "", pairs: Iterable[str] = ()
) -> list[str]:
    """The words behind ``python train.py``, which mean shipped classes whatever else has their names.

    Args: root folder of the data sets; output_dir, model_dir given only where train.py would look elsewhere;
          pairs that stand behind the spec's own
    """
    images = data_set(spec.dataset).images
    flags = {
        "--trainer": explicit_name("trainers", spec.trainer),
        "--protocol": spec.protocol,
        "--dataset": "" if images else spec.dataset,
        "--images": images,
        "--shots": str(spec.shots),
        "--seed": str(spec.seed),
        "--config-file": project_file(spec.config_file) if spec.config_file else "",
        "--root": root,
        "--output-dir": output_dir,
        "--model-dir": model_dir,
    }
    words = [word for flag, value in flags.items() if value for word in (flag, value)]
    source = ["RUN.SOURCE", spec.source] if spec.source else []
    return [*words, *(["--eval-only"] if spec.eval_only else []), *source, *spec.pairs, *pairs]


def project_file(path: str) -> str:
    """A path of the project as it is reached from the current folder."""
    return path if Path.cwd() == PROJECT else str(PROJECT / path)
