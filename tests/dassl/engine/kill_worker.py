"""Runs a training that kills itself (SIGKILL) at a given moment, then again to the end. See test_resume.py.

python kill_worker.py [--record] <folder> <trainer> <moment> [<moment> ...]
A moment is ``step:<n>``, in the n-th training step, or ``<file>:<n>``, just before the n-th time that a file
of that name replaces its predecessor. --record: with TRAIN.RECORD.
"""

import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3])]

import torch  # noqa: E402
from plugins import make_cfg  # noqa: E402

from dassl.engine import TRAINER_REGISTRY, build_trainer  # noqa: E402
from dassl.utils import set_random_seed  # noqa: E402


def kill_at(moment: str, trainer_class) -> None:
    name, count = moment.rsplit(":", 1)
    left = int(count)

    def countdown():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if name == "step":
        original = trainer_class.forward_backward

        def forward_backward(self, batch):
            countdown()
            return original(self, batch)

        trainer_class.forward_backward = forward_backward
    else:
        replace = os.replace

        def watched(source, target):
            if os.path.basename(target) == name:
                countdown()
            replace(source, target)

        os.replace = watched


def run(folder: str, trainer: str, moment: str | None, record: list[str]) -> None:
    cfg = make_cfg(
        folder,
        trainer,
        OUTPUT_DIR=f"{folder}/{(moment or 'undisturbed').replace(':', '-')}",
        OPTIM__MAX_EPOCH=5,
        TEST__FINAL_MODEL="best_val",
        TRAIN__CHECKPOINT_FREQ=2,
        TRAIN__RECORD=record,
    )
    trainer_class = TRAINER_REGISTRY.get(trainer)
    trainer_class.resume_interval = 0.0
    if moment and not os.path.isdir(cfg.OUTPUT_DIR):
        kill_at(moment, trainer_class)
    set_random_seed(cfg.SEED)
    build_trainer(cfg).train()


def run_in_child(*arguments) -> int:
    """Exit status of ``run``, negative for a signal, in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            run(*arguments)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    record = ["gradient", "change"] if "--record" in sys.argv else []
    folder, trainer, *moments = (word for word in sys.argv[1:] if word != "--record")
    assert run_in_child(folder, trainer, None, record) == 0
    for moment in moments:
        assert run_in_child(folder, trainer, moment, record) == -signal.SIGKILL, moment
        assert run_in_child(folder, trainer, moment, record) == 0, moment
