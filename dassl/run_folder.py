"""The run folder: the name of every file in it, and what the files mean together. Imports no torch.

begun       something there took work to make
resumable   resume.pt is there (exact), or a checkpoint of a registered model
finished    result.json is there: it is written last, and removes the resume point

Which folder a run has, whose experiment it holds and who may write there is a matter of launch/folder.py.
"""

import itertools
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from clipfit.io.files import (
    LONGEST_NAME,
    atomic_write,
    parse_json,
    printable,
    read_json,
    remove_leftovers,
    write_json,
)

Folder = str | os.PathLike

CONFIG = "config.yaml"  # the resolved config, with the command that made it as first comment
LOG = "log.txt"  # everything printed, a header per start
STARTS = "starts.jsonl"  # a line per start: time, command, commit, versions, device, digests of the inputs
ENVIRONMENT = "environment.json"  # the last line of it, for programs that read one start
FEWSHOT = "fewshot.json"  # the images trained on
PARTS = "parts.csv"  # of own pictures: which are trained on, which tested on, which left out
METRICS = "metrics.jsonl"  # a line per finished step
RESUME_POINT = "resume.pt"  # everything that decides the next bits of an unfinished run
PREDICTIONS = "predictions.jsonl"  # of every picture of the final test (dassl/predictions.py)
PREDICTIONS_GZIP = "predictions.jsonl.gz"  # where there are many
RESULT = "result.json"  # every number of a finished run
PAGE = "report.html"  # what a finished run is, to look at (report/pages/)
TENSORBOARD = "tensorboard"  # folder of event files
CONFUSION_MATRIX = "cmat.pt"  # if TEST.COMPUTE_CMAT
LOGITS = "output.json"  # of every image, if a plugin calls output_test
LOCK = ".lock"  # held by the process that runs there
OLD = ".old"  # folder of what --redo has moved away, a folder per time

# What TRAIN.RECORD may name -> the file that it is written to (docs/recording.md).
RECORD_FILES = {"gradient": "gradient.jsonl", "change": "change.jsonl"}

# A registered model has a folder of its own with these, as in Dassl.
NUMBERED = "model.pth.tar-"  # and the number of finished epochs
BEST = "model-best.pth.tar"  # best on the validation images
POINTER = "checkpoint"  # text: the name of the file that was written last

# What numbers of a result can be at most; none is negative.
LARGEST = {
    **dict.fromkeys(("accuracy", "error_rate", "macro_f1"), 100),
    **dict.fromkeys(("total", "correct", "trainable_params", "train_images", "max_epoch"), math.inf),
    **dict.fromkeys(("seconds_train", "seconds_test", "peak_memory_mb"), math.inf),
}
TEXTS = {"backbone", "config_digest", "model_digest", "precision"}
ROUNDING = 0.01  # points: a plugin may round to two decimals


# Begun, finished ------------------------------------------------------------------------------------


def read_result(folder: Folder) -> dict | None:
    """The result of a finished run, None while there is none.

    Raises: ValueError if the file is damaged, or says what cannot be: 150 %, more correct images than images
    """
    path = Path(folder, RESULT)
    if not path.is_file():
        return None
    result = read_json(path)
    if wrong := _impossible(result):
        raise ValueError(f"{path} is damaged: {wrong}; restore it, or remove it and run again")
    return result


def _impossible(result) -> str:
    """What of a result cannot be, "" if nothing. A key that is not there, or null, is unknown."""
    if not isinstance(result, dict):
        return f"it holds {printable(str(result), 20)}, no result"
    known = {key: value for key, value in result.items() if value is not None}
    for key in TEXTS & known.keys():
        if not isinstance(known[key], str):
            return f"{key} is {known[key]!r}, no text"
    extras = known.get("extras", [])
    if not isinstance(extras, list) or not all(isinstance(word, str) for word in extras):
        return f"extras is {extras!r}, no list of words"
    for key, most in LARGEST.items():
        value = known.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{key} is {value!r}, no number"
        if not 0 <= value <= most + ROUNDING:
            return f"{key} is {value}, which cannot be"
    return _contradiction(known)


def _contradiction(known: dict) -> str:
    """How total, correct and accuracy contradict each other, "" if they do not."""
    if not {"total", "correct"} <= known.keys():
        return ""
    total, correct = known["total"], known["correct"]
    if correct > total:
        return f"{correct} correct images of {total}"
    implied = 100 * correct / total if total else None
    accuracy = known.get("accuracy", implied)
    if implied is not None and abs(accuracy - implied) > ROUNDING:
        return f"accuracy is {accuracy}, but {correct} correct images of {total} are {implied:.2f} %"
    return ""


def write_result(folder: Folder, result: dict) -> None:
    """Mark a run as finished, and drop the resume point that its result supersedes."""
    write_json(result, Path(folder, RESULT))
    Path(folder, RESUME_POINT).unlink(missing_ok=True)


def is_begun(folder: Folder) -> bool:
    """Whether a run has left something there that took work to make."""
    return any(_work(Path(folder)))


def files_of_another_program(folder: Folder) -> list[str]:
    """Files like ours in a folder that says of no run of ours that it is there."""
    folder = Path(folder)
    if (folder / CONFIG).is_file():
        return []
    found = [
        *_work(folder),
        *(path for name in (LOG, PREDICTIONS, STARTS) for path in folder.glob(f"{name}*")),
    ]
    return sorted(str(path.relative_to(folder)) for path in found)


def set_aside(folder: Folder) -> Path | None:
    """Move what a run folder holds to ``.old/<time>/`` in it. Returns that folder; None if there is nothing.

    The caller holds the lock, which stays. If the move is cut short, a second one takes the rest.
    """
    folder = Path(folder)
    paths = [path for path in sorted(folder.iterdir()) if path.name not in (LOCK, OLD)]
    if not paths:
        return None
    aside = _unused(folder / OLD / time.strftime("%Y-%m-%d_%H-%M-%S"))
    aside.mkdir(parents=True)
    for path in sorted(paths, key=lambda path: path.name == CONFIG):  # which says whose the others are
        path.rename(aside / path.name)
    return aside


def _unused(path: Path) -> Path:
    """The path, with a number behind it if that is needed for a new one."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], numbered) if not one.exists())


def _work(folder: Path) -> Iterator[Path]:
    """Files that took work to make."""
    for pattern in (RESULT, RESUME_POINT, f"*/{POINTER}", f"*/{NUMBERED}*", f"*/{BEST}"):
        yield from folder.glob(pattern)
    yield from (path for path in folder.glob(METRICS) if path.stat().st_size)


def tidy(folder: Folder) -> list[str]:
    """Put in order what a killed process has left: temporary files go, pointers name a checkpoint again.

    The caller holds the lock. Returns: what the user should know of it
    """
    folders = [Path(folder), *(path for path in Path(folder).glob("*") if path.is_dir() and path.name != OLD)]
    for one in folders:
        remove_leftovers(one)
    return [note for note in map(repair_pointer, folders) if note]


# What a run says about itself -----------------------------------------------------------------------


def write_config(folder: Folder, cfg, command: str) -> None:
    """Write the resolved config as YAML, with the command that made it as first comment."""
    with atomic_write(Path(folder, CONFIG)) as file:
        file.write(f"# {command}\n{cfg.dump()}")


def read_config(folder: Folder) -> dict:
    """The nested mapping that :func:`write_config` wrote.

    Raises: ValueError naming a damaged file; FileNotFoundError if there is none
    """
    from dassl.config.yaml_files import read_yaml  # here, as what it imports names the files of a run folder

    path = Path(folder, CONFIG)
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); choose another --output-dir") from error
    if not content:
        raise ValueError(f"{path} is damaged: it holds no config; choose another --output-dir")
    return content


def read_command(folder: Folder) -> str | None:
    """The command of the last start, from the first line of config.yaml; None if nothing says it."""
    path = Path(folder, CONFIG)
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if path.is_file() else ""
    return first.removeprefix("# ") if first.startswith("# ") else None


def has_config(folder: Folder) -> bool:
    """Whether the folder says which experiment it holds."""
    return Path(folder, CONFIG).is_file()


def read_environment(folder: Folder) -> dict:
    """Versions, commit, device; empty if a run has not written them. Raises: ValueError for a damaged file"""
    path = Path(folder, ENVIRONMENT)
    environment = read_json(path) if path.is_file() else {}
    if not isinstance(environment, dict):
        raise ValueError(
            f"{path} is damaged: it holds {printable(str(environment), 20)}; restore it or remove it"
        )
    return environment


def read_starts(folder: Folder) -> list[dict]:
    """Every start of a run, oldest first. A run of a version that did not list them has its last one.

    Raises: ValueError with file and line for damage
    """
    path = Path(folder, STARTS)
    if not path.is_file():
        environment = read_environment(folder)
        return [environment] if environment else []
    starts = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        start = parse_json(line, f"{path}, line {number}")
        if not isinstance(start, dict):
            shown = printable(str(start), 20)
            raise ValueError(f"{path}, line {number} is no start: {shown}; restore the file or remove it")
        starts.append(start)
    return starts


def write_start(folder: Folder, start: dict, before: Iterable[dict] = ()) -> int:
    """Add a start to those of a run, and make it the environment. Returns how many there are.

    Args: before, earlier starts of a run in another folder that goes on here
    """
    known = read_starts(folder)
    starts = [*(old for old in before if old not in known), *known, start]
    with atomic_write(Path(folder, STARTS)) as file:
        file.writelines(json.dumps(one) + "\n" for one in starts)
    write_json(start, Path(folder, ENVIRONMENT))
    return len(starts)


def predictions_path(folder: Folder) -> Path | None:
    """The predictions of the final test, compressed or not; None if there are none."""
    paths = (Path(folder, name) for name in (PREDICTIONS, PREDICTIONS_GZIP))
    return next(filter(Path.is_file, paths), None)


def remove_predictions(folder: Folder, but: str = "") -> None:
    """Remove the predictions of an earlier test, except the file of this name."""
    for name in {PREDICTIONS, PREDICTIONS_GZIP} - {but}:
        Path(folder, name).unlink(missing_ok=True)


# Going on with a run --------------------------------------------------------------------------------


def has_resume_point(folder: Folder) -> bool:
    """Whether a run there can go on in the same bits."""
    return Path(folder, RESUME_POINT).is_file()


def is_resumable(folder: Folder, models: Iterable[str]) -> bool:
    """Whether there is something that the training of these registered models may go on from."""
    return has_resume_point(folder) or any(Path(folder, name, POINTER).is_file() for name in models)


def unrecorded(folder: Folder, kinds: Iterable[str]) -> list[str]:
    """The kinds of TRAIN.RECORD that the training in a run folder has left no file of."""
    if not Path(folder, METRICS).is_file():
        return []  # nothing was trained there
    return [kind for kind in sorted(kinds) if not Path(folder, RECORD_FILES.get(kind, "")).is_file()]


def settle_records(folder: Folder, past: Folder, kinds: Iterable[str], models: Iterable[str]) -> None:
    """Make sure that the records in a run folder are without holes when training goes on in it.

    Records that are not asked for would miss what comes now: they are removed.

    Args:   past, the folder that training goes on from: the same, or the one that ``--resume`` names;
            kinds of TRAIN.RECORD; models, the names of the registered models
    Raises: ValueError if there are epochs to go on from that lack an asked record
    """
    for kind in RECORD_FILES.keys() - set(kinds):
        Path(folder, RECORD_FILES[kind]).unlink(missing_ok=True)
    lacking = [kind for kind in kinds if not Path(past, RECORD_FILES[kind]).is_file()]
    if lacking and is_resumable(past, models):
        raise ValueError(
            f"the run in {Path(past)} did not record its {' and '.join(lacking)}; leave TRAIN.RECORD out to "
            "go on with it, or choose another --output-dir to start from scratch"
        )


def take_over(past: Folder, folder: Folder, kinds: Iterable[str]) -> None:
    """Copy what a run that goes on in another folder needs of its past: best models, metrics, records."""
    if os.path.realpath(past) == os.path.realpath(folder):
        return
    steps = [Path(past, name) for name in (METRICS, *(RECORD_FILES[kind] for kind in kinds))]
    for path in [*Path(past).glob(f"*/{BEST}"), *filter(Path.is_file, steps)]:
        target = Path(folder, path.relative_to(past))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


# Checkpoints of a registered model ------------------------------------------------------------------


def checkpoint_name(epoch: int) -> str:
    """The file name of a checkpoint after so many finished epochs."""
    return f"{NUMBERED}{epoch}"


def epoch_of(path: Folder) -> int | None:
    """Finished epochs by the name of a checkpoint; None for the best model, whose name does not say."""
    match = re.fullmatch(re.escape(NUMBERED) + r"(\d+)", Path(path).name)
    return int(match[1]) if match else None


def has_checkpoints(folder: Folder, models: Iterable[str], epoch: int) -> bool:
    """Whether every registered model has a checkpoint of this epoch in a run folder."""
    return all(Path(folder, name, checkpoint_name(epoch)).is_file() for name in models)


def has_best(folder: Folder, models: Iterable[str]) -> bool:
    """Whether a best model is kept of any of these registered models."""
    return any(Path(folder, name, BEST).is_file() for name in models)


def all_checkpoints(folder: Folder) -> list[Path]:
    """The numbered checkpoints of every model in a run folder."""
    return sorted(Path(folder).glob(f"*/{NUMBERED}*"))


def checkpoint_folders(folder: Folder) -> dict[str, Path]:
    """Registered name -> folder of its checkpoints, for every model in a run folder, sorted by name."""
    folders = sorted(path for path in Path(folder).glob("*") if path.is_dir())
    return {path.name: path for path in folders if (path / BEST).is_file() or _numbered_checkpoints(path)}


def run_folder_of_model(path: str, epoch: int | None = None) -> tuple[str, int | None]:
    """The run folder, and the epoch, that a user means who may have named a checkpoint or its folder.

    Args:   path, a run folder, the folder of a registered model in one, or a checkpoint there;
            epoch, None if not given
    Raises: ValueError for another file, or for a checkpoint of another epoch than the one given
    """
    named = Path(path)
    if path and named.is_file():
        numbered = epoch_of(named)
        if numbered is None and named.name != BEST:
            raise ValueError(
                f"{path} is a file; give the run folder, or one of its {NUMBERED}<epoch> or {BEST} files"
            )
        if epoch not in (None, numbered):
            raise ValueError(f"{path} is not the model of epoch {epoch}; give the file or the epoch")
        return _around(named.parent), numbered
    if path and not has_config(named) and (_numbered_checkpoints(named) or (named / BEST).is_file()):
        return _around(named), epoch
    return path, epoch


def _around(folder: Path) -> str:
    return str((folder if folder.name else folder.absolute()).parent)


def newest_checkpoint(fdir: Folder) -> Path | None:
    """The file model.pth.tar-<epoch> with the highest epoch in a model's folder; None if there is none."""
    numbered = _numbered_checkpoints(fdir)
    return numbered[max(numbered)] if numbered else None


def find_checkpoint(fdir: Folder, epoch: int | None = None) -> Path:
    """The checkpoint of `epoch` in a model's folder; without an epoch the best model, else the newest.

    Raises: FileNotFoundError that lists the saved epochs
    """
    numbered = _numbered_checkpoints(fdir)
    if epoch is None:
        best = Path(fdir, BEST)
        if best.is_file():
            return best
        epoch = max(numbered, default=None)
    if epoch not in numbered:
        saved = f"saved: {', '.join(map(str, sorted(numbered)))}" if numbered else "none is saved"
        what = "checkpoint" if epoch is None else f"checkpoint of epoch {epoch}"
        raise FileNotFoundError(
            f"no {what} in {fdir} ({saved}); pass --load-epoch with a saved epoch, "
            "or finish the run with train.py"
        )
    return numbered[epoch]


def pointed_at(fdir: Folder) -> Path:
    """The checkpoint that was written last, by the pointer in a model's folder.

    Raises: FileNotFoundError if there is no pointer; ValueError if it is damaged or points out of the folder
    """
    pointer = Path(fdir, POINTER)
    if not pointer.is_file():
        raise FileNotFoundError(f"no checkpoint in {fdir} to resume from")
    name = pointer.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    impossible = "\0" in name or len(os.fsencode(name)) > LONGEST_NAME
    if impossible or name in ("", "..") or name != Path(name).name:
        raise ValueError(
            f"{pointer} names {name[:80]!r}, which is not a file of its own folder; write the name of a "
            "checkpoint into it, or remove it"
        )
    return Path(fdir, name)


def repair_pointer(fdir: Folder) -> str | None:
    """Let the pointer in a model's folder name a checkpoint that is there: the newest, else the best model.

    Returns: what was wrong and what was done; None if nothing was wrong
    """
    pointer = Path(fdir, POINTER)
    if not pointer.is_file():
        return None
    try:
        if pointed_at(fdir).is_file():
            return None
    except ValueError:  # empty or damaged
        pass
    best = Path(fdir, BEST)
    found = newest_checkpoint(fdir) or (best if best.is_file() else None)
    if found is None:
        pointer.unlink()
        return f"{pointer} named no checkpoint, and there is none: it was removed"
    point_at(fdir, found.name)
    return f"{pointer} named no checkpoint: it names {found.name} now"


def point_at(fdir: Folder, name: str) -> None:
    """Say which checkpoint in a model's folder was written last."""
    with atomic_write(Path(fdir, POINTER)) as file:
        file.write(name + "\n")


def _numbered_checkpoints(fdir: Folder) -> dict[int, Path]:
    """Epoch -> file."""
    if not os.path.isdir(fdir):
        return {}
    epochs = {path: epoch_of(path) for path in Path(fdir).iterdir()}
    return {epoch: path for path, epoch in epochs.items() if epoch is not None}
