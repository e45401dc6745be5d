"""Which folder a run has, whether what lies there is the same run, and the lock that keeps a run alone in it.

What the files in a run folder mean is said in dassl/run_folder.py. A run comes here twice: `settle_folders`
says where it goes, and `claim`, once its config is settled, compares what lies there and takes the folder.
"""

import shlex
from pathlib import Path

from filelock import FileLock, Timeout

from dassl.config.identity import differences
from dassl.run_folder import (
    CONFIG,
    LOCK,
    files_of_another_program,
    has_config,
    is_begun,
    read_config,
    read_result,
    unrecorded,
    write_config,
)

from .arguments import command_line
from .resolve import Run, resolve_training, variant_suffix

# protocol -> parts of the path for a training run and for a test of a trained model
PLACES = {
    "base2new": ("base2new/train_base", "base2new/test_new"),
    "few_shot": ("few_shot", "few_shot_test"),
    "cross_dataset": ("cross_dataset/train", "cross_dataset/test"),
    "domain_shift": ("domain_shift/train", "domain_shift/test"),
    "": ("custom/train", "custom/test"),
}
# Keys that a training run may lack when its model is tested with them.
ONLY_FOR_TESTS = {"DATASET.SUBSAMPLE_CLASSES", "RUN.SOURCE", "TEST.SPLIT"}
LOCK_PATIENCE = 10.0  # seconds: loader workers of a killed run may hold its lock for a moment


def settle_folders(args, run: Run) -> None:
    """Write into the config where the run goes, and for a test where the model that it loads lies.

    Raises: as :func:`find_trained`
    """
    cfg = run.cfg
    if not run.has_folder:
        cfg.OUTPUT_DIR = cfg.RESUME or str(run_folder(run))
    if run.trained_by and not cfg.RUN.MODEL_DIR:
        cfg.RUN.MODEL_DIR = str(find_trained(args, run))


def run_folder(run: Run, output: str = "output") -> Path:
    """``output/<protocol>/<data set>/shots_16/<Trainer>/<config>[-<8 hex>]/seed1`` of a resolved run."""
    cfg = run.cfg
    return (
        Path(output)
        / PLACES[cfg.RUN.PROTOCOL][cfg.RUN.EVAL_ONLY]
        / (cfg.RUN.DATASET_FILE or cfg.DATASET.NAME)
        / f"shots_{cfg.DATASET.NUM_SHOTS}"
        / cfg.TRAINER.NAME
        / f"{run.config_name}{variant_suffix(run.variant)}"
        / f"seed{cfg.SEED}"
    )


def find_trained(args, run: Run, output: str = "output") -> Path:
    """Folder of the finished training run that the test ``run`` loads.

    It was started with the same pairs, or with those of them that do not only concern the test.
    Raises: FileNotFoundError with the command that trains the model; ValueError if no seed says which one
    """
    if run.drew_seed:
        raise ValueError("which of the trained models is to be tested? pass --seed")
    pairs = list(zip(args.pairs[::2], args.pairs[1::2], strict=True))
    lasting = [pair for pair in pairs if pair[0] not in ONLY_FOR_TESTS]
    for chosen in ([pair for pair in pairs if pair[0] != "RUN.SOURCE"], lasting):
        training, trained = resolve_training(args, run, [word for pair in chosen for word in pair])
        folder = run_folder(trained, output)
        if read_result(folder) is not None:
            return folder
    raise FileNotFoundError(
        f"this test loads the run in {folder}, which is not there or not finished; train it with\n"
        f"  {shlex.join(command_line(training))}"
    )


def claim(run: Run, command: list[str], no_train: bool = False) -> dict | None:
    """Take the folder of a run whose config is settled. Returns the result of a run that is finished already.

    An unfinished run of the same config is resumed by the trainer, which finds its files there; what the user
    should know of that is added to the notes of ``run``. With ``no_train`` nothing is taken or written.

    Args:   command, the words that made the run, for config.yaml
    Raises: ValueError if the folder, or that of ``--resume``, holds another experiment, or if the folder
            holds files that are not a run of ours; RuntimeError if another process is running in it
    """
    folder, cfg = Path(run.cfg.OUTPUT_DIR), run.cfg
    if cfg.RESUME:
        _check_resumed(cfg)
    if no_train:
        return None
    run.notes += _notes_on_resuming(folder, cfg)
    if foreign := files_of_another_program(folder):
        raise ValueError(
            f"{folder} holds {', '.join(foreign[:3])} but no {CONFIG}, so it is not a run of this program; "
            "choose another --output-dir"
        )
    if (result := _finished(folder, cfg)) is not None:
        return result
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    if (result := _finished(folder, cfg)) is not None:  # another process may have got that far meanwhile
        return result
    write_config(folder, cfg, command=shlex.join(command))
    return None


# What lies there ------------------------------------------------------------------------------------


def _check_resumed(cfg) -> None:
    """Refuse to go on from a run of another experiment; only ``OPTIM.MAX_EPOCH`` may differ."""
    changed = differences(read_config(cfg.RESUME), cfg) if has_config(cfg.RESUME) else {}
    changed.pop("OPTIM.MAX_EPOCH", None)
    if changed:
        raise ValueError(
            f"--resume {cfg.RESUME}: that run has another config:\n{_listed(changed)}\ngive the same settings"
        )


def _notes_on_resuming(folder: Path, cfg) -> list[str]:
    """What the user should know before an unfinished run goes on."""
    if read_result(folder) is not None or not is_begun(folder) or not has_config(folder):
        return []
    before = read_config(folder).get("THREADS")
    if before == cfg.THREADS:
        return []
    return [
        f"Warning: this run was begun with THREADS {before} and goes on with {cfg.THREADS}, so its last bits "
        "may differ from those of a run that was not interrupted"
    ]


def _finished(folder: Path, cfg) -> dict | None:
    """The result if the folder holds one of this config.

    Raises: ValueError if it holds another's, or a run without the records that the config asks for
    """
    result = read_result(folder)
    if result is None and not is_begun(folder):
        return None
    if changed := differences(read_config(folder), cfg):
        raise ValueError(
            f"{folder} holds {'an unfinished' if result is None else 'a finished'} run with another config:\n"
            f"{_listed(changed)}\nchoose another --output-dir, or delete that folder"
        )
    if lacking := unrecorded(folder, cfg.TRAIN.RECORD):
        raise ValueError(
            f"{folder} holds a run that did not record its {' and '.join(lacking)}; leave TRAIN.RECORD out, "
            "choose another --output-dir, or move that folder away"
        )
    return result


def _listed(changed: dict[str, tuple]) -> str:
    """A line per key that differs, with both values."""
    return "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, (old, new) in changed.items())


# The lock -------------------------------------------------------------------------------------------


_held = []  # locks of this process; the system drops them when it ends, however it ends


def _lock(folder: Path) -> None:
    lock = FileLock(folder / LOCK, timeout=LOCK_PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise RuntimeError(
            f"another process is running in {folder}; wait for it, or choose another --output-dir"
        ) from error
    _held.append(lock)


def release() -> None:
    """Give up the run folders of this process."""
    while _held:
        _held.pop().release()
