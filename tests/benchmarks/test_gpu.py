"""The GPU benchmark's harness: a check that goes wrong is an entry, and everything is in the JSON."""

import json
import os
import time

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import rates
from benchmarks.gpu.harness import Check, run
from benchmarks.gpu.tables import markdown
from dassl.utils import read_json

CHECKS = """
import os, signal, threading
from benchmarks.gpu.context import Skipped

def well(context):
    context.numbers["cores"] = context.cores
    return "all is well"

def finds(context):
    context.problem("two points too low")
    return "measured"

def raises(context):
    context.numbers["steps"] = 3
    raise RuntimeError("CUDA error")

def skips(context):
    raise Skipped("nothing to ask")

def crashes(context):
    context.numbers["before"] = 1
    context.save()
    print("the last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(context):
    threading.Event().wait()

def machine_without_gpu(context):
    context.numbers.update(card=None, torch="2.x")
    raise Skipped("no GPU")
"""
PATIENT, HASTY = 300, 1  # seconds: no check but the one that hangs comes near


@pytest.fixture
def checks(tmp_path, monkeypatch):
    """Checks of a module of their own, by the names of its functions."""
    (tmp_path / "own_checks.py").write_text(CHECKS)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return lambda *names, **more: [Check(name, f"own_checks:{name}", **more) for name in names]


@pytest.fixture
def entries(tmp_path):
    """Run checks on a CPU of four cores; the entries in the order in which they came."""

    def _run(checks, limit=PATIENT):
        settings = gpu.Context("cpu", True, 4, tmp_path / "work", tmp_path / "data", tmp_path / "none")
        reported = []
        run(checks, settings, limit, time.monotonic() + limit, reported.append)
        return reported

    return _run


def test_whatever_a_check_does_is_an_entry_and_the_rest_runs(checks, entries):
    hanging = checks("hangs", limit=HASTY)
    found = entries([*checks("raises", "crashes"), *hanging, *checks("finds", "skips", "well")])
    by_name = {entry["name"]: entry for entry in found}
    status = {name: entry["status"] for name, entry in by_name.items()}
    failed = dict.fromkeys(("raises", "crashes", "hangs", "finds"), "failed")
    assert status == failed | {"skips": "skipped", "well": "passed"}
    assert by_name["raises"]["detail"] == "RuntimeError: CUDA error"
    assert by_name["raises"]["numbers"] == {"steps": 3}
    assert "RuntimeError: CUDA error" in by_name["raises"]["log"]
    assert "SIGSEGV" in by_name["crashes"]["detail"] and "the last words" in by_name["crashes"]["log"]
    assert by_name["hangs"]["detail"] == f"did not end in {HASTY} s"
    assert by_name["crashes"]["numbers"] == {"before": 1}  # what it had found is kept
    assert by_name["finds"]["detail"] == "two points too low; measured"
    assert by_name["well"]["numbers"] == {"cores": 1}


def test_what_measures_comes_last_and_has_all_cores(checks, entries):
    found = entries([*checks("well", alone=True), *checks("skips", "finds")])
    assert found[-1]["name"] == "well" and found[-1]["numbers"] == {"cores": 4}


def test_without_a_gpu_or_time_a_check_is_not_started(checks, entries):
    (entry,) = entries(checks("crashes", needs_gpu=True))
    assert (entry["status"], entry["detail"]) == ("skipped", "no GPU")
    (entry,) = entries(checks("well"), limit=0)
    assert entry["status"] == "failed" and "no time was left" in entry["detail"]


def run_main(checks, names, path, monkeypatch):
    machine = Check("machine", "own_checks:machine_without_gpu")
    monkeypatch.setattr(gpu, "MACHINE", machine)
    parts = {"quick": (*checks(*names), *checks("crashes", needs_gpu=True), machine)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    return gpu.main(["--quick", "--limit", str(PATIENT), "--out", str(path)])


def test_the_json_holds_every_check_in_order_and_the_summary_says_no_gpu(
    checks, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "out" / "gpu.json"
    assert run_main(checks, ["well"], path, monkeypatch) == 0
    report = json.loads(path.read_text())
    assert [entry["name"] for entry in report["checks"]] == ["well", "crashes", "machine"]
    for entry in report["checks"]:
        assert {"name", "status", "seconds", "detail"} <= entry.keys()
        assert entry["status"] in ("passed", "failed", "skipped")
    assert (report["format"], report["device"], report["finished"]) == (1, "cpu", True)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("no GPU") and "1 passed, 0 failed, 2 skipped" in said[-1]
    assert "no GPU" in said[-1] and str(path) in said[-1]


def test_a_failed_check_fails_the_command(checks, tmp_path, monkeypatch):
    assert run_main(checks, ["well", "finds"], tmp_path / "gpu.json", monkeypatch) == 1
    assert read_json(tmp_path / "gpu.json")["finished"]


def test_every_check_of_the_benchmark_is_there():
    every = gpu.PARTS["full"]
    assert set(every) == {*gpu.CHECKS, *gpu.MEASUREMENTS}
    for check in every:
        module, function = check.target.split(":")
        path = gpu.__file__.replace("__main__", module.rpartition(".")[2])
        with open(path, encoding="utf-8") as file:
            assert f"\ndef {function}(context: Context) -> str:" in file.read(), check
    assert len({check.name for check in every}) == len(every) == 15


def test_the_lists_of_pictures_fill_a_batch_and_name_every_class(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "draw", lambda folder, number, size: folder / f"{number}.jpg")
    for classes in rates.CLASSES[True]:
        rows = rates.own_pictures(tmp_path / str(classes), classes).read_text().splitlines()[1:]
        files, labels, parts = zip(*(row.split(",") for row in rows), strict=True)
        assert len(set(files)) == len(files) and len(set(labels)) == classes
        assert parts.count("train") >= rates.IMAGES and parts.count("test") == classes


def test_what_was_measured_is_a_table_with_its_machine():
    step = {"classes": 1000, "precision": "amp", "way": "eager", "ms": 31.25, "pictures_per_s": 1024.0}
    steps = {
        "matrix_tflops": {"amp": 700.0},
        "rows": [
            {**step, "share_of_matrix_rate": 0.25, "peak_mb": 2048.0},
            {"classes": 1000, "precision": "amp", "way": "plain", "failed": "out of memory"},
        ],
    }
    graphs = {
        "CoOp": {"graph": [1.0, 2.0], "eager": [1.0, 2.0], "difference": 2e-7},
        "CoCoOp": {"graph": [], "eager": [1.0, 2.0], "refused": "exit status 1: not static | shapes"},
    }
    entries = {"machine": {"card": "H100", "torch": "2.14", "cuda": "13.0"}, "steps": steps, "graphs": graphs}
    checks = [{"name": name, "numbers": numbers} for name, numbers in entries.items()]
    text = markdown({"checks": checks, "device": "cuda", "cores": 16, "date": "2026-11-27"})
    assert "H100, torch 2.14, CUDA 13.0, 16 cores, 2026-11-27." in text
    assert "| 1,000 | amp | eager | 31.2 | 1,024 | 25% | 2,048 |" in text
    assert "| 1,000 | amp | plain | out of memory | - | - | - |" in text
    assert "amp 700 TFLOP/s" in text
    assert "| CoOp | 2 | 2.0e-07 |" in text
    assert "| CoCoOp | 2 | exit status 1: not static / shapes |" in text  # no cell of its own
    assert markdown({"checks": checks[:1], "device": "cuda", "cores": 16, "date": ""}) == ""
