"""Runs a training that ends at given moments, then again to the end. See test_resume.py and test_signals.py.

python kill_worker.py [--record] <folder> <trainer> <moment> [<moment> ...]
It kills itself (SIGKILL). A moment is ``step:<n>``, in the n-th training step, or ``<file>:<n>``, just before
the n-th time that a file of that name replaces its predecessor. --record: with TRAIN.RECORD.

python kill_worker.py --stop <times> <folder> <trainer>
One training is stopped so many times: a random number of steps after every start, SIGTERM and SIGUSR1 in turn
come to its process and loader workers.
"""

import os
import random
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3])]

import torch  # noqa: E402
from plugins import make_cfg  # noqa: E402

from dassl.engine import TRAINER_REGISTRY, build_trainer  # noqa: E402
from dassl.utils import set_random_seed, setup_logger  # noqa: E402
from dassl.utils.stop_signals import STATUS, Stopped, obeyed  # noqa: E402


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


def run_obediently(folder: str, trainer: str, name: str, workers: int, begun: int) -> None:
    """A training of many short epochs that obeys signals; ``begun`` is a pipe that hears of every step."""
    cfg = make_cfg(
        folder,
        trainer,
        OUTPUT_DIR=f"{folder}/{name}",
        OPTIM__MAX_EPOCH=40,
        DATALOADER__NUM_WORKERS=workers,
        DATALOADER__TRAIN_X__BATCH_SIZE=1,
        TRAIN__PRINT_FREQ=1,
        TRAIN__RECORD=["gradient", "change"],
        TEST__NO_TEST=True,
    )
    trainer_class = TRAINER_REGISTRY.get(trainer)
    original = trainer_class.forward_backward

    def forward_backward(self, batch):
        os.write(begun, b".")
        return original(self, batch)

    trainer_class.forward_backward = forward_backward
    set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    with obeyed():
        build_trainer(cfg).train()


def run_in_child(*arguments, function=run) -> int:
    """Exit status of a function, negative for a signal, in a process of its own."""
    return _status(_fork(function, *arguments))


def stop_in_child(steps: int, stop_by: signal.Signals, *arguments) -> int:
    """Exit status of ``run_obediently``, whose process group gets a signal when so many steps have begun."""
    read, write = os.pipe()
    pid = _fork(run_obediently, *arguments, write)
    os.close(write)
    while steps > 0 and (told := os.read(read, steps)):
        steps -= len(told)
    os.killpg(pid, stop_by)
    status = _status(pid)
    os.close(read)
    return status


def _fork(function, *arguments) -> int:
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        try:
            function(*arguments)
        except Stopped as stop:
            print(stop.words)
            os._exit(stop.code)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stop_often(times: int, folder: str, trainer: str) -> None:
    import torch.utils.tensorboard  # noqa: F401 - once, for all children

    draw = random.Random(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    assert run_in_child(folder, trainer, "undisturbed", 0, nowhere, function=run_obediently) == 0
    for number in range(times):
        stop_by = (signal.SIGTERM, signal.SIGUSR1)[number % 2]
        status = stop_in_child(draw.randint(1, 5), stop_by, folder, trainer, "stopped", 2)
        assert status == STATUS, (number, status)
    assert run_in_child(folder, trainer, "stopped", 2, nowhere, function=run_obediently) == 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "--stop":
        stop_often(int(sys.argv[2]), *sys.argv[3:])
        sys.exit()
    record = ["gradient", "change"] if "--record" in sys.argv else []
    folder, trainer, *moments = (word for word in sys.argv[1:] if word != "--record")
    assert run_in_child(folder, trainer, None, record) == 0
    for moment in moments:
        assert run_in_child(folder, trainer, moment, record) == -signal.SIGKILL, moment
        assert run_in_child(folder, trainer, moment, record) == 0, moment
