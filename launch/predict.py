"""Predictions by the trainer of a run, for methods whose result is more than CLIP and class features.

    python -m launch.predict RUN pictures/ --csv out.csv

`clipfit predict` calls it for such runs; the flags are the same. The pictures trained on are not needed.
"""

import argparse
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from clipfit.fit import predict
from clipfit.fit.files import fit_folder, read_facts
from clipfit.fit.model import Predictor, activation_of
from clipfit.io.commands import Parser
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import build_trainer
from dassl.run_folder import read_config
from launch.bare_errors import message_of
from launch.runtime import choose_kernels


class RunModel(Predictor):
    """The model of a run, behind its trainer.

    Args:   run, folder of a finished run with a fit; backbone, where the file of its backbone lies now
    Raises: FileNotFoundError, ValueError naming what is missing or damaged
    """

    def __init__(self, run: Path, cuda: bool = False, backbone: str = ""):
        facts = read_facts(run)
        super().__init__(facts["classes"], facts["input"])
        self.trainer = trainer_of(run, facts, cuda, backbone)
        self.trainer.set_model_mode("eval")
        with torch.no_grad():
            self.trainer.before_test()

    def probabilities(self, pictures) -> Tensor:
        pixels = self.pixels(pictures).to(self.trainer.device)
        with torch.no_grad():
            return self.trainer.model_inference(pixels).float().softmax(dim=1)


def trainer_of(run: Path, facts: dict, cuda: bool = False, backbone: str = ""):
    """The trainer of a run with its model loaded, on a data set that has classes and no pictures."""
    import trainers  # noqa: F401 - every file there registers itself

    cfg = get_cfg_default()
    cfg.merge_from_mapping(read_config(run), source=str(run), allow_new=True)
    model_dir = cfg.RUN.MODEL_DIR if cfg.RUN.EVAL_ONLY else str(run)
    cfg.RUN.EVAL_ONLY, cfg.USE_CUDA, cfg.RESUME, cfg.OUTPUT_DIR = True, cuda, "", ""
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATASET.FEWSHOT_LIST = ""
    cfg.MODEL.BACKBONE.NAME = backbone or cfg.MODEL.BACKBONE.NAME
    cfg.MODEL.BACKBONE.ACTIVATION = activation_of(facts)
    if isinstance(facts["template"], str):
        cfg.DATASET.PROMPT_TEMPLATE = facts["template"]
    choose_kernels()
    with DATASET_REGISTRY.keeping_names(), redirect_stdout(io.StringIO()):  # what a training says of itself
        DATASET_REGISTRY.register(classes_alone(cfg.DATASET.NAME, facts), force=True)
        trainer = build_trainer(cfg)
        epoch = None if cfg.RUN.LOAD_EPOCH < 0 else cfg.RUN.LOAD_EPOCH
        trainer.load_model(model_dir, epoch=trainer.epoch_to_load(model_dir, epoch))
    return trainer


def classes_alone(name: str, facts: dict) -> type[DatasetBase]:
    """A data set of this name that knows the classes of a fit and holds no pictures."""

    class ClassesAlone(DatasetBase):
        lists_folders = True  # there is nothing to check
        upright = bool(facts["input"].get("upright"))

        def __init__(self, cfg):
            items = [Datum(str(id), label=id, classname=name) for id, name in enumerate(facts["classes"])]
            super().__init__(train_x=items, test=items)

    ClassesAlone.__name__ = ClassesAlone.__qualname__ = name
    return ClassesAlone


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m launch.predict", description=__doc__.splitlines()[0])
    predict.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return run_command(args)
    except KeyboardInterrupt:
        sys.exit("stopped")
    except (ValueError, LookupError, OSError, ImportError, MemoryError) as error:
        sys.exit(f"error: {message_of(error)}")


def run_command(args: argparse.Namespace) -> int:
    predict.check_arguments(args)
    return predict.run(args, RunModel(fit_folder(args.fit).parent, args.cuda, args.backbone))


if __name__ == "__main__":
    sys.exit(main())
