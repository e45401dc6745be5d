"""The run folder: where it lies, what an existing one means, and the lock that keeps a run alone in it."""

import json
import shlex
from pathlib import Path

from filelock import FileLock, Timeout

from dassl.config.identity import differences, read_config, write_config

from .resolve import ONLY_FOR_TESTS, Run, variant_suffix

# protocol -> parts of the path for a training run and for a test of a trained model
PLACES = {
    "base2new": ("base2new/train_base", "base2new/test_new"),
    "few_shot": ("few_shot", "few_shot_test"),
    "cross_dataset": ("cross_dataset/train", "cross_dataset/test"),
    "domain_shift": ("domain_shift/train", "domain_shift/test"),
    "": ("custom/train", "custom/test"),
}
TRANSFERS = ("cross_dataset", "domain_shift")  # tests on another data set than was trained on


def run_folder(run: Run, output: str = "output") -> Path:
    """``output/<protocol>/<data set>/shots_16/<Trainer>/<config>[-<8 hex>]/seed1`` of a resolved run."""
    cfg = run.cfg
    place = PLACES[cfg.RUN.PROTOCOL][cfg.RUN.EVAL_ONLY]
    dataset = cfg.RUN.DATASET_FILE or cfg.DATASET.NAME
    return _folder(cfg, Path(output, place, dataset), run.config_name, run.variant)


def trained_folder(run: Run, output: str = "output") -> Path:
    """Folder of the training run that the test ``run`` loads."""
    variant = {key: value for key, value in run.variant.items() if key not in ONLY_FOR_TESTS}
    place, dataset = PLACES[run.trained_by][0], trained_on(run)
    return _folder(run.cfg, Path(output, place, dataset), run.config_name, variant)


def trained_on(run: Run) -> str:
    """Stem of the YAML of the data set that the model of the test ``run`` was trained on."""
    return run.cfg.RUN.SOURCE if run.cfg.RUN.PROTOCOL in TRANSFERS else run.cfg.RUN.DATASET_FILE


def _folder(cfg, head: Path, config_name: str, variant: dict) -> Path:
    return (
        head
        / f"shots_{cfg.DATASET.NUM_SHOTS}"
        / cfg.TRAINER.NAME
        / f"{config_name}{variant_suffix(variant)}"
        / f"seed{cfg.SEED}"
    )


def claim(folder: Path, cfg, command: list[str]) -> dict | None:
    """Take a run folder for this config. Returns the result of a run that is finished already, else None.

    An unfinished run of the same config is resumed by the trainer, which finds its files there.
    Raises: ValueError if the folder holds another experiment or files that are not a run of ours;
            RuntimeError if another process is running in it.
    """
    config_file = folder / "config.yaml"
    if config_file.is_file():
        changed = differences(read_config(config_file), cfg)
        if changed:
            lines = "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, (old, new) in changed.items())
            state = "a finished" if (folder / "result.json").is_file() else "an unfinished"
            raise ValueError(
                f"{folder} holds {state} run with another config:\n{lines}\n"
                "choose another --output-dir, or delete that folder"
            )
        if (result := read_result(folder)) is not None:
            return result
    elif foreign := _files_of_a_run(folder):
        raise ValueError(
            f"{folder} holds {', '.join(foreign)} but no config.yaml, so it is not a run of this program; "
            "choose another --output-dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    write_config(cfg, config_file, command=shlex.join(command))
    return None


def read_result(folder: str | Path) -> dict | None:
    """The result of a finished run, None while there is none."""
    path = Path(folder) / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _files_of_a_run(folder: Path) -> list[str]:
    patterns = ("log.txt*", "result.json", "resume.pt", "*/checkpoint", "*/model.pth.tar-*")
    return sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern))[:3]


_held = []  # locks of this process; the system drops them when it ends, however it ends


def _lock(folder: Path) -> None:
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RuntimeError(
            f"another process is running in {folder}; wait for it, or choose another --output-dir"
        ) from error
    _held.append(lock)
