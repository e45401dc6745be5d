"""Order, retries, what a failed run leaves and stops, with an executor that only writes results."""

import json
from dataclasses import dataclass, replace

import pytest
from filelock import FileLock

from dassl.config.identity import config_digest
from dassl.run_folder import LOCK, write_config
from grid.display import Counts, Display, duration
from grid.executors import Outcome
from grid.failures import Failure
from grid.plan import plan
from grid.scheduler import run
from grid.spec import Spec
from launch.arguments import parse_args
from launch.resolve import resolve

FEW_SHOT = Spec("CLIPFit", "few_shot", "demo", 4, 1)
SHIFT = Spec("CLIPFit", "domain_shift", "demo_v2", 16, 1, eval_only=True, source="demo")


class Fake:
    """Ends one run per call of `wait`, as told: an error, a loss, Ctrl-C, or (by default) a result."""

    def __init__(self, slots=1, **fates):
        self.slots, self.fates = slots, fates
        self.started, self.going, self.open_runs, self.closed = [], [], None, False

    def open(self, planned):
        self.open_runs = list(planned)

    def takes(self, planned):
        return len(self.going) < self.slots

    def start(self, planned):
        self.started.append(planned)
        self.going.append(planned)

    def wait(self):
        planned = self.going.pop(0)
        fates = self.fates.get(planned.spec.protocol, [])
        fate = fates.pop(0) if fates else None
        if fate is KeyboardInterrupt:
            raise KeyboardInterrupt
        if fate is not None:
            return [Outcome(planned, fate, lost=fate == "lost")]
        finish(planned)
        return [Outcome(planned)]

    def close(self):
        self.closed = True


def finish(planned, **changes):
    result = {"config_digest": next(iter(planned.digests)), "trainer_version": 1}
    planned.folder.mkdir(parents=True, exist_ok=True)
    (planned.folder / "result.json").write_text(json.dumps({**result, "seconds_train": 10.0, **changes}))


@pytest.fixture
def runs(tmp_path):
    def runs(*specs):
        return plan([(spec, ()) for spec in specs], tmp_path, "data")

    return runs


def test_a_training_comes_before_its_tests_and_finished_runs_are_not_repeated(runs, progress):
    sketch = replace(SHIFT, dataset="demo_sketch")
    planned = runs(SHIFT, sketch, FEW_SHOT)
    finish(planned[FEW_SHOT])
    planned = runs(SHIFT, sketch, FEW_SHOT)
    executor = Fake(slots=3)
    summary = run(planned.values(), executor, progress)
    training = planned[SHIFT].needs
    assert executor.started == summary.done == [training, planned[SHIFT], planned[sketch]]
    assert executor.closed and not summary.failed and not summary.interrupted
    assert all(one.state == "done" and one.result for one in planned.values())


def test_asking_for_a_test_alone_trains_its_model_too(runs, progress):
    planned = runs(SHIFT)
    summary = run([planned[SHIFT]], Fake(), progress)
    assert summary.done == [planned[SHIFT].needs, planned[SHIFT]]


def test_a_run_that_fails_once_is_tried_again(runs, progress):
    planned = runs(FEW_SHOT)[FEW_SHOT]
    summary = run([planned], Fake(few_shot=["no memory"]), progress)
    assert summary.done == [planned] and not summary.failed
    assert "tried once more: no memory" in progress.said[0]


def test_a_run_that_fails_twice_is_recorded_and_stops_only_its_tests(runs, progress, tmp_path):
    other = Spec("CLIPFit", "base2new", "demo", 16, 1)
    planned = runs(SHIFT, other)
    test, training = planned[SHIFT], planned[SHIFT].needs
    training.folder.mkdir(parents=True)
    (training.folder / "log.txt").write_text("".join(f"line {number}\n" for number in range(30)))
    summary = run(planned.values(), Fake(few_shot=["no memory", "no memory"]), progress)
    assert (summary.done, summary.failed, summary.blocked) == ([planned[other]], [training], [test])
    failure = Failure.read(tmp_path, training.name)
    assert failure.command == training.command and failure.error == "no memory"
    assert failure.log == [f"line {number}" for number in range(10, 30)]
    for spec, reason in ((training.spec, "no memory"), (SHIFT, "its training run failed: no memory")):
        again = runs(SHIFT)[spec]
        assert (again.state, again.reason, again.runnable) == ("failed", reason, True)
    run(runs(SHIFT).values(), Fake(), progress)
    assert Failure.read(tmp_path, training.name) is None and runs(SHIFT)[SHIFT].state == "done"


def test_a_run_that_ends_without_a_result_has_failed(runs, progress):
    class Idle(Fake):
        def wait(self):
            return [Outcome(self.going.pop(0))]

    (failed,) = run([runs(FEW_SHOT)[FEW_SHOT]], Idle(), progress).failed
    assert failed.reason == "it left no result"


def test_losing_a_machine_is_no_failure_of_the_run(runs, progress):
    planned = runs(FEW_SHOT)[FEW_SHOT]
    summary = run([planned], Fake(few_shot=["lost", "lost", "lost", "no memory"]), progress)
    assert summary.done == [planned]
    summary = run([runs(SHIFT)[SHIFT].needs], Fake(few_shot=["lost"] * 12), progress)
    assert summary.failed


class Beside(Fake):
    """Another process holds the lock of a run's folder until this executor has waited in vain."""

    def __init__(self, planned, leaves=lambda planned: None):
        super().__init__()
        planned.folder.mkdir(parents=True, exist_ok=True)
        self.lock, self.planned, self.leaves = FileLock(planned.folder / LOCK), planned, leaves
        self.lock.acquire()

    def wait(self):
        if self.going:
            return super().wait()
        self.leaves(self.planned)
        self.lock.release()
        return []


def test_a_run_of_another_process_is_waited_for_and_its_result_taken(runs, progress):
    planned = runs(SHIFT)
    training = planned[SHIFT].needs
    executor = Beside(training, leaves=finish)
    summary = run(planned.values(), executor, progress)
    assert summary.done == [training, planned[SHIFT]] and not summary.failed
    assert executor.started == [planned[SHIFT]]
    assert progress.said == [f"{training.name} is running in another process: waiting for it"]
    first = progress.shown[0]
    assert (first.running, first.elsewhere) == (0, 1) and "0 running, 1 running elsewhere" in str(first)


def test_a_run_that_another_process_gave_up_is_taken_over(runs, progress):
    planned = runs(FEW_SHOT)[FEW_SHOT]
    executor = Beside(planned)
    assert run([planned], executor, progress).done == [planned] == executor.started


def test_other_runs_go_on_beside_a_run_of_another_process(runs, progress):
    specs = [replace(FEW_SHOT, seed=seed) for seed in (1, 2)]
    planned = runs(*specs)
    executor = Beside(planned[specs[0]], leaves=finish)
    summary = run(planned.values(), executor, progress)
    assert executor.started == [planned[specs[1]]]
    assert summary.done == [planned[specs[1]], planned[specs[0]]]


def test_the_folder_of_a_stale_run_is_not_moved_from_under_another_process(runs, progress):
    planned = runs(FEW_SHOT)[FEW_SHOT]
    finish(planned, trainer_version=0)
    stale = runs(FEW_SHOT)[FEW_SHOT]
    executor = Beside(stale, leaves=finish)
    assert stale.state == "stale" and run([stale], executor, progress).done == [stale]
    assert executor.started == [] and not (stale.folder.parent / ".stale").exists()


def test_a_lock_that_was_met_only_by_the_run_is_no_failure(runs, progress):
    class Late(Fake):
        def wait(self):
            finish(planned)
            return [Outcome(self.going.pop(), "another process", elsewhere=True)]

    planned = runs(FEW_SHOT)[FEW_SHOT]
    summary = run([planned], Late(), progress)
    assert summary.done == [planned] and not Failure.path(planned.output, planned.name).exists()


def test_a_run_that_another_process_did_since_the_plan_is_not_started(runs, progress):
    planned = runs(FEW_SHOT)[FEW_SHOT]
    finish(planned)
    executor = Fake()
    assert run([planned], executor, progress).done == [planned] and executor.started == []


def test_ctrl_c_stops_and_the_next_call_goes_on(runs, progress):
    specs = [replace(FEW_SHOT, seed=seed) for seed in (1, 2, 3)]
    planned = runs(*specs)
    executor = Fake(few_shot=[None, KeyboardInterrupt])
    summary = run(planned.values(), executor, progress)
    assert summary.interrupted and executor.closed and summary.done == [planned[specs[0]]]
    again = runs(*specs)
    summary = run(again.values(), Fake(), progress)
    assert summary.done == [again[specs[1]], again[specs[2]]] and not summary.interrupted


def test_a_stale_run_is_moved_aside_and_done_again(runs, progress):
    planned = runs(FEW_SHOT)[FEW_SHOT]
    for old in ("a" * 64, "b" * 64, "a" * 64):
        finish(planned, config_digest=old)
        stale = runs(FEW_SHOT)[FEW_SHOT]
        assert stale.state == "stale"
        run([stale], Fake(), progress)
    aside = planned.folder.parent / ".stale"
    assert sorted(path.name for path in aside.iterdir()) == [
        "seed1-aaaaaaaa",
        "seed1-aaaaaaaa-2",
        "seed1-bbbbbbbb",
    ]
    assert json.loads((aside / "seed1-bbbbbbbb/result.json").read_text())["config_digest"] == "b" * 64
    assert runs(FEW_SHOT)[FEW_SHOT].state == "done"


def test_an_interrupted_run_of_another_config_is_moved_aside(runs, progress):
    planned = runs(FEW_SHOT)[FEW_SHOT]
    cfg = resolve(parse_args([*planned.command[2:], "OPTIM.LR", "1.0"])).cfg
    planned.folder.mkdir(parents=True)
    write_config(planned.folder, cfg, command="python train.py")
    (planned.folder / "resume.pt").touch()
    run([runs(FEW_SHOT)[FEW_SHOT]], Fake(), progress)
    aside = planned.folder.parent / f".stale/seed1-{config_digest(cfg)[:8]}"
    assert (aside / "resume.pt").exists() and not (planned.folder / "resume.pt").exists()


def test_the_display_knows_what_is_left(runs, progress):
    specs = [replace(FEW_SHOT, seed=seed) for seed in range(1, 6)]
    run(runs(*specs).values(), Fake(slots=2), progress)
    assert progress.shown[0] == Counts(total=5, done=0, running=2, failed=0, seconds_left=None)
    second = progress.shown[1]  # one is done in 10 s: 2 pending and 2 running in two slots
    assert (second.done, second.running) == (1, 2)
    assert second.seconds_left == pytest.approx(20, abs=0.5)
    assert progress.shown[-1] == Counts(total=5, done=5, running=0, failed=0, seconds_left=0)


@dataclass
class Text:
    written: str = ""
    terminal: bool = False

    def write(self, text):
        self.written += text

    def isatty(self):
        return self.terminal

    def flush(self):
        pass


COUNTS = Counts(total=40, done=12, running=2, failed=1, seconds_left=754)


def test_without_a_terminal_a_line_per_change():
    text = Text()
    display = Display(text)
    for counts in (COUNTS, replace(COUNTS, seconds_left=700), replace(COUNTS, done=13, failed=0)):
        display.show(counts)
    display.close()
    assert text.written.splitlines() == [
        "12 of 40 runs done, 2 running, 1 failed, about 13 min left",
        "13 of 40 runs done, 2 running, about 13 min left",
    ]


def test_on_a_terminal_one_bar():
    text = Text(terminal=True)
    display = Display(text)
    for done in (12, 13):
        display.show(replace(COUNTS, done=done))
    display.close()
    bars = text.written.split("\r")
    assert any("32%" in bar and "12 of 40 runs done, 2 running, 1 failed" in bar for bar in bars)
    assert any("35%" in bar and "13 of 40 runs done" in bar for bar in bars)


def test_durations_are_read_at_a_glance():
    assert [duration(s) for s in (0, 99, 754, 5940, 12000)] == [
        "0 s",
        "99 s",
        "13 min",
        "99 min",
        "3 h 20 min",
    ]
