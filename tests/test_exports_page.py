"""docs/exports.md: its commands run in their order, and print what it shows."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from clipfit.cli import main

PROJECT = Path(__file__).parent.parent
PAGE = (PROJECT / "docs/exports.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
TRAINING, *COMMANDS = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
SHOWN = [block for kind, block in BLOCKS if kind == "" and " files, " in block]


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxscript")), reason="pip install onnx onnxscript")
def test_the_commands_print_what_is_shown(demo_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program, script, *words = shlex.split(TRAINING)
    command = [sys.executable, str(PROJECT / script), *words, "OPTIM.MAX_EPOCH", "1"]
    environment = {**os.environ, "DATA": str(demo_root)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    capsys.readouterr()
    for command in COMMANDS:
        assert main(shlex.split(command)[1:]) == 0, command
    printed = without_sizes(capsys.readouterr().out)
    assert len(COMMANDS) == 5 and len(SHOWN) == 2
    for block in SHOWN:
        assert without_sizes(block) in printed


def without_sizes(text):
    return re.sub(r"[\d.,]+ (MB|kB)", r"\1", text)
