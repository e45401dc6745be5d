"""Which folder a run has, whether what lies there is the same run, and the lock that keeps a run alone in it.

What the files in a run folder mean is said in dassl/run_folder.py; when what lies there is the same run, in
compare.py. A run comes here three times: `settle_folders` says where it goes, `finished` whether there is
anything to do, and `claim`, once its config is settled, takes the folder.
"""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from clipfit.io.commands import pasted
from dassl.run_folder import (
    CONFIG,
    LOCK,
    OLD,
    files_of_another_program,
    is_begun,
    read_config,
    read_result,
    set_aside,
    tidy,
    unrecorded,
    write_config,
)

from .arguments import command_line
from .compare import Found, compare, compare_resumed
from .inputs import Inputs
from .registered import plain_name, protocol
from .resolve import Run, resolve_training, trained_alike, variant_suffix

# Keys that a training run may lack when its model is tested with them.
ONLY_FOR_TESTS = {"DATASET.SUBSAMPLE_CLASSES", "RUN.SOURCE", "TEST.SPLIT"}
LOCK_PATIENCE = 10.0  # seconds: loader workers of a killed run may hold its lock for a moment


class FolderInUse(RuntimeError):
    """Another process is running in the folder."""


def settle_folders(args, run: Run) -> None:
    """Write into the config where the run goes, and for a test where the model that it loads lies.

    A finished test whose model is gone keeps the folder that it was in.
    Raises: as :func:`find_trained`
    """
    cfg = run.cfg
    if not run.has_folder:
        cfg.OUTPUT_DIR = cfg.RESUME or str(run_folder(run))
    if run.trained_by and not cfg.RUN.MODEL_DIR:
        try:
            cfg.RUN.MODEL_DIR = str(find_trained(args, run))
        except FileNotFoundError:
            known = (read_result(cfg.OUTPUT_DIR) or {}).get("model_dir")
            if args.redo or not known:
                raise
            cfg.RUN.MODEL_DIR = known


def run_folder(run: Run, output: str = "output") -> Path:
    """``output/<protocol>/<data set>/shots_16/<Trainer>/<config>[-<8 hex>]/seed1`` of a resolved run."""
    cfg = run.cfg
    return (
        Path(output)
        / run.protocol.stage(cfg.RUN.EVAL_ONLY).place
        / (cfg.RUN.DATASET_FILE or cfg.DATASET.NAME)
        / f"shots_{cfg.DATASET.NUM_SHOTS}"
        / cfg.TRAINER.NAME
        / f"{run.config_name}{variant_suffix(run.variant)}"
        / f"seed{cfg.SEED}"
    )


def folders_alike(run: Run, output: str = "output") -> dict[str, Path]:
    """Protocol -> folder that a training has or would have under it, of those that train the same model.

    Its own comes first.
    """
    cfg, own = run.cfg, run.protocol.name
    dataset = plain_name(cfg.DATASET.NAME)
    alike = trained_alike(cfg.TRAINER.NAME, own, dataset, cfg.DATASET.NUM_SHOTS)
    names = [own, *(name for name in alike if name != own)]
    return {name: run_folder(replace(run, protocol=protocol(name)), output) for name in names}


def find_trained(args, run: Run, output: str = "output") -> Path:
    """Folder of the finished training run that the test ``run`` loads.

    It was started with the same pairs, or with those of them that do not only concern the test; under the
    protocol that trains its model, or under one that differs from it in the name only.
    Raises: FileNotFoundError with the command that trains the model; ValueError if no seed says which one
    """
    if run.drew_seed:
        raise ValueError("which of the trained models is to be tested? pass --seed")
    pairs = list(zip(args.pairs[::2], args.pairs[1::2], strict=True))
    lasting = [pair for pair in pairs if pair[0] not in ONLY_FOR_TESTS]
    for chosen in ([pair for pair in pairs if pair[0] != "RUN.SOURCE"], lasting):
        training, trained = resolve_training(args, run, [word for pair in chosen for word in pair])
        folder, *others = folders_alike(trained, output).values()
        for there in (folder, *others):
            if read_result(there) is not None:
                return there
    raise FileNotFoundError(
        f"this test loads the run in {folder}, which is not there or not finished; train it with\n"
        f"  {pasted(command_line(training))}"
    )


def finished(run: Run, inputs: Inputs | None) -> Found | None:
    """What lies in the run's folder if it is a finished run of this experiment; None if there is work to do.

    Where nothing is begun there, a finished training of the same model under another protocol is this run's,
    and its folder is written into the config.
    Raises: ValueError if the folder holds another experiment, which no start would go on with
    """
    found = _compared(run, inputs)
    if found.result is not None:
        return found
    return None if found.begun else _finished_alike(run, inputs)


def _finished_alike(run: Run, inputs: Inputs | None) -> Found | None:
    cfg = run.cfg
    if cfg.RUN.EVAL_ONLY or cfg.RESUME or run.has_folder:
        return None
    _, *others = folders_alike(run).items()
    for name, folder in others:
        try:
            found = compare(folder, cfg, run.declared, inputs, apart=["RUN.PROTOCOL"])
        except (ValueError, FileNotFoundError):  # it is damaged: no reason not to train here
            continue
        if found.result is None or found.different or unrecorded(folder, cfg.TRAIN.RECORD):
            continue
        found.elsewhere = f"Note: the {name} protocol trains the same model; this run need not do it again"
        cfg.OUTPUT_DIR = str(folder)
        return found
    return None


def claim(
    run: Run, command: list[str], inputs: Inputs | None = None, no_train: bool = False, redo: bool = False
) -> Found | None:
    """Take the folder of a run whose config is settled. Returns what is there of a run that is finished.

    An unfinished run of the same experiment is resumed by the trainer, which finds its files there; what the
    user should know of that is added to the notes of ``run``. With ``no_train`` nothing is taken or written.
    With ``redo`` the folder is emptied: what it holds is moved to ``.old/<time>/`` in it.

    Args:   command, the words that made the run, for config.yaml; inputs, what it reads (None: not compared)
    Raises: ValueError if the folder, or that of ``--resume``, holds another experiment, or if the folder
            holds files that are not a run of ours; FolderInUse if another process is running in it
    """
    folder, cfg = Path(run.cfg.OUTPUT_DIR), run.cfg
    if cfg.RESUME:
        _check_resumed(run, inputs)
    if no_train:
        return None
    if foreign := files_of_another_program(folder):
        raise ValueError(
            f"{folder} holds {', '.join(foreign[:3])} but no {CONFIG}, so it is not a run of this program; "
            "choose another --output-dir"
        )
    if not redo and (found := _compared(run, inputs)).result is not None:
        return found
    run.made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    if redo:
        if aside := set_aside(folder):
            run.notes.append(f"--redo: what {folder} held is in {aside}")
    else:
        found = _compared(run, inputs)  # again: another process may have got that far meanwhile
        if found.result is not None:
            return found
        run.notes += [f"Note: {note}" for note in tidy(folder)]
        run.notes += _notes_on_resuming(folder, cfg, found)
    write_config(folder, cfg, command=shlex.join(command))
    return None


def may_discard(run: Run) -> bool:
    """Whether :func:`claim` made the run's folder at this start, and no work was done in it."""
    folder = Path(run.cfg.OUTPUT_DIR)
    return folder in run.made and not is_begun(folder)


def discard(run: Run) -> None:
    """Remove the folder of a run that could not begin, and those around it that the start made too."""
    folder = Path(run.cfg.OUTPUT_DIR)
    release()
    shutil.rmtree(folder)
    for parent in run.made[1:]:
        with suppress(OSError):  # another run has come to lie there
            parent.rmdir()


# What lies there ------------------------------------------------------------------------------------


def _check_resumed(run: Run, inputs: Inputs | None) -> None:
    """Refuse to go on from a run of another experiment; only ``OPTIM.MAX_EPOCH`` may differ."""
    folder = run.cfg.RESUME
    found = compare_resumed(folder, run.cfg, run.declared, inputs)
    if found.different:
        raise ValueError(
            f"--resume {folder}: that run is of another experiment:\n{_listed(found)}\n"
            "give it what it had before, or leave --resume out to start from scratch"
        )


def _notes_on_resuming(folder: Path, cfg, found: Found) -> list[str]:
    """What the user should know before an unfinished run goes on."""
    if not found.begun:
        return []
    notes = list(found.notes)
    if not found.recorded:
        notes.append(
            f"Note: {folder} was begun by a version that did not record all inputs; those that it did record "
            "are the same now"
        )
    before = read_config(folder).get("THREADS")
    if before != cfg.THREADS:
        notes.append(
            f"Warning: this run was begun with THREADS {before} and goes on with {cfg.THREADS}, so its last "
            "bits may differ from those of a run that was not interrupted"
        )
    return notes


def _compared(run: Run, inputs: Inputs | None) -> Found:
    """What lies in the run's folder.

    Raises: ValueError if it is of another experiment, or lacks records that the config asks for
    """
    folder, cfg = Path(run.cfg.OUTPUT_DIR), run.cfg
    if files_of_another_program(folder):
        return Found()
    found = compare(folder, cfg, run.declared, inputs)
    if found.different:
        raise ValueError(
            f"{folder} holds {found.words} of another experiment:\n{_listed(found)}\n"
            "choose another --output-dir, or add --redo, which starts anew and moves what is there to "
            f"{folder / OLD}/<time>/"
        )
    if found.begun and (lacking := unrecorded(folder, cfg.TRAIN.RECORD)):
        raise ValueError(
            f"{folder} holds a run that did not record its {' and '.join(lacking)}; leave TRAIN.RECORD out, "
            "choose another --output-dir, or add --redo, which moves that run aside and starts anew"
        )
    return found


def _listed(found: Found) -> str:
    """A line for everything that differs."""
    return "\n".join(f"  {line}" for line in found.different)


# The lock -------------------------------------------------------------------------------------------


_held = []  # locks of this process; the system drops them when it ends, however it ends


def _lock(folder: Path) -> None:
    lock = FileLock(folder / LOCK, timeout=LOCK_PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUse(
            f"another process is running in {folder}; wait for it, or choose another --output-dir"
        ) from error
    _held.append(lock)


@contextmanager
def kept_free(folder: Path) -> Iterator[bool]:
    """Keep other processes out of a run folder for a moment. Yields False where one is running: at once."""
    if not folder.is_dir():
        yield True
        return
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def release() -> None:
    """Give up the run folders of this process."""
    while _held:
        _held.pop().release()
