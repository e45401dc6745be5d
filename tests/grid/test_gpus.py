"""Which GPUs there are, and which runs fit on one."""

import re
import sys
from types import SimpleNamespace

import pytest

from clipfit.io.commands import pasted
from grid import gpus
from grid.executors import Outcome, local
from grid.executors.local import LocalExecutor
from grid.gpus import GPU, PeakMemory, choose, fits, parse_rows, places_on, visible_gpus

TWO = "GPU-aa11, 81559, [N/A]\nGPU-bb22, 24576, Disabled\n"
ONE_DIVIDED = "GPU-aa11, 81559, Enabled\nGPU-bb22, 24576, Disabled\n"
LISTED = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa11)
  MIG 3g.40gb     Device  0: (UUID: MIG-c7)
  MIG 1g.10gb     Device  1: (UUID: MIG-d8)
GPU 1: NVIDIA A10 (UUID: GPU-bb22)
"""
# Stands for torch: a GPU in parts shows one part, two whole ones come fastest first.
TORCH = """
import json, os
visible = os.environ.get("CUDA_VISIBLE_DEVICES")
known = {None: [81559.0, 24576.0], "0,1": [81559.0, 24576.0], "1,7": [24576.0], "GPU-aa11": [40000.0]}
print(json.dumps({**known, "MIG-c7": [40448.0], "MIG-d8": [9984.0]}.get(visible, [])))
"""


def printing(text):
    return [sys.executable, "-c", f"print({text!r})"]


@pytest.fixture
def machine(monkeypatch):
    """A machine whose nvidia-smi answers this (None: there is no nvidia-smi) and whose torch is TORCH."""

    def machine(answer, visible=None, listed="", torch=(sys.executable, "-c", TORCH), driver=True):
        monkeypatch.setattr(gpus, "QUERY", ["no-such-program"] if answer is None else printing(answer))
        monkeypatch.setattr(gpus, "INSTANCES", printing(listed))
        monkeypatch.setattr(gpus, "PROBE", list(torch))
        monkeypatch.setattr(gpus, "_has_driver", lambda: driver)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return {gpu.name: gpu.memory_mb for gpu in visible_gpus()}

    return machine


def test_gpus_are_named_by_their_uuids(machine):
    no_torch = ["no-such-program"]
    assert machine(TWO, torch=no_torch) == {"GPU-aa11": 81559.0, "GPU-bb22": 24576.0}
    assert machine(TWO, "GPU-bb", torch=no_torch) == {"GPU-bb22": 24576.0}


@pytest.mark.parametrize("visible", ["", "-1", " ", "NoDevFiles", "-1,0"])
def test_no_gpu_is_left_where_cuda_sees_none(machine, visible):
    assert machine(TWO, visible) == {}


def test_without_a_driver_nobody_is_asked(machine):
    assert machine(TWO, driver=False) == {}


@pytest.mark.parametrize("visible, names", [("0,1", "0 1"), ("1, 7", ""), ("1,7", "1"), ("1,-1,0", "")])
def test_numbers_count_in_cudas_order_which_torch_knows(machine, visible, names):
    """nvidia-smi's order is another one on mixed cards."""
    backwards = "GPU-bb22, 24576, [N/A]\nGPU-aa11, 81559, [N/A]\n"
    found = machine(backwards, visible)
    assert list(found) == names.split() and set(found.items()) <= {("0", 81559.0), ("1", 24576.0)}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        "No devices were found",
        "NVIDIA-SMI has failed, because ...",
        "Field is not valid",
        "1, 2, 3",
    ],
)
def test_where_nvidia_smi_says_nothing_torch_is_asked(machine, answer):
    assert machine(answer) == {"0": 81559.0, "1": 24576.0}
    assert machine(answer, "GPU-aa11") == {"GPU-aa11": 40000.0}


@pytest.mark.parametrize("torch", [["no-such-program"], [sys.executable, "-c", "raise RuntimeError"]])
def test_a_torch_that_fails_beside_a_driver_is_told(machine, torch):
    command = re.escape(pasted(["python", "-c", "import torch; torch.cuda.init()"]))
    with pytest.warns(UserWarning, match=f"{command} may tell why"):
        assert machine(None, torch=torch) == {}


def test_the_real_question_has_an_answer(recwarn):
    assert gpus._memory_by_torch(visible="") == [] and not recwarn.list


def test_a_command_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(gpus, "PATIENCE", 0.01)
    assert gpus._answer([sys.executable, "-c", "input()"]) == ""


def test_parts_of_a_gpu_are_gpus(machine):
    """CUDA shows a process one of them."""
    assert machine(ONE_DIVIDED, listed=LISTED) == {"GPU-bb22": 24576.0, "MIG-c7": 40448.0, "MIG-d8": 9984.0}
    assert machine(ONE_DIVIDED, "MIG-d8,MIG-c7") == {"MIG-d8": 9984.0, "MIG-c7": 40448.0}
    assert machine(None, "MIG-d8,MIG-gone") == {"MIG-d8": 9984.0}
    assert machine(ONE_DIVIDED, "GPU-aa11") == {"GPU-aa11": 40000.0}  # its first part
    assert machine(ONE_DIVIDED, "GPU-bb22") == {"GPU-bb22": 24576.0}


@pytest.mark.parametrize("memory", ["[N/A]", "[Insufficient Permissions]", "[Unknown Error]"])
def test_memory_may_be_unknown(machine, memory):
    assert machine(f"GPU-aa11, {memory}, [N/A]") == {"GPU-aa11": None}


@pytest.mark.parametrize(
    "names, chosen",
    [("GPU-bb", "GPU-bb22"), ("GPU-bb22 GPU-aa", "GPU-bb22 GPU-aa11"), ("GPU-bb GPU-x GPU-aa", "GPU-bb22")]
    + [("GPU-", ""), ("GPU-aa GPU-aa11", "")],  # ambiguous; twice
)
def test_beginnings_of_uuids_are_cudas(names, chosen):
    assert [row.uuid for row in choose(parse_rows(TWO), names.split())] == chosen.split()


def test_where_memory_is_unknown_a_gpu_has_one_run_and_that_is_said():
    known, unknown = GPU("GPU-aa11", 81559.0), GPU("GPU-bb22", None)
    with pytest.warns(
        UserWarning, match="memory of GPU-bb22 is not known: one run at a time there, not 3"
    ) as said:
        assert sorted(gpu.name for gpu in places_on([known, unknown], 3)) == ["GPU-aa11"] * 3 + ["GPU-bb22"]
    assert len(said) == 1
    assert places_on([unknown], 1) == [unknown]
    assert fits(1.0, [], None) and not fits(1.0, [1.0], None)


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


class Run(SimpleNamespace):
    """Every run is itself, as planned runs are."""

    __eq__, __hash__ = object.__eq__, object.__hash__


def run_of(dataset, peak=None):
    spec = SimpleNamespace(trainer="CLIPFit", protocol="few_shot", dataset=dataset, eval_only=False, pairs=())
    return Run(spec=spec, backbone="ViT-B/16", result=peak and {"peak_memory_mb": peak})


def test_a_peak_is_the_largest_seen_of_its_kind():
    later = run_of("dtd")
    peaks = PeakMemory([run_of("dtd", 900.0), run_of("dtd", 1000.0), run_of("imagenet", 9000.0), later])
    assert peaks.of(run_of("dtd")) == 1000.0 and peaks.of(run_of("eurosat")) is None
    later.result = {"peak_memory_mb": 1100.0}  # it has finished meanwhile
    assert peaks.of(run_of("dtd")) == 1100.0


@pytest.fixture
def executor(monkeypatch):
    """An executor on two GPUs whose processes do nothing."""
    monkeypatch.setattr(local, "visible_gpus", lambda: [GPU("0", 24_576.0), GPU("1", 24_576.0)])
    monkeypatch.setattr(local._Slot, "give", lambda self, planned: setattr(self, "planned", planned))

    def executor(runs, **options):
        executor = LocalExecutor(**options)
        executor.open([run_of("dtd", 8000.0), *runs])
        for run in runs:
            if executor.takes(run):
                executor.start(run)
        return executor

    return executor


def gpus_at_work(executor):
    return sorted(slot.gpu.name for slot in executor._slots if slot.planned)


def test_unknown_runs_get_a_gpu_each_and_known_ones_share(executor):
    known, unknown = [run_of("dtd") for _ in range(4)], [run_of("eurosat") for _ in range(4)]
    assert gpus_at_work(executor(known, per_gpu=2)) == ["0", "0", "1", "1"]
    assert gpus_at_work(executor(unknown, per_gpu=2)) == ["0", "1"]


@pytest.mark.parametrize("jobs, at_work", [(1, ["0"]), (8, ["0", "1"])])
def test_jobs_are_within_what_a_gpu_may_have(executor, jobs, at_work):
    assert gpus_at_work(executor([run_of("dtd") for _ in range(4)], jobs=jobs)) == at_work


def test_a_run_without_memory_beside_others_is_alone_the_next_time(executor, monkeypatch):
    runs = [run_of("dtd") for _ in range(4)]
    executor = executor(runs, per_gpu=2)

    def take(slot):
        planned, slot.planned = slot.planned, None
        return Outcome(planned, "CUDA out of memory", out_of_memory=True)

    monkeypatch.setattr(local._Slot, "take", take)
    first = next(slot for slot in executor._slots if slot.planned)
    outcome = executor._outcome(first)
    assert outcome.error.startswith("CUDA out of memory; ") and "--per-gpu 1" in outcome.error
    assert not executor.takes(outcome.planned) and executor.takes(run_of("dtd"))
    for slot in executor._slots:
        if slot.gpu == first.gpu and slot.planned:
            executor._outcome(slot)
    executor.start(outcome.planned)
    assert not executor.takes(run_of("dtd"))
    alone = next(slot for slot in executor._slots if slot.planned is outcome.planned)
    alone.shared = False
    assert "--per-gpu" not in executor._outcome(alone).error
