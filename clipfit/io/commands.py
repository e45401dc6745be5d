"""What every command line of the project shares: strict flags, the data root, commands that can be pasted."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from clipfit.io.names import nearest

CHOOSES_A_GPU = "the environment chooses the GPU: CUDA_VISIBLE_DEVICES=0 before the command"
GPU_FLAGS = ("--gpu", "--gpus", "--gpu-id", "--gpu_id", "--gpu-ids", "--device", "--device-id", "--cuda")
PATH = os.path.expanduser  # type of a flag that is a path: ~ is the home folder


def default_root() -> str:
    """Folder of the data sets where nobody names one: ``$DATA``, else ``data``."""
    return os.path.expanduser(os.environ.get("DATA") or "data")


class Parser(argparse.ArgumentParser):
    """Flags are given in full. A mistake ends in one line, exit status 2; a wrong flag gets its nearest.

    Args: prog, the command, such as ``python train.py``, which messages show as it can be pasted;
          other_words, flag of other programs -> what to do here instead; beside those of argparse
    """

    def __init__(self, prog: str, *args, other_words: Mapping[str, str] | None = None, **kwargs):
        prog = pasted(prog.split()) if prog.startswith("python ") else prog
        super().__init__(prog, *args, **{"allow_abbrev": False, **kwargs})
        self.other_words = {**dict.fromkeys(GPU_FLAGS, CHOOSES_A_GPU), **(other_words or {})}

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but there is no unknown argument: also a sub-command's own parser refuses it."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._refusal(unknown[0]))
        return namespace, []

    def _refusal(self, word: str) -> str:
        flag = word.partition("=")[0]
        if not flag.startswith("-"):
            return f"unexpected argument {word!r}"
        if flag in self.other_words:
            return f"unknown flag {flag}; {self.other_words[flag]}"
        known = [known for known in self._option_string_actions if known.startswith("--")]
        guess = nearest(flag, known)
        return f"unknown flag {flag}" + (f"; did you mean {guess}?" if guess else "")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} ({self.prog} --help lists all flags)\n")


def pasted(command: Sequence[str]) -> str:
    """A command as a line for the user's shell. A first word ``python`` becomes the Python that runs now.

    That is ``python`` where the shell finds this one by that name, else its own name or path. ``clipfit``
    stays where the shell finds that of this Python, else it becomes ``python -m clipfit``.
    """
    first, *words = command
    if first == "clipfit" and not _is_beside_python(shutil.which("clipfit")):
        first, words = "python", ["-m", "clipfit", *words]
    return shlex.join([_this_python() if first == "python" else first, *words])


def _is_beside_python(found: str | None) -> bool:
    return found is not None and os.path.dirname(os.path.abspath(found)) == os.path.dirname(sys.executable)


def _this_python() -> str:
    program = sys.executable
    if not program:
        return "python3"
    for name in ("python", os.path.basename(program)):
        found = shutil.which(name)
        if _is_beside_python(found) and os.path.samefile(found, program):
            return name
    below = os.path.relpath(program) if os.path.splitdrive(program)[0] == "" else program
    return program if below.startswith(os.pardir) else below
