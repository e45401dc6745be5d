"""CONTRIBUTING's walk, in a copy of the project: a method is dropped in, trained, reported and shipped."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
FOLDERS = (
    *("clipfit", "configs", "dassl", "datasets", "grid", "launch", "paper", "papers", "report", "scripts"),
    *("tests", "trainers"),
)
SECTION = re.search(
    r"## A new method\n(.*?)\n## ", (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
)[1]
FILES = dict(re.findall(r"`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)```", SECTION, re.DOTALL))
FIRST, LAST = (block.splitlines() for block in re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL))
EXAMPLE = re.search(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
DEFAULTS = re.search(r"    defaults = .*\n", EXAMPLE)[0]


@pytest.fixture
def shell(tmp_path, demo_root):
    """Run a command in a copy of the project whose trainings are short; returns all that it printed."""
    project = tmp_path / "project"
    for name in FOLDERS:
        skipped = shutil.ignore_patterns("__pycache__", "fixtures")
        shutil.copytree(PROJECT / name, project / name, symlinks=True, ignore=skipped)
    for name in ("train.py", "reproduce.py", "pyproject.toml"):
        shutil.copy(PROJECT / name, project)
    shared = project / "configs/_base_/clip.yaml"
    shared.write_text(shared.read_text().replace("MAX_EPOCH: 100", "MAX_EPOCH: 2"))
    environment = {
        **os.environ,
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATA": str(demo_root),
    }

    def run(command, status=0):
        done = subprocess.run(
            command, shell=True, cwd=project, env=environment, capture_output=True, text=True
        )
        printed = done.stdout + done.stderr
        assert done.returncode == status, f"{command}\n{printed}"
        return printed

    run.project = project
    run.data = f"--root {demo_root}"
    return run


@pytest.mark.slow
def test_a_method_is_dropped_in_and_shipped_as_contributing_says(shell):
    method = shell.project / "trainers/feature_scale.py"
    method.write_text(EXAMPLE)
    assert len(EXAMPLE.splitlines()) <= 36

    # As a single file
    train, test, reproduce = FIRST
    assert "FeatureScale, base2new: no recipe, the method's defaults" in shell(train)
    assert "=> result" in shell(test)
    assert "FeatureScale" in shell("python train.py --help")
    assert "FeatureScale" in shell("bash scripts/few_shot.sh", status=2)
    printed = shell(f"{reproduce} {shell.data}")
    assert "FeatureScale: no recipe, the method's defaults." in printed
    assert "ZeroshotCLIP − FeatureScale" in printed and "Runs: 4 done" in printed
    made = {path.suffix: path.read_text() for path in (shell.project / "output/report").rglob("table1*.*")}
    made[".html"] = (shell.project / "output/report/report.html").read_text()
    assert all("FeatureScale" in made[kind] for kind in (".html", ".tex", ".csv"))

    # Its results outlive it
    method.unlink()
    rows = [line for line in printed.splitlines() if line.startswith(("base ", "new ", "HM "))]
    reported = shell(f"{reproduce.replace(' run ', ' report ')} {shell.data}")
    assert [line for line in reported.splitlines() if line.startswith(("base ", "new ", "HM "))] == rows
    assert "4 runs, 0 to do" in shell(f"{reproduce} {shell.data}")
    assert "unknown trainer 'FeatureScale'" in shell(train, status=1)

    # Shipped
    method.write_text(EXAMPLE)
    for path, content in FILES.items():
        (shell.project / path).parent.mkdir(exist_ok=True)
        (shell.project / path).write_text(content)
    twice = shell(train, status=1)
    for part in ("trainers/feature_scale.py", "PREC, PULL", "configs/trainers/FeatureScale.yaml"):
        assert part in twice
    method.write_text(EXAMPLE.replace(DEFAULTS, ""))
    link, *others = LAST
    assert "scripts/feature_scale" in shell("python -m pytest -q tests/launch/test_scripts.py", status=1)
    for command in (link, *others, "python -m pytest -q tests/launch/test_scripts.py"):
        shell(command)
    planned = shell(f"python reproduce.py plan table1 --datasets demo --methods feature_scale {shell.data}")
    assert "no recipe" not in planned
    assert "usage" in shell("bash scripts/feature_scale/few_shot.sh", status=2)
