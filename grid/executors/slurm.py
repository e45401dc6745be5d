"""Runs as jobs of a SLURM cluster: a file of runs, a script for sbatch, and what each job then does.

`write_files` divides the runs of a plan among the jobs of one array. A job does its runs by the scheduler and
the executor of one machine, so order, retries, failure records and locks are theirs:

python -m grid.executors.slurm RUNS JOB --output output

Nodes need the repository, the data and the output folder at the same paths (shared storage, with file locks
that hold between nodes).

When SLURM asks a job to end, its runs stop behind the step in progress. They go on there when the job is
requeued: SLURM does that after a preemption (SIGTERM), the job itself when its time is nearly over
(SIGUSR1).
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from clipfit.io.commands import PATH, Parser, default_root, pasted
from dassl.utils import atomic_write
from dassl.utils.stop_signals import STATUS
from grid import scheduler
from grid.display import Display
from grid.failures import Failure
from grid.plan import Planned, plan
from grid.spec import Spec
from launch.bare_errors import message_of
from launch.resolve import PROJECT
from train import ERRORS

from .local import LocalExecutor

NOTICE = 120  # seconds before its end at which SLURM tells a job
PATIENCE = 90.0  # seconds of these that the runs of a job have to stop
MOST_JOBS = 1000  # of an array, where SLURM's MaxArraySize is its default, 1001
OURS = ("array", "signal")  # options of sbatch that these files depend on

SCRIPT = """\
#!/bin/bash
{options}
# {runs:,} runs in {jobs:,} jobs
set -eo pipefail
cd -- {folder}
export DATA={data}
export PYTHONPATH={project}"${{PYTHONPATH:+:$PYTHONPATH}}"
{setup}set -u
# SLURM's signals go to the process of this script, which is Python from here on.
exec {command} {runs_file} "$SLURM_ARRAY_TASK_ID" {words}
"""


# Writing the files ----------------------------------------------------------------------------------


def write_files(
    planned: Iterable[Planned],
    folder: str | Path,
    root: str,
    words: Sequence[str],
    runs_per_job: int = 8,
    most_jobs: int = MOST_JOBS,
    at_once: int = 0,
    sbatch: Sequence[str] = (),
    setup: Sequence[str] = (),
) -> tuple[Path, int]:
    """Write the runs that are to be done, and the script that ``sbatch`` takes.

    The file of runs has a name of its own for every content: jobs that wait in a queue still find theirs.

    Args:    root, folder of the data sets, as DATA of the jobs; words, further words of a job's command;
             runs_per_job, about so many, more where there would be too many jobs; at_once, jobs that may run
             at the same time (0: any); sbatch, its options without dashes; setup, lines of shell
    Returns: the script, and the number of jobs
    Raises:  ValueError for counts or options that cannot be
    """
    if min(runs_per_job, most_jobs) < 1 or at_once < 0:
        raise ValueError(
            f"{runs_per_job} runs a job, at most {most_jobs} jobs, {at_once} at once: give positive numbers"
        )
    folder = Path(folder).absolute()
    jobs = into_jobs(planned, runs_per_job, most_jobs)
    lines = [_line(number, run) for number, job in enumerate(jobs) for run in job]
    text = "".join(f"{line}\n" for line in lines)
    runs_file = folder / f"runs-{sha256(text.encode()).hexdigest()[:8]}.jsonl"
    script = SCRIPT.format(
        options="\n".join(_sbatch_lines(folder, len(jobs), at_once, sbatch)),
        runs=len(lines),
        jobs=len(jobs),
        folder=shlex.quote(os.getcwd()),
        data=shlex.quote(root),
        project=shlex.quote(str(PROJECT)),
        setup="".join(f"{line}\n" for line in setup),
        command=shlex.join([os.path.abspath(sys.executable), "-m", __name__]),
        runs_file=shlex.quote(str(runs_file)),
        words=shlex.join(words),
    )
    (folder / "logs").mkdir(parents=True, exist_ok=True)  # SLURM makes no folders
    for path, content in ((runs_file, text), (folder / "array.sh", script)):
        with atomic_write(path) as file:
            file.write(content)
    return folder / "array.sh", len(jobs)


def into_jobs(planned: Iterable[Planned], runs_per_job: int, most_jobs: int) -> list[list[Planned]]:
    """The runs that are to be done, divided among jobs in the order of the plan.

    A training and its tests go together, the training first. So no job waits for another one.

    Args: runs_per_job, which only such a group exceeds, or every job where there would be more than most_jobs
    """
    groups: dict[Planned, list[Planned]] = {}
    for run in planned:
        if run.runnable:
            first = run.needs if run.needs is not None and run.needs.runnable else run
            groups.setdefault(first, []).append(run)
    while len(jobs := _packed(groups.values(), runs_per_job)) > most_jobs:
        runs_per_job += 1
    return jobs


def _packed(groups: Iterable[list[Planned]], most: int) -> list[list[Planned]]:
    jobs: list[list[Planned]] = []
    for group in groups:
        if jobs and len(jobs[-1]) + len(group) <= most:
            jobs[-1] += group
        else:
            jobs.append(list(group))
    return jobs


def _line(job: int, run: Planned) -> str:
    return json.dumps({"job": job, "run": run.name, "spec": asdict(run.spec), "record": sorted(run.record)})


def _sbatch_lines(folder: Path, jobs: int, at_once: int, given: Sequence[str]) -> list[str]:
    """The #SBATCH lines; what the user gives replaces ours. Raises: ValueError for what must stay ours"""
    logs = str(folder / "logs").replace("%", "%%")
    options = {
        "job-name": "reproduce",
        "array": f"0-{jobs - 1}" + (f"%{at_once}" if at_once else ""),
        "output": f"{logs}/%A_%a.log",
        "open-mode": "append",  # a requeued job goes on in its log
        "ntasks": "1",
        "requeue": "",
        "signal": f"B:USR1@{NOTICE}",
    }
    for word in given:
        name, _, value = word.lstrip("-").partition("=")
        if name in OURS:
            raise ValueError(f"--sbatch {word}: the plan says {name} itself; leave it out")
        if not name or not word.isprintable():
            raise ValueError(f"--sbatch {word!r} is no option of sbatch; give NAME=VALUE or NAME")
        options[name] = value
    words = (f"--{name}={value}" if value else f"--{name}" for name, value in options.items())
    return [f"#SBATCH {shlex.quote(word)}" for word in words]


# A job ----------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Do the runs of one job. Returns: 0, 1 if a run failed, 143 if SLURM asked the job to stop"""
    parser = Parser(prog="grid.executors.slurm", description="The runs of one job of a SLURM array.")
    parser.add_argument("runs", type=PATH, help="file that `reproduce.py plan --format slurm DIR` wrote")
    parser.add_argument("job", type=int, help="number of the job: SLURM_ARRAY_TASK_ID")
    parser.add_argument("--output", type=PATH, default="output")
    parser.add_argument("--prec", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--feature-store", default="")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--per-gpu", type=int, default=1)
    args = parser.parse_args(argv)
    try:
        return _work(args)
    except ERRORS as error:
        sys.exit(f"error: {message_of(error)}")


def _work(args) -> int:
    signals = _Signals()
    failed, interrupted = [], False
    try:
        wanted = read_job(args.runs, args.job)
        how = {"prec": args.prec, "threads": args.threads, "store": args.feature_store}
        planned = plan(wanted, args.output, default_root(), **how)
        executor = LocalExecutor(args.jobs, args.per_gpu, patience=PATIENCE)
        summary = scheduler.run(planned.values(), executor, Display())
        failed, interrupted = summary.failed, summary.interrupted
    except KeyboardInterrupt:
        interrupted = True
    for run in failed:
        print(f"\n{Failure.read(run.output, run.name)}")
    if not interrupted:
        return int(bool(failed))
    print(f"{signals.first}: the runs of this job stopped; they go on when it is started again", flush=True)
    if signals.first == "SIGUSR1":
        _requeue(args.job)
    return STATUS


def read_job(path: str | Path, job: int) -> list[tuple[Spec, list[str]]]:
    """The runs of a job, each with what it is to record. Raises: ValueError if the file has no such job"""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    mine = [row for row in rows if row["job"] == job]
    if not mine:
        raise ValueError(f"{path} has the jobs 0 to {max(row['job'] for row in rows)}, and no job {job}")
    return [(Spec(**{**row["spec"], "pairs": tuple(row["spec"]["pairs"])}), row["record"]) for row in mine]


class _Signals:
    """Turns the first signal into a KeyboardInterrupt, which ends a grid. Later ones are ignored."""

    def __init__(self):
        self.first = ""  # its name
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, frame) -> None:
        if not self.first:
            self.first = signal.Signals(number).name
            raise KeyboardInterrupt


def _requeue(job: int) -> None:
    """Put this job back into the queue. SLURM ends it for that."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if not array:
        return
    command = ["scontrol", "requeue", f"{array}_{job}"]  # without the number: all jobs of the array
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{pasted(command)} failed ({error}); `reproduce.py plan` again lists what is not done")


if __name__ == "__main__":
    sys.exit(main())
