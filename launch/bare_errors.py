"""Errors that do not say what is wrong, such as the bare KeyError of a plugin. Imports no torch."""

import re
import traceback
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PLUGIN_FOLDERS = ("trainers", "datasets")
OF_A_WORKER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback")
RAISED = re.compile(r"^(?:\w+\.)*\w+(?:Error|Exception|Bomb|Warning|Interrupt|Iteration): ", re.MULTILINE)
NEED_A_PLACE = (AssertionError, AttributeError, IndexError)  # never written for users


def message_of(error: BaseException) -> str:
    """The text of an error for people: its own where that is a sentence, else :func:`described`."""
    return described(error) if is_bare(error) else _text(error)


def is_bare(error: BaseException) -> bool:
    """Whether the text of an error needs its type and its place: there is none, or it is a key or one word.

    A KeyError that no ``raise`` statement raised holds the key of a failed lookup, and a key may have spaces.
    """
    if isinstance(error, NEED_A_PLACE) or len(_text(error).split()) < 2:
        return True
    return isinstance(error, KeyError) and not _raised_on_purpose(error)


def described(error: BaseException, trainer: str = "") -> str:
    """``KeyError in trainers/mmrl.py, line 31 (trainer MMRL): a lookup of 'ViT-B/99' failed``.

    If the last call was outside the folders of plugins, the plugin's line that led there is named too.

    Args: trainer whose run it was, if that is known
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = [_place(frames[-1])] if frames else []
    if led_there := [frame for frame in frames if _is_of_a_plugin(frame)]:
        places += [f"called by {_place(led_there[-1])}"] if led_there[-1] is not frames[-1] else []
    where = f" in {', '.join(places)}" if places else ""
    whose = f" (trainer {trainer})" if trainer else ""
    what = _text(error) or (frames[-1].line if frames else "")
    if isinstance(error, KeyError) and error.args:
        what = f"a lookup of {error.args[0]!r} failed"
    return f"{type(error).__name__}{where}{whose}{': ' if what else ''}{what}"


def _text(error: BaseException) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return _of_worker(text) if OF_A_WORKER.match(text) else text


def _of_worker(text: str) -> str:
    """What an exception says whose text is the traceback of a loader worker.

    The last line that starts with an exception's name begins it; the traceback goes to the log.
    """
    last = list(RAISED.finditer(text))
    return text[last[-1].end() :].strip() if last else text


def _raised_on_purpose(error: KeyError) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or frames[-1].line.startswith("raise")


def _is_of_a_plugin(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).parent in [PROJECT / folder for folder in PLUGIN_FOLDERS]


def _place(frame: traceback.FrameSummary) -> str:
    path = Path(frame.filename)
    shown = path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path
    return f"{shown}, line {frame.lineno}"
