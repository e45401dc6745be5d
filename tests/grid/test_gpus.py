"""Which GPUs there are, and which runs fit on one."""

from types import SimpleNamespace

import pytest

from grid.executors import local
from grid.executors.local import LocalExecutor
from grid.gpus import GPU, PeakMemory, fits, select_gpus

ANSWER = "0, GPU-aa11, 81559\n1, GPU-bb22, 81559\n2, GPU-cc33, 24576\n"


@pytest.mark.parametrize(
    "visible, names",
    [(None, "0 1 2"), ("", ""), ("1", "1"), ("2, 0", "2 0"), ("GPU-bb", "GPU-bb"), ("0,7,1", "0")],
)
def test_visible_gpus_are_cudas(visible, names):
    assert [gpu.name for gpu in select_gpus(ANSWER, visible)] == names.split()


def test_a_gpu_knows_its_memory():
    assert select_gpus(ANSWER, "GPU-cc33") == [GPU("GPU-cc33", 24576.0)]


@pytest.mark.parametrize(
    "peak, beside, fit",
    [
        (50_000, [], True),
        (None, [], True),  # alone, an unknown run is welcome
        (None, [1000], False),
        (1000, [None], False),
        (8000, [8000], True),  # 2 x (8000 + 600) of 0.9 x 24,576 = 22,118
        (8000, [8000, 8000], False),
        (6700, [6700, 6700], True),  # 3 x 7300 = 21,900
    ],
)
def test_runs_share_a_gpu_only_if_all_peaks_are_known_and_fit(peak, beside, fit):
    assert fits(peak, beside, memory_mb=24_576) == fit


def run_of(dataset, peak=None):
    spec = SimpleNamespace(trainer="CLIPFit", protocol="few_shot", dataset=dataset, eval_only=False, pairs=())
    return SimpleNamespace(spec=spec, backbone="ViT-B/16", result=peak and {"peak_memory_mb": peak})


def test_a_peak_is_the_largest_seen_of_its_kind():
    later = run_of("dtd")
    peaks = PeakMemory([run_of("dtd", 900.0), run_of("dtd", 1000.0), run_of("imagenet", 9000.0), later])
    assert peaks.of(run_of("dtd")) == 1000.0 and peaks.of(run_of("eurosat")) is None
    later.result = {"peak_memory_mb": 1100.0}  # it has finished meanwhile
    assert peaks.of(run_of("dtd")) == 1100.0


def test_unknown_runs_get_a_gpu_each_and_known_ones_share(monkeypatch):
    monkeypatch.setattr(local, "visible_gpus", lambda: [GPU("0", 24_576.0), GPU("1", 24_576.0)])
    monkeypatch.setattr(local._Slot, "give", lambda self, planned: setattr(self, "planned", planned))
    known, unknown = [run_of("dtd") for _ in range(4)], [run_of("eurosat") for _ in range(4)]

    def placed(runs):
        executor = LocalExecutor(per_gpu=2)
        executor.open([run_of("dtd", 8000.0), *runs])
        for run in runs:
            if executor.takes(run):
                executor.start(run)
        return sorted(slot.gpu.name for slot in executor._slots if slot.planned)

    assert placed(known) == ["0", "0", "1", "1"] and placed(unknown) == ["0", "1"]
