"""Small real runs on the embedded data, and how to compare what they leave."""

import json
from pathlib import Path

import pytest

from dassl.utils import load_checkpoint
from grid.plan import plan
from grid.spec import Spec
from launch.resolve import PROJECT


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(PROJECT)


@pytest.fixture
def short_runs(demo_root):
    """Plan one-shot trainings of two epochs, which take a second each."""

    def planned(output, seeds, epochs=2, **changes):
        pairs = ("OPTIM.MAX_EPOCH", str(epochs), "OPTIM.WARMUP_EPOCH", "0", "TRAIN.CHECKPOINT_FREQ", "1")
        fields = {"trainer": "CLIPFit", "protocol": "few_shot", "dataset": "demo_garden", "shots": 1}
        specs = [Spec(**{**fields, **changes}, seed=seed, pairs=pairs) for seed in seeds]
        runs = plan([(spec, ()) for spec in specs], output, str(demo_root))
        return list(dict.fromkeys(runs.values()))

    return planned


class Silent:
    """A progress display that only remembers."""

    def __init__(self):
        self.shown, self.said = [], []

    def show(self, counts):
        self.shown.append(counts)

    def say(self, text):
        self.said.append(text)

    def close(self):
        pass


@pytest.fixture
def progress():
    return Silent()


UNREPEATABLE = {"seconds_train", "seconds_test", "peak_memory_mb", "model_dir", "starts"}


def assert_equal_bits(one: Path, other: Path) -> None:
    """Two run folders hold the same steps, the same trained tensors and the same result."""
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    files = sorted(path.relative_to(one) for path in one.glob("*/model.pth.tar-*"))
    assert files == sorted(path.relative_to(other) for path in other.glob("*/model.pth.tar-*")) and files
    for file in files:
        states = [load_checkpoint(run / file)["state_dict"] for run in (one, other)]
        assert states[0].keys() == states[1].keys()
        assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items()), file
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    kept = [{key: value for key, value in r.items() if key not in UNREPEATABLE} for r in results]
    assert kept[0] == kept[1]


@pytest.fixture
def equal_bits():
    return assert_equal_bits
