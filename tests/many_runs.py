"""Several runs in one process, or in one set of ranks: `python -m tests.many_runs RUNS.json`.

The file holds a list of runs. A list of words is a command line of train.py. An object is a training of a
plugin of tests/dassl/engine/plugins.py: its settings, its folder with `data`, and `trainer`.
"""

import json
import os
import sys
from pathlib import Path

import torch

import train
from dassl.engine import build_trainer
from dassl.utils import close_logger, ranks, set_random_seed
from tests.dassl.engine.plugins import make_cfg


def main(runs: list) -> None:
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")  # one for all: joining twice would meet old addresses
    for run in runs:
        if isinstance(run, dict):
            train_plugin(**run)
        else:
            train.main(run)
            close_logger()


def train_plugin(folder: str, **settings) -> None:
    cfg = make_cfg(folder, **settings)
    with ranks.joined():
        set_random_seed(cfg.SEED)
        try:
            build_trainer(cfg).train()
        except ValueError as error:  # the same one on every rank
            if ranks.is_first():
                Path(cfg.OUTPUT_DIR, "error.txt").write_text(str(error))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
