"""A trainer whose results change says so by its version; a short recorded training notices when it forgets.

After a change that is meant to change results, raise ``version`` of the trainers concerned and record anew:

python -m tests.trainers.test_versions
"""

import json
import tempfile
from pathlib import Path

import pytest

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import close_logger
from launch.resolve import PROJECT, shipped_trainers

TRAJECTORIES = Path(__file__).with_name("trajectories.json")
ROUNDING = 1e-3  # relative: processors round differently, changes of a method show far above it


def trajectory(method: str, root: str, folder: str) -> dict:
    """Losses of two epochs on a small data set, and what the trained model then gets right."""
    try:
        train.run_command(
            [
                *("--trainer", method, "--protocol", "few_shot", "--shots", "2", "--seed", "1"),
                *("--dataset-config-file", str(PROJECT / "configs/datasets/demo_garden.yaml")),
                *("--root", root, "--output-dir", folder, "OPTIM.MAX_EPOCH", "2", "VERBOSE", "False"),
                *("DATALOADER.TRAIN_X.BATCH_SIZE", "8", "TEST.SPLIT", "val", "OPTIM.WARMUP_EPOCH", "0"),
            ]
        )
    finally:
        train.release()
        close_logger()
    result = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
    metrics = Path(folder, "metrics.jsonl")
    steps = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    return {
        "version": result["trainer_version"],
        "accuracy": result["accuracy"],
        "losses": [json.loads(step)["loss"] for step in steps],
    }


@pytest.mark.parametrize("method", shipped_trainers())
def test_results_change_only_with_the_version(method, demo_root, tmp_path, monkeypatch):
    recorded = json.loads(TRAJECTORIES.read_text(encoding="utf-8"))[method]
    version = TRAINER_REGISTRY.get(method).version
    assert version == recorded["version"], f"version {version} of {method} is not recorded: see {__file__}"
    now = trajectory(method, str(demo_root), str(tmp_path / "run"))
    changed = f"{method} gives other results than version {version} did: if that is meant, see {__file__}"
    assert now["losses"] == pytest.approx(recorded["losses"], rel=ROUNDING), changed
    assert now["accuracy"] == pytest.approx(recorded["accuracy"], abs=1.0), changed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        now = {name: trajectory(name, root, f"{root}/{name}") for name in shipped_trainers()}
    TRAJECTORIES.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
