"""The run folder: where it lies, what an existing one means, and the lock that keeps a run alone in it."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dassl.config import RECORD_FILES
from dassl.config.identity import differences, read_config, write_config
from dassl.utils import read_json

from .arguments import command_line
from .resolve import Run, resolve_training, variant_suffix

CONFIG = "config.yaml"

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


def claim(folder: Path, cfg, command: list[str]) -> dict | None:
    """Take a run folder for this config. Returns the result of a run that is finished already, else None.

    An unfinished run of the same config is resumed by the trainer, which finds its files there.
    Raises: ValueError if the folder holds another experiment or files that are not a run of ours;
            RuntimeError if another process is running in it.
    """
    if foreign := _files_of_another_program(folder):
        raise ValueError(
            f"{folder} holds {', '.join(foreign)} but no config.yaml, so it is not a run of this program; "
            "choose another --output-dir"
        )
    if (result := _finished(folder, cfg)) is not None:
        return result
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    if (result := _finished(folder, cfg)) is not None:  # another process may have got that far meanwhile
        return result
    write_config(cfg, folder / CONFIG, command=shlex.join(command))
    return None


def notes_on_resuming(folder: Path, cfg) -> list[str]:
    """What the user should know before an unfinished run goes on; to be asked before :func:`claim`."""
    if read_result(folder) is not None or not has_progress(folder) or not (folder / CONFIG).is_file():
        return []
    before = read_config(folder / CONFIG).get("THREADS")
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
    if result is None and not has_progress(folder):
        return None
    if changed := differences(read_config(folder / CONFIG), cfg):
        lines = "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, (old, new) in changed.items())
        raise ValueError(
            f"{folder} holds {'an unfinished' if result is None else 'a finished'} run with another config:\n"
            f"{lines}\nchoose another --output-dir, or delete that folder"
        )
    if lacking := unrecorded(folder, cfg.TRAIN.RECORD):
        raise ValueError(
            f"{folder} holds a run that did not record its {' and '.join(lacking)}; leave TRAIN.RECORD out, "
            "choose another --output-dir, or move that folder away"
        )
    return result


def unrecorded(folder: Path, kinds: Iterable[str]) -> list[str]:
    """The kinds of TRAIN.RECORD that the training in a run folder has left no file of."""
    if not (folder / "metrics.jsonl").is_file():
        return []  # nothing was trained there
    return [kind for kind in sorted(kinds) if not (folder / RECORD_FILES.get(kind, "")).is_file()]


def check_resume(folder: str, cfg) -> None:
    """Refuse to go on from a run of another experiment; only ``OPTIM.MAX_EPOCH`` may differ."""
    path = Path(folder) / CONFIG
    changed = differences(read_config(path), cfg) if path.is_file() else {}
    changed.pop("OPTIM.MAX_EPOCH", None)
    if changed:
        lines = "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, (old, new) in changed.items())
        raise ValueError(f"--resume {folder}: that run has another config:\n{lines}\ngive the same settings")


def read_result(folder: str | Path) -> dict | None:
    """The result of a finished run, None while there is none."""
    path = Path(folder) / "result.json"
    return read_json(path) if path.is_file() else None


def _files_of_another_program(folder: Path) -> list[str]:
    if (folder / CONFIG).is_file():
        return []
    return sorted(str(path.relative_to(folder)) for path in (*_progress(folder), *folder.glob("log.txt*")))[
        :3
    ]


def has_progress(folder: Path) -> bool:
    """Whether a run has left something there that took work to make."""
    return any(_progress(folder))


def _progress(folder: Path) -> Iterator[Path]:
    """Files that took work to make."""
    for pattern in ("result.json", "resume.pt", "*/checkpoint", "*/model.pth.tar-*", "*/model-best.pth.tar"):
        yield from folder.glob(pattern)
    yield from (path for path in folder.glob("metrics.jsonl") if path.stat().st_size)


_held = []  # locks of this process; the system drops them when it ends, however it ends


def _lock(folder: Path) -> None:
    lock = FileLock(folder / ".lock", timeout=LOCK_PATIENCE)
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
