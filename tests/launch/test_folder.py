"""Where a run lies, and what an existing folder means."""

import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest

from clipfit.io.files import temporary_beside
from dassl.run_folder import write_config
from launch import folder as folder_module
from launch.arguments import parse_args
from launch.folder import claim, find_trained, finished, run_folder
from launch.resolve import resolve

PROJECT = Path(__file__).parents[2]
DTD = str(PROJECT / "configs/datasets/dtd.yaml")


def base_words(*words):
    return ["--trainer", "CLIPFit", "--dataset-config-file", DTD, "--seed", "1", *map(str, words)]


def resolved(*words):
    return resolve(parse_args(base_words(*words)))


def start(folder, *words, **options):
    """Claim ``folder`` for a run; returns a result that is there already, and the run."""
    run = resolved(*words)
    run.cfg.OUTPUT_DIR = str(folder)
    found = claim(run, ["python", "train.py"], **options)
    return found and found.result, run


@pytest.mark.parametrize(
    "words, path",
    [
        (["--protocol", "base2new"], "base2new/train_base/dtd/shots_16/CLIPFit/vit_b16/seed1"),
        (["--protocol", "base2new", "--eval-only"], "base2new/test_new/dtd/shots_16/CLIPFit/vit_b16/seed1"),
        (["--protocol", "few_shot", "--shots", 4], "few_shot/dtd/shots_4/CLIPFit/vit_b16/seed1"),
        (["--protocol", "cross_dataset"], "cross_dataset/train/dtd/shots_16/CLIPFit/vit_b16/seed1"),
        (
            ["--protocol", "base2new", "--backbone", "RN50"],
            "base2new/train_base/dtd/shots_16/CLIPFit/rn50/seed1",
        ),
    ],
)
def test_the_path_says_protocol_data_shots_method_config_and_seed(words, path):
    assert run_folder(resolved(*words)) == Path("output") / path


def test_pairs_that_change_the_experiment_get_a_folder_of_their_own():
    plain = run_folder(resolved("--protocol", "base2new"))
    for pairs in (["OPTIM.MAX_EPOCH", 100], ["DATALOADER.NUM_WORKERS", 2], ["DATASET.NUM_SHOTS", 16]):
        assert (
            run_folder(resolved("--protocol", "base2new", *pairs)) == plain
        )  # nothing differs from the recipe
    variants = [["OPTIM.MAX_EPOCH", 5], ["OPTIM.MAX_EPOCH", 6], ["TRAINER.CLIPFIT.BETA", 2]]
    folders = {run_folder(resolved("--protocol", "base2new", *pairs)) for pairs in variants}
    assert len(folders) == 3 and plain not in folders
    assert all(path.parent.name.startswith("vit_b16-") and len(path.parent.name) == 16 for path in folders)


def test_flags_that_the_path_does_not_show_get_a_folder_of_their_own():
    config = ["--protocol", "base2new", "--config-file", str(PROJECT / "configs/ablations/bias_d.yaml")]
    plain = run_folder(resolved(*config))
    assert plain.parent.name == "bias_d"
    assert run_folder(resolved(*config, "--backbone", "ViT-B/16")) == plain  # what it is anyway
    for flags in (["--backbone", "RN50"], ["--transforms", "normalize"]):
        assert run_folder(resolved(*config, *flags)).parent.name.startswith("bias_d-")


def finish(run):
    """Leave a result where a run would."""
    folder = run_folder(run)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    return folder


def trained(*words):
    args = parse_args(base_words(*words))
    return find_trained(args, resolve(args))


@pytest.mark.parametrize(
    "training, test",
    [
        (["OPTIM.MAX_EPOCH", 5], ["OPTIM.MAX_EPOCH", 5]),
        (["OPTIM.MAX_EPOCH", 5], ["OPTIM.MAX_EPOCH", 5, "DATASET.SUBSAMPLE_CLASSES", "all"]),
        (["TEST.PER_CLASS_RESULT", "True"], ["TEST.PER_CLASS_RESULT", "True"]),
        (["TEST.SPLIT", "val"], ["TEST.SPLIT", "val"]),
        ([], ["TEST.SPLIT", "val"]),
    ],
)
def test_a_test_finds_the_run_trained_with_the_same_pairs(training, test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = finish(resolved("--protocol", "base2new", *training))
    assert trained("--protocol", "base2new", "--eval-only", *test) == folder


@pytest.mark.parametrize("epochs", [10, 100])  # ImageNet's recipe and the target's
@pytest.mark.parametrize(
    "protocol, trains", [("cross_dataset", "cross_dataset"), ("domain_shift", "few_shot")]
)
def test_a_transfer_test_loads_the_model_of_its_source(protocol, trains, epochs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    imagenet = ["--dataset-config-file", str(PROJECT / "configs/datasets/imagenet.yaml")]
    folder = finish(resolved("--protocol", trains, *imagenet, "OPTIM.MAX_EPOCH", epochs))
    test = ["--protocol", protocol, "--eval-only", "OPTIM.MAX_EPOCH", epochs]
    assert trained(*test) == folder
    assert run_folder(resolved(*test)).parts[:4] == ("output", protocol, "test", "dtd")
    with pytest.raises(FileNotFoundError, match=f"--protocol {trains} .*caltech101.yaml"):
        trained(*test, "RUN.SOURCE", "caltech101")


@pytest.mark.parametrize("trainer", ["CoCoOp", "ProGrad", "KgCoOp"])
@pytest.mark.parametrize("training", ["few_shot", "cross_dataset"])
@pytest.mark.parametrize("protocol, target", [("cross_dataset", "dtd"), ("domain_shift", "imagenetv2")])
def test_a_transfer_test_finds_the_model_under_either_protocol_that_trains_it(
    protocol, target, training, trainer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ["--trainer", trainer, "--shots", "16", "--seed", "1"]
    folder = finish(resolve(parse_args([*words, "--protocol", training, "--dataset", "imagenet"])))
    args = parse_args([*words, "--protocol", protocol, "--dataset", target, "--eval-only"])
    assert find_trained(args, resolve(args)) == folder


def test_the_model_of_the_recipes_own_protocol_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--trainer", "KgCoOp", "--seed", "1"]
    folders = {
        one: finish(resolve(parse_args([*words, "--protocol", one, "--dataset", "imagenet"])))
        for one in ("few_shot", "cross_dataset")
    }
    for protocol, target, training in (
        ("cross_dataset", "dtd", "cross_dataset"),
        ("domain_shift", "imagenetv2", "few_shot"),
    ):
        args = parse_args([*words, "--protocol", protocol, "--dataset", target, "--eval-only"])
        assert find_trained(args, resolve(args)) == folders[training]


def test_a_training_that_another_protocol_has_finished_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--trainer", "KgCoOp", "--seed", "1", "--dataset", "demo", "--protocol"]
    few_shot, cross, otherwise = (
        resolve(parse_args([*words, *more]))
        for more in (["few_shot"], ["cross_dataset"], ["cross_dataset", "OPTIM.MAX_EPOCH", "3"])
    )
    for run in (cross, otherwise):
        run.cfg.OUTPUT_DIR = str(run_folder(run))
    assert finished(cross, None) is None
    folder = finish(few_shot)
    write_config(folder, few_shot.cfg, "python train.py")
    assert finished(otherwise, None) is None  # that one has other epochs

    found = finished(cross, None)
    assert found.result is not None and str(folder) == cross.cfg.OUTPUT_DIR
    assert "the few_shot protocol trains the same model" in found.notes[0]


def test_a_damaged_run_of_another_protocol_is_no_reason_not_to_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--trainer", "KgCoOp", "--seed", "1", "--dataset", "demo", "--protocol"]
    few_shot, cross = (resolve(parse_args([*words, one])) for one in ("few_shot", "cross_dataset"))
    (finish(few_shot) / "result.json").write_text("[]")
    cross.cfg.OUTPUT_DIR = str(run_folder(cross))
    assert finished(cross, None) is None


def test_a_finished_test_needs_no_training_run_any_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--protocol", "base2new", "--eval-only"]
    folder = finish(resolved(*words))
    (folder / "result.json").write_text('{"model_dir": "where/it/was"}')
    args = parse_args(base_words(*words))
    run = resolve(args)
    folder_module.settle_folders(args, run)
    assert run.cfg.RUN.MODEL_DIR == "where/it/was"
    with pytest.raises(FileNotFoundError, match="which is not there or not finished"):
        folder_module.settle_folders(parse_args(base_words("--redo", *words)), resolve(args))


def test_demo_targets_load_the_model_of_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="cross_dataset/train/demo/shots_16/CLIPFit/demo/seed1"):
        sketch = ["--dataset-config-file", str(PROJECT / "configs/datasets/demo_sketch.yaml")]
        trained("--protocol", "cross_dataset", "--eval-only", *sketch)


def test_a_test_without_a_seed_asks_for_it():
    args = parse_args(
        ["--trainer", "CLIPFit", "--dataset-config-file", DTD, "--protocol", "base2new", "--eval-only"]
    )
    with pytest.raises(ValueError, match="pass --seed"):
        find_trained(args, resolve(args))


def test_a_protocol_that_only_tests_says_which_one_trains():
    with pytest.raises(ValueError, match="only tests, with the model that --protocol few_shot trains"):
        resolved("--protocol", "domain_shift")
    zero_shot = resolved("--trainer", "ZeroshotCLIP", "--protocol", "domain_shift")
    assert zero_shot.trained_by == ""


def test_a_config_file_names_the_folder(tmp_path):
    path = tmp_path / "vit_b16_ep50.yaml"
    path.write_text("OPTIM: {MAX_EPOCH: 50}")
    assert run_folder(resolved("--config-file", path)).parent.name == "vit_b16_ep50"


def test_an_unfinished_run_is_taken_up_again_and_a_finished_one_returns_its_result(tmp_path):
    for _ in range(2):
        assert start(tmp_path / "run")[0] is None
        folder_module.release()
    (tmp_path / "run/result.json").write_text('{"accuracy": 50.0}')
    assert start(tmp_path / "run")[0] == {"accuracy": 50.0}


def test_what_a_killed_process_has_left_goes_with_the_next_start(tmp_path):
    run = tmp_path / "run"
    start(run)
    folder_module.release()
    (run / "m").mkdir()
    killed = subprocess.Popen(["true"])
    killed.wait()
    for beside in (run / "resume.pt", run / "m" / "model.pth.tar-1"):
        name = temporary_beside(beside).name
        beside.with_name(name.replace(f".{os.getpid()}-", f".{killed.pid}-")).write_bytes(b"half")
    (run / "m/checkpoint").write_text("model.pth.tar-1\n")
    (run / "m/model-best.pth.tar").touch()
    _, again = start(run)
    assert list(run.rglob("*.tmp")) == []
    assert [note for note in again.notes if "checkpoint: it names model-best.pth.tar now" in note]


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_a_run_without_the_records_asked_for_is_refused_and_kept(state, tmp_path):
    start(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    if state == "finished":
        (tmp_path / "result.json").write_text('{"accuracy": 50.0}')
    recorded = ["TRAIN.RECORD", "['change']"]
    folder_module.release()
    with pytest.raises(ValueError, match="did not record its change"):
        start(tmp_path, *recorded)
    (tmp_path / "change.jsonl").touch()
    finished = {"accuracy": 50.0} if state == "finished" else None
    assert start(tmp_path, *recorded)[0] == finished


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_another_experiment_in_the_folder_is_refused_with_the_keys_that_differ(state, tmp_path):
    start(tmp_path)
    (tmp_path / ("result.json" if state == "finished" else "resume.pt")).write_text("{}")
    before = sorted(path.read_bytes() for path in tmp_path.iterdir())
    with pytest.raises(
        ValueError, match=f"{state} run of another experiment:\n  OPTIM.LR: 0.002 there, 0.1 now\n"
    ):
        start(tmp_path, "OPTIM.LR", 0.1)
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == before


def test_a_start_that_failed_before_its_first_step_holds_no_folder(tmp_path):
    start(tmp_path, "OPTIM.LR", 9)
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "log.txt").write_text("error: OPTIM.LR is too high")
    folder_module.release()
    assert start(tmp_path)[0] is None


def test_a_test_of_another_model_is_another_run(tmp_path):
    start(tmp_path, "--eval-only", "--model-dir", "a")
    (tmp_path / "result.json").write_text('{"accuracy": 50.0}')
    with pytest.raises(ValueError, match="RUN.MODEL_DIR"):
        start(tmp_path, "--eval-only", "--model-dir", "b")


def test_a_resume_goes_on_with_the_same_experiment_only(tmp_path):
    start(tmp_path / "past")
    resume = ["--resume", tmp_path / "past"]
    assert start(tmp_path / "longer", *resume, "OPTIM.MAX_EPOCH", 200)[0] is None
    for no_train in (False, True):
        with pytest.raises(ValueError, match="(?s)--resume .*OPTIM.LR: 0.002 there, 0.1 now"):
            start(tmp_path / "other", *resume, "OPTIM.LR", 0.1, no_train=no_train)
    assert not (tmp_path / "other").exists()


def test_a_look_without_training_takes_no_folder(tmp_path):
    assert start(tmp_path / "run", no_train=True)[0] is None
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name, content", [("config.yaml", "{a: ["), ("config.yaml", "5"), ("result.json", '{"a')]
)
def test_a_damaged_record_is_named(name, content, tmp_path):
    start(tmp_path)
    (tmp_path / "resume.pt").touch()
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=name):
        start(tmp_path)


def test_files_of_another_program_are_never_written_over(tmp_path):
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "prompt_learner/model.pth.tar-50").write_bytes(b"precious")
    with pytest.raises(ValueError, match="model.pth.tar-50 but no config.yaml"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prompt_learner"]


def _claim_elsewhere(folder, messages):
    try:
        start(folder)
        messages.put("claimed")
    except RuntimeError as error:
        messages.put(str(error))


def test_going_on_with_other_threads_is_said(tmp_path):
    def notes(threads):
        folder_module.release()
        return [note for note in start(tmp_path, "THREADS", threads)[1].notes if "THREADS" in note]

    assert notes(1) == notes(2) == []  # nothing was computed yet
    (tmp_path / "resume.pt").touch()
    assert notes(2) == []
    (note,) = notes(1)
    assert "begun with THREADS 2 and goes on with 1" in note


def test_two_processes_cannot_run_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "LOCK_PATIENCE", 0.2)
    start(tmp_path)
    context = multiprocessing.get_context("fork")
    messages = context.Queue()
    other = context.Process(target=_claim_elsewhere, args=(tmp_path, messages))
    other.start()
    assert "another process is running in" in messages.get(timeout=60)
    other.join()
