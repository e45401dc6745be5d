"""What can be done with a finished run, as commands that can be pasted."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipfit.fit.files import CLIP, DELTA, FACTS, tensor_names
from clipfit.fit.files import FOLDER as FIT
from clipfit.io.commands import pasted
from dassl.config import flatten
from dassl.run_folder import checkpoint_folders, read_command, read_config
from launch.registered import protocols


@dataclass(frozen=True)
class Use:
    """Something to do with a run."""

    title: str
    command: str
    remark: str = ""


def uses(folder: Path) -> Iterator[Use]:
    """What there is to do with a run, most useful first. A further use is a further `yield`."""
    models = checkpoint_folders(folder)
    if (folder / FIT / FACTS).is_file():
        fit = str(folder / FIT)
        yield Use(
            "Say what other pictures show",
            pasted(["clipfit", "predict", fit, "new_photos", "--csv", "out.csv"]),
            "Files, folders or patterns; --into DIR copies them into class folders. Corrected, out.csv is a "
            "list to train on: train.py --images out.csv.",
        )
        if any(name.startswith((CLIP, DELTA)) for name in tensor_names(fit)):
            yield Use("See which tensors training changed most", pasted(["clipfit", "diff", fit]))
    if command := command_to_test_again(folder):
        loaded = f"It loads {', '.join(map(str, models.values()))}. " if models else ""
        remark = f"{loaded}With another --dataset, it is tested on that data set."
        yield Use("Test the model again, in another folder", command, remark)
    yield Use(
        "Print this page's numbers, and write the table of classes as CSV",
        pasted(["python", "-m", "report.run", str(folder), "--wrong", "50", "--csv", "classes.csv"]),
    )


def command_to_test_again(folder: Path) -> str:
    """The command that tests the model of a run again; empty where its own command is not known."""
    command = shlex.split(read_command(folder) or "")
    if command[:2] != ["python", "train.py"]:
        return ""
    return pasted(["python", "train.py", *words_to_test_again(folder, command[2:])])


def words_to_test_again(folder: Path, words: list[str]) -> list[str]:
    """The words of a command line of train.py that tests the model of a run again.

    Args: words of the command that made the run
    """
    config = flatten(read_config(folder))
    kept, pairs = (
        _without(words, {"--output-dir", "--resume", "OUTPUT_DIR", "RESUME", "TEST.PREDICTIONS"}),
        [],
    )
    parts = [part for part in folder.parts if part not in (folder.anchor, "..")]
    added = ["--output-dir", str(Path("tested", *parts))]
    if not config["RUN.EVAL_ONLY"]:
        added += ["--eval-only", "--model-dir", str(folder)]
        protocol = protocols().get(config["RUN.PROTOCOL"])
        if protocol and protocol.picks_classes and "DATASET.SUBSAMPLE_CLASSES" not in kept:
            pairs = ["DATASET.SUBSAMPLE_CLASSES", config["DATASET.SUBSAMPLE_CLASSES"]]
    if "--seed" not in kept and "SEED" not in kept:
        added += ["--seed", str(config["SEED"])]
    return [*added, *kept, *pairs]


def _without(words: list[str], names: set[str]) -> list[str]:
    """The words less these flags and keys and the word behind each."""
    kept, rest = [], iter(words)
    for word in rest:
        if word in names:
            next(rest, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept
