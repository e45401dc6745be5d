"""Files for SLURM, and their jobs, run by stand-ins for sbatch and scontrol (tests/grid/stand_in/)."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import reproduce
from grid.executors import slurm
from grid.failures import Failure
from grid.plan import plan
from grid.spec import Spec
from launch.resolve import PROJECT

STAND_IN = Path(__file__).parent / "stand_in"
EPOCHS = 8


def start(script, **environment) -> subprocess.Popen:
    path = f"{STAND_IN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **environment}
    return subprocess.Popen(["sbatch", script], env=environment, stdout=subprocess.PIPE, text=True)


def starts_of_jobs(process) -> list[list[int]]:
    """Job, how often it was started before, and exit status of every start of a job, as they ended."""
    return [[int(word) for word in line.split()] for line in process.communicate()[0].splitlines()]


def logs(script) -> str:
    return "\n".join(path.read_text() for path in sorted(Path(script).parent.glob("logs/*")))


def lines(script) -> list[str]:
    return Path(script).read_text().splitlines()


# The files ------------------------------------------------------------------------------------------


@pytest.fixture
def transfers(tmp_path):
    """Two trainings, one with two tests and one with one, and a run that stands alone."""
    specs = [
        Spec("CoOp", "domain_shift", "demo_v2", 4, seed, eval_only=True, source="demo") for seed in (1, 2)
    ]
    more = Spec("CoOp", "domain_shift", "demo_sketch", 4, 1, eval_only=True, source="demo")
    alone = Spec("CoOp", "few_shot", "demo_garden", 4, 1)
    runs = plan([(spec, ()) for spec in (*specs, alone, more)], tmp_path / "out", str(tmp_path))
    return list(dict.fromkeys(runs.values()))


def test_a_training_and_its_tests_are_one_job_and_the_training_comes_first(transfers):
    assert len(transfers) == 6
    jobs = slurm.into_jobs(transfers, runs_per_job=1, most_jobs=10)
    assert sorted(map(len, jobs)) == [1, 2, 3]
    for job in jobs:
        assert [run.needs for run in job] == [None] + [job[0]] * (len(job) - 1)


def test_tests_of_a_finished_training_are_jobs_of_their_own(transfers):
    for test in transfers:
        if test.needs is not None:
            test.needs.state = "done"
    assert [len(job) for job in slurm.into_jobs(transfers, 1, 10)] == [1] * 4
    assert [len(job) for job in slurm.into_jobs(transfers, 3, 10)] == [3, 1]


def test_jobs_become_longer_until_the_array_is_small_enough(short_runs, tmp_path):
    runs = short_runs(tmp_path, range(1, 302))
    assert [len(job) for job in slurm.into_jobs(runs, 8, 100)] == [8] * 37 + [5]
    jobs = slurm.into_jobs(runs, 1, 100)
    assert len(jobs) == 76 and [run for job in jobs for run in job] == runs
    options = {"runs_per_job": 1, "most_jobs": 100, "at_once": 20}
    script, count = slurm.write_files(runs, tmp_path / "jobs", "data", [], **options)
    assert count == 76 and "#SBATCH --array=0-75%20" in lines(script)


AWKWARD = "a b'c$HOME%A"


@pytest.fixture
def awkward(tmp_path, monkeypatch, short_runs):
    """Files for two runs where every path is awkward, with a Python that only tells how it was called."""
    place = tmp_path / AWKWARD
    place.mkdir()
    python = place / "python"
    python.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([os.getpid(), os.getcwd(), sys.argv[1:], "
        "os.environ['DATA'], os.environ['PYTHONPATH'], os.environ.get('MINE')]))\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    runs = short_runs(tmp_path / "out", [1, 2])
    monkeypatch.chdir(place)

    def write(**options):
        return slurm.write_files(runs, "di r", str(place / "data"), ["--output", AWKWARD], **options)[0]

    return write


def test_the_script_is_valid_and_quotes_every_path(awkward, tmp_path, monkeypatch):
    script = awkward(setup=["export MINE='a  b'", 'test -z "$UNSET"'])
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    monkeypatch.chdir(tmp_path)
    process = start(str(script), PYTHONPATH="/else where")
    assert starts_of_jobs(process) == [[0, 0, 0]]
    place = tmp_path / AWKWARD
    (log,) = (place / "di r/logs").iterdir()
    _, cwd, words, data, search, mine = json.loads(log.read_text())
    assert log.name == "4711_0.log"
    assert (cwd, data, mine) == (str(place), str(place / "data"), "a  b")
    (runs_file,) = (place / "di r").glob("runs-*.jsonl")
    assert words == ["-m", "grid.executors.slurm", str(runs_file), "0", "--output", AWKWARD]
    assert search == f"{reproduce.__file__.rpartition('/')[0]}:/else where"


def test_a_line_of_the_setup_that_fails_ends_the_job(awkward):
    process = start(awkward(setup=["false"]))
    assert starts_of_jobs(process) == [[0, 0, 1]]


def test_signals_reach_python_itself(awkward):
    """It takes the place of the shell, which alone is signalled."""
    process = subprocess.Popen(
        ["bash", awkward()], stdout=subprocess.PIPE, env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}
    )
    assert json.loads(process.communicate()[0])[0] == process.pid


def test_options_of_sbatch_are_passed_on_and_replace_ours(awkward):
    given = ["partition=gpu", "account=lab", "time=4:00:00", "job-name=my runs", "--exclusive"]
    options = [line for line in lines(awkward(sbatch=given)) if line.startswith("#SBATCH")]
    words = [word for line in options for word in shlex.split(line.removeprefix("#SBATCH"))]
    assert {"--partition=gpu", "--account=lab", "--time=4:00:00", "--job-name=my runs", "--exclusive"} < set(
        words
    )
    assert {"--requeue", "--signal=B:USR1@120", "--array=0-0", "--open-mode=append"} < set(words)
    assert len([word for word in words if word.startswith("--job-name")]) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sbatch": ["array=0-9"]}, "array itself; leave it out"),
        ({"sbatch": ["partition=a\n#SBATCH --wrap=b"]}, "no option of sbatch"),
        ({"sbatch": ["=gpu"]}, "no option of sbatch"),
        ({"runs_per_job": 0}, "0 runs a job"),
        ({"most_jobs": 0}, "at most 0 jobs"),
        ({"at_once": -1}, "-1 at once"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(awkward, options, message):
    with pytest.raises(ValueError, match=message):
        awkward(**options)
    assert not Path("di r").exists()


def test_jobs_in_the_queue_keep_their_runs_when_files_are_written_again(short_runs, tmp_path):
    runs = short_runs(tmp_path / "out", [1, 2])
    slurm.write_files(runs, tmp_path / "jobs", "data", [])
    (before,) = (tmp_path / "jobs").glob("runs-*")
    content = before.read_text()
    slurm.write_files(runs[1:], tmp_path / "jobs", "data", [])
    assert before.read_text() == content
    specs = [spec for spec, _ in slurm.read_job(before, 0)]
    assert specs == [run.spec for run in runs]
    with pytest.raises(ValueError, match="has the jobs 0 to 0, and no job 1"):
        slurm.read_job(before, 1)


# The jobs -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_job_that_is_asked_to_end_goes_on_at_its_step_in_the_same_bits(
    name, tmp_path, demo_root, short_runs, equal_bits
):
    runs = short_runs(tmp_path / "out", [1, 2], EPOCHS)
    where = ["--output", str(tmp_path / "out"), "--jobs", "1"]
    script, _ = slurm.write_files(runs, tmp_path / "jobs", str(demo_root), where)
    steps = runs[0].folder / "metrics.jsonl"
    jobs = starts_of_jobs(start(script, STAND_IN_SIGNAL=name, STAND_IN_FILE=str(steps)))
    assert jobs == [[0, 0, 143], [0, 1, 0]], logs(script)
    assert f"{name}: the runs of this job stopped" in logs(script) and "failed" not in logs(script)
    assert "SIGTERM: stopped after" in (runs[0].folder / "log.txt").read_text()  # it saved its step
    results = [json.loads((run.folder / "result.json").read_text()) for run in runs]
    assert [result["starts"] for result in results] == [2, 1]

    (other,) = short_runs(tmp_path / "undisturbed", [1], EPOCHS)
    subprocess.run([sys.executable, *other.command[1:]], check=True, capture_output=True)
    equal_bits(runs[0].folder, other.folder)


@pytest.mark.parametrize("scontrol", [None, "exit 1"])
def test_a_cluster_that_refuses_to_requeue_is_told_and_what_to_do(scontrol, tmp_path, monkeypatch, capsys):
    if scontrol:
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{scontrol}\n")
        (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4711")
    slurm._requeue(3)
    assert "scontrol requeue 4711_3 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_two_arrays_of_the_same_runs_share_them(tmp_path, demo_root, short_runs):
    runs = short_runs(tmp_path / "out", [1, 2])
    where = ["--output", str(tmp_path / "out"), "--jobs", "1"]
    scripts = [slurm.write_files(runs, tmp_path / name, str(demo_root), where)[0] for name in ("a", "b")]
    both = [start(script) for script in scripts]
    assert [starts_of_jobs(process) for process in both] == [[[0, 0, 0]]] * 2, [*map(logs, scripts)]
    results = [json.loads((run.folder / "result.json").read_text()) for run in runs]
    assert [result["starts"] for result in results] == [1, 1]


@pytest.mark.slow
def test_plan_submit_report_and_only_what_is_missing_is_planned_again(tmp_path, demo_root, capsys):
    """One of four runs fails and stops no other."""
    out, place = tmp_path / "ou t", tmp_path / "jo bs"
    which = ["table1", "--datasets", "demo_garden", "demo_signs", "--methods", "zsclip", "--seeds", "1"]
    which += ["--root", str(demo_root), "--output", str(out)]
    to_files = ["plan", *which, "--format", "slurm", str(place), "--runs-per-job", "8"]
    in_the_way = out / "base2new/train_base/demo_garden/shots_16/ZeroshotCLIP/demo"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file in the way")

    assert reproduce.main(to_files) == 0
    printed = capsys.readouterr().out
    assert "4 runs, 4 to do, in 1 jobs" in printed
    command, script = shlex.split(printed.splitlines()[-1])
    assert command == "sbatch"
    assert starts_of_jobs(start(script)) == [[0, 0, 1]]
    told = logs(script).rpartition("\nfailed: ")[2]
    assert "--trainer ZeroshotCLIP" in told and "Not a directory" in told
    failed = in_the_way.relative_to(out) / "seed1"
    assert "Not a directory" in Failure.read(out, str(failed)).error
    assert len(list(out.glob("base2new/**/result.json"))) == 3

    in_the_way.unlink()
    assert reproduce.main(to_files) == 0
    assert "4 runs, 1 to do" in capsys.readouterr().out
    assert starts_of_jobs(start(script)) == [[0, 0, 0]], logs(script)
    assert Failure.read(out, str(failed)) is None
    assert reproduce.main(to_files) == 0
    assert "4 runs, 0 to do" in capsys.readouterr().out

    assert reproduce.main(["report", *which]) == 0
    printed = capsys.readouterr().out
    for path in out.glob("base2new/**/result.json"):
        assert f"{json.loads(path.read_text())['accuracy']:.2f}" in printed


def test_the_commands_of_the_documentation_parse_and_name_the_script_that_is_written(short_runs, tmp_path):
    text = (PROJECT / "docs/reproduction.md").read_text(encoding="utf-8")
    section = text.partition("## On a SLURM cluster")[2].partition("```\n")[2].partition("```")[0]
    planning, submission, report = map(shlex.split, section.replace("\\\n", "").splitlines())
    args = reproduce.parse_args(planning[2:])
    assert args.format == ["slurm", "jobs"] and reproduce.parse_args(report[2:]).output == args.output
    assert submission == ["sbatch", str(Path(*args.format[1:], "array.sh"))]
    script, _ = slurm.write_files(
        short_runs(tmp_path, [1]), tmp_path / "jobs", args.root, [], sbatch=args.sbatch, setup=args.setup
    )
    assert script.name == "array.sh" and "#SBATCH --partition=gpu" in lines(script)


def test_an_unknown_format_is_answered_with_the_known_one(tmp_path):
    with pytest.raises(SystemExit, match="slurm"):
        reproduce.main(["plan", "table1", "--datasets", "demo", "--format", "slrm", str(tmp_path)])
