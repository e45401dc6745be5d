"""A trainer whose results change says so by its version; a short recorded training notices when it forgets.

After a change that is meant to change results, raise ``version`` of the trainers concerned and record anew:

python -m tests.trainers.test_versions CoOp
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import close_logger
from launch.registered import PROJECT, explicit_name, shipped_methods

TRAJECTORIES = Path(__file__).with_name("trajectories")  # a file per method
ROUNDING = 1e-3  # relative: processors round differently, changes of a method show far above it


def record_of(method: str) -> Path:
    return TRAJECTORIES / f"{method}.json"


def trajectory(method: str, root: str, folder: str) -> dict:
    """Losses of two epochs on a small data set, and what the trained model then gets right."""
    try:
        train.run_command(
            [
                *(
                    "--trainer",
                    explicit_name("trainers", method),
                    "--protocol",
                    "few_shot",
                    "--shots",
                    "2",
                    "--seed",
                    "1",
                ),
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


@pytest.mark.parametrize("method", shipped_methods())
def test_results_change_only_with_the_version(method, demo_root, tmp_path, monkeypatch):
    version = TRAINER_REGISTRY.get(method).version
    unrecorded = (
        f"version {version} of {method} is not recorded: python -m tests.trainers.test_versions {method}"
    )
    assert record_of(method).is_file(), unrecorded
    recorded = json.loads(record_of(method).read_text(encoding="utf-8"))
    assert version == recorded["version"], unrecorded
    now = trajectory(method, str(demo_root), str(tmp_path / "run"))
    changed = f"{method} gives other results than version {version} did: if that is meant, see {__file__}"
    assert now["losses"] == pytest.approx(recorded["losses"], rel=ROUNDING), changed
    assert now["accuracy"] == pytest.approx(recorded["accuracy"], abs=1.0), changed


def record(method: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        now = trajectory(method, root, f"{root}/{method}")
    record_of(method).write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        record(name)
