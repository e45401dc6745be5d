"""Makes plugins.py importable and gives each test a folder with its images."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import plugins  # noqa: E402

from dassl.engine import build_trainer  # noqa: E402
from dassl.utils import set_random_seed, stop_signals  # noqa: E402


@pytest.fixture
def handlers_are_restored():
    """A stopped run keeps its handlers, as its process is about to end; this one is not."""
    before = {number: signal.getsignal(number) for number in stop_signals.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    stop_signals._request, stop_signals._deferring = None, False


@pytest.fixture
def folder(tmp_path):
    plugins.draw_images(tmp_path / "data")
    return tmp_path


@pytest.fixture
def build():
    """Build a trainer as train.py does: seeds first."""

    def _build(cfg):
        set_random_seed(cfg.SEED)
        return build_trainer(cfg)

    return _build


@pytest.fixture
def interrupt(build):
    """Start a training and stop it when ``epoch`` begins, counted from 0."""

    def _interrupt(cfg, epoch):
        trainer = build(cfg)
        trainer.resume_interval = 0.0
        run_epoch = trainer.run_epoch

        def stop():
            if trainer.epoch == epoch:
                raise KeyboardInterrupt
            run_epoch()

        trainer.run_epoch = stop
        with pytest.raises(KeyboardInterrupt):
            trainer.train()

    return _interrupt
