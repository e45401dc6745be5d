"""Trainings that a signal stops, and the comparison of two run folders."""

import json
import os
import re
import signal
from pathlib import Path

import torch

from dassl.run_folder import RECORD_FILES
from dassl.utils import close_logger, load_checkpoint, setup_logger
from dassl.utils.stop_signals import STATUS, Stopped, obeyed

LONG_EPOCHS = {
    "DATALOADER__TRAIN_X__BATCH_SIZE": 2,  # five steps
    "TRAIN__RECORD": ["gradient", "change"],
    "TRAIN__PRINT_FREQ": 1,
    "TEST__FINAL_MODEL": "best_val",
}
UNREPEATABLE = {"seconds_train", "seconds_test", "peak_memory_mb", "config_digest", "starts"}
TIMES = re.compile(r"time \S+ \(\S+\) data \S+ \(\S+\) | eta \S+")


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def signal_in(trainer, method, moment, number=signal.SIGTERM):
    """A signal comes while the trainer is in a method for the n-th time, n from 1."""
    original, calls = getattr(trainer, method), []

    def signalled(*args, **kwargs):
        calls.append(method)
        if len(calls) == moment:
            send(number)
        return original(*args, **kwargs)

    setattr(trainer, method, signalled)


def run(trainer) -> str | None:
    """Train as train.py does; the words of the signal that stopped it."""
    setup_logger(trainer.output_dir)
    try:
        with obeyed():
            trainer.train()
    except Stopped as stop:
        assert stop.code == STATUS == 143
        return stop.words
    finally:
        close_logger()


def progress(folder) -> list[str]:
    """The log's lines about steps, without times."""
    lines = Path(folder, "log.txt").read_text().splitlines()
    return [TIMES.sub("", line) for line in lines if line.startswith("epoch [")]


def assert_same_run(one, other):
    for name in ("metrics.jsonl", *RECORD_FILES.values()):
        assert Path(one, name).read_bytes() == Path(other, name).read_bytes(), name
    assert progress(one) == progress(other)
    for file in Path(one).glob("*/model*"):
        state, again = (load_checkpoint(run / file.relative_to(one)) for run in (Path(one), Path(other)))
        torch.testing.assert_close(again, state, rtol=0, atol=0)
    results = [json.loads(Path(run, "result.json").read_text()) for run in (one, other)]
    assert len({json.dumps({k: v for k, v in r.items() if k not in UNREPEATABLE}) for r in results}) == 1
