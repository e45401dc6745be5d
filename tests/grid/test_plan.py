"""What a plan says about folders that are laid out by hand."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

import datasets  # noqa: F401 - registers the data sets
import trainers  # noqa: F401 - registers the trainers
from dassl.config import flatten
from dassl.config.identity import config_digest, digest, experiment
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.run_folder import RECORD_FILES, write_config
from datasets.demo import DrawnDataset
from grid.failures import Failure
from grid.plan import plan
from grid.scheduler import move_aside
from grid.source import dataset_folder
from grid.spec import Spec
from launch.arguments import parse_args
from launch.folder import run_folder
from launch.registered import class_fact, is_drawn, methods
from launch.resolve import PROJECT, resolve

TRAINING = Spec("CLIPFit", "base2new", "demo", 16, 1)
TEST = replace(TRAINING, eval_only=True)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(PROJECT)


@pytest.fixture
def look(tmp_path):
    """Plan one spec, under an output folder of its own."""

    def look(spec=TRAINING, record=(), root="data", **options):
        return plan([(spec, record)], tmp_path, root, **options)[spec]

    return look


def config_of(planned, *pairs):
    """The config that the planned command leads to, with these pairs behind it."""
    return resolve(parse_args([*planned.command[2:], *pairs])).cfg


def settle(cfg, precision):
    for node in cfg.TRAINER.values():
        if isinstance(node, dict) and node.get("PREC") == "auto":
            node.PREC = precision
    return cfg


def finish(planned, precision="fp32", **changes):
    """Leave what a finished run of the planned command leaves."""
    result = {
        "config_digest": config_digest(settle(config_of(planned), precision)),
        "trainer_version": 1,
        "accuracy": 50.0,
        **changes,
    }
    planned.folder.mkdir(parents=True, exist_ok=True)
    (planned.folder / "result.json").write_text(json.dumps(result))
    return result


def interrupt(planned, *pairs):
    """Leave what a run of the planned command leaves that was interrupted."""
    cfg = resolve(parse_args([*planned.command[2:], *pairs])).cfg
    planned.folder.mkdir(parents=True)
    write_config(planned.folder, settle(cfg, "fp32"), command="python train.py")
    (planned.folder / "metrics.jsonl").write_text('{"epoch": 1}\n')


def test_a_run_that_is_not_there_is_to_be_done(look):
    planned = look()
    assert (planned.state, planned.runnable, planned.result) == ("todo", True, None)


@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_a_result_counts_wherever_it_was_computed(look, precision):
    result = finish(look(), precision)
    planned = look()
    assert (planned.state, planned.result, planned.runnable) == ("done", result, False)


def test_a_result_of_another_config_or_version_is_stale(look):
    finish(look(), config_digest="0" * 64)
    write_config(look().folder, config_of(look(), "OPTIM.LR", "1.0"), "python train.py")
    assert (look().state, look().result) == ("stale", None)
    assert look().reason == "OPTIM.LR: 1.0 there, 0.002 now"
    finish(look(), trainer_version=0)
    assert (look().state, look().reason) == ("stale", "the version of CLIPFit: 0 there, 1 now")


def test_a_test_of_a_model_that_is_trained_otherwise_now_is_stale(look):
    training = look(TEST).needs
    finish(look(TEST), model_digest=finish(training)["config_digest"])
    assert look(TEST).state == "done"
    finish(look(TEST), model_digest="0" * 64)
    assert (look(TEST).state, look(TEST).reason) == ("stale", "it tested a model of another config")


def test_an_interrupted_run_goes_on_only_with_the_same_config(look):
    interrupt(look())
    assert look().state == "unfinished" and look().runnable
    other = look(replace(TRAINING, seed=2))
    interrupt(other, "OPTIM.LR", "1.0")
    assert look(replace(TRAINING, seed=2)).state == "stale"


def older(planned):
    """Make a finished or interrupted run one of a version that did not know two of today's keys."""
    config = flatten(settle(config_of(planned), "fp32"))
    del config["TRAINER.COOP.N_CTX"], config["INPUT.GB_K"]
    planned.folder.mkdir(parents=True, exist_ok=True)
    (planned.folder / "config.yaml").write_text(yaml.safe_dump(nested(config)))
    return digest(experiment(nested(config)))


def nested(flat):
    tree = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = list(value) if isinstance(value, tuple) else value
    return tree


def test_a_key_that_was_declared_since_makes_no_run_stale(look):
    digest_then = older(look(TEST).needs)
    finish(look(TEST).needs, config_digest=digest_then)
    older(look(TEST))
    finish(look(TEST), config_digest="of its own time", model_digest=digest_then)
    assert (look(TEST).needs.state, look(TEST).state) == ("done", "done")

    interrupted = look(replace(TRAINING, seed=2))
    older(interrupted)
    (interrupted.folder / "resume.pt").touch()
    assert look(replace(TRAINING, seed=2)).state == "unfinished"


@pytest.mark.parametrize(
    "files, reason",
    [
        ({"result.json": "{"}, "not valid JSON"),
        ({"result.json": "[]"}, "it holds [], no result"),
        ({"result.json": '{"accuracy": 150}'}, "accuracy is 150, which cannot be"),
        ({"resume.pt": "", "config.yaml": "[1"}, "damaged"),
        ({"metrics.jsonl": "{}"}, "config.yaml"),
    ],
)
def test_a_damaged_folder_is_stale_and_stops_no_plan(look, files, reason):
    folder = look().folder
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    planned = look()
    assert planned.state == "stale" and reason in planned.reason
    assert move_aside(planned).name == "seed1-damaged" and look().state == "todo"


def test_a_failure_is_told_until_the_run_is_there(look, tmp_path):
    planned = look()
    Failure(planned.command, "error: no memory", ["step 1", "error: no memory"]).write(tmp_path, planned.name)
    assert (look().state, look().reason, look().runnable) == ("failed", "error: no memory", True)
    finish(planned)
    assert look().state == "done"


def test_missing_images_are_named_and_such_a_run_is_not_tried(look, tmp_path):
    spec = Spec("CLIPFit", "few_shot", "dtd", 4, 1)
    missing = str(tmp_path / "dtd")
    planned = look(spec, root=str(tmp_path))
    assert (planned.state, planned.runnable) == ("no data", False) and missing in planned.reason
    finish(planned, trainer_version=0)
    planned = look(spec, root=str(tmp_path))
    assert (planned.state, planned.runnable, planned.missing_data) == ("stale", False, missing)
    (tmp_path / "dtd").mkdir()
    assert look(spec, root=str(tmp_path)).runnable


def test_a_test_needs_the_images_of_its_training_too(look, tmp_path):
    (tmp_path / "dtd").mkdir()
    test = Spec("CLIPFit", "cross_dataset", "dtd", 16, 1, eval_only=True, source="imagenet")
    planned = look(test, root=str(tmp_path))
    assert planned.state == "no data" and str(tmp_path / "imagenet") in planned.reason


def test_embedded_data_are_never_missing(look, tmp_path):
    assert look(root=str(tmp_path / "nowhere")).state == "todo"


def test_a_finished_run_without_an_asked_record_keeps_its_result_until_it_is_done_again(look):
    result = finish(look())
    (look().folder / "metrics.jsonl").write_text("{}\n")
    planned = look(record=["change"])
    assert (planned.state, planned.result, planned.runnable) == ("stale", result, True)
    assert planned.reason == "change not recorded"
    (planned.folder / RECORD_FILES["change"]).touch()
    assert look(record=["change"]).state == "done"


def test_tests_bring_their_training_along_and_one_training_serves_all(tmp_path):
    shift = [
        Spec("CLIPFit", "domain_shift", target, 16, 1, eval_only=True, source="demo")
        for target in ("demo_v2", "demo_sketch")
    ]
    few_shot = Spec("CLIPFit", "few_shot", "demo", 16, 1)
    planned = plan([(spec, ()) for spec in shift] + [(few_shot, ["change"])], tmp_path, "data")
    training = planned[few_shot]
    assert planned[shift[0]].needs is planned[shift[1]].needs is training
    assert list(dict.fromkeys(planned.values())) == [training, planned[shift[0]], planned[shift[1]]]
    assert training.record == {"change"} and "['change']" in training.command
    assert planned[shift[0]].record == frozenset()


def test_the_training_of_a_transfer_is_that_of_its_source(look):
    test = Spec("CLIPFit", "cross_dataset", "dtd", 16, 1, eval_only=True, source="imagenet")
    needs = look(test).needs.spec
    assert (needs.protocol, needs.dataset, needs.eval_only) == ("cross_dataset", "imagenet", False)
    assert look(Spec("ZeroshotCLIP", "base2new", "dtd", 16, 1, eval_only=True)).needs is None


FEW_SHOT, CROSS = (Spec("KgCoOp", protocol, "demo", 16, 1) for protocol in ("few_shot", "cross_dataset"))
CROSS_TEST = Spec("KgCoOp", "cross_dataset", "demo_signs", 16, 1, eval_only=True, source="demo")


def both(output):
    planned = plan([(spec, ()) for spec in (CROSS, CROSS_TEST, FEW_SHOT)], output, "data")
    return planned[FEW_SHOT], planned[CROSS], planned[CROSS_TEST].needs


def test_trainings_that_differ_in_the_protocols_name_only_are_one_run(tmp_path):
    few_shot, cross, tested = both(tmp_path)
    assert few_shot is cross is tested and few_shot.spec == FEW_SHOT


def test_a_result_under_either_protocol_is_found_by_both(tmp_path):
    folder = tmp_path / "cross_dataset/train/demo/shots_16/KgCoOp/demo/seed1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    few_shot, cross, tested = both(tmp_path)
    assert few_shot is cross is tested and few_shot.folder == folder

    other = tmp_path / "few_shot/demo/shots_16/KgCoOp/demo/seed1"
    other.mkdir(parents=True)
    (other / "result.json").write_text("{}")
    few_shot, cross, tested = both(tmp_path)  # earlier versions made both: each keeps its own
    assert few_shot.folder == other and cross is tested and cross.folder == folder


def test_requests_for_one_folder_are_one_run(tmp_path):
    plain = Spec("CLIPFit", "few_shot", "demo", 4, 1)
    spelled_out = replace(plain, pairs=("OPTIM.MAX_EPOCH", "30"))  # the recipe's own
    longer = replace(plain, pairs=("OPTIM.MAX_EPOCH", "31"))
    planned = plan([(plain, ["change"]), (spelled_out, ["gradient"]), (longer, [])], tmp_path, "data")
    assert planned[plain] is planned[spelled_out] is not planned[longer]
    assert planned[plain].record == {"change", "gradient"}


def test_all_seeds_are_planned_as_if_alone(tmp_path):
    specs = [replace(TRAINING, seed=seed) for seed in (1, 2, 7)]
    planned = plan([(spec, ()) for spec in specs], tmp_path, "data")
    for spec in specs:
        run = resolve(parse_args(planned[spec].command[2:]))
        assert planned[spec].folder == run_folder(run, str(tmp_path))
        assert config_digest(settle(run.cfg, "fp32")) in planned[spec].digests


def test_the_command_is_the_plain_one_where_train_py_finds_everything_itself(tmp_path):
    planned = plan([(TEST, ())], "output", "data")[TEST]
    assert shlex.join(planned.command) == (
        "python train.py --trainer CLIPFit --protocol base2new "
        "--dataset demo --shots 16 --seed 1 --root data --eval-only"
    )
    assert planned.folder == run_folder(resolve(parse_args(planned.command[2:])))
    elsewhere = plan([(TEST, ())], tmp_path, "data")[TEST]
    args = parse_args(elsewhere.command[2:])
    assert args.output_dir == str(tmp_path / planned.name) == str(elsewhere.folder)
    assert args.model_dir == str(elsewhere.needs.folder) and elsewhere.name == planned.name


def test_commands_work_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = replace(TRAINING, config_file="configs/_base_/demo.yaml")
    planned = plan([(spec, ())], "output", "data")[spec]
    assert planned.command[1] == str(PROJECT / "train.py")
    assert planned.folder == run_folder(resolve(parse_args(planned.command[2:])))


def test_a_store_of_features_is_passed_on_and_makes_no_other_run(look, tmp_path):
    planned = look(store=str(tmp_path / "store"))
    cfg = config_of(planned)
    assert str(tmp_path / "store") == cfg.FEATURES.STORE and config_of(look()).FEATURES.STORE is False
    assert planned.name == look().name
    finish(planned)
    assert look().state == look(store="elsewhere").state == "done"


def test_precision_and_threads_are_passed_on(look):
    planned = look(prec="fp16", threads=3)
    cfg = config_of(planned)
    assert cfg.TRAINER.CLIPFIT.PREC == "fp16" and cfg.THREADS == 3
    assert planned.name != look().name and planned.name == look(prec="fp16").name
    finish(planned)
    assert look(prec="fp16").state == "done" and look().state == "todo"
    assert look(prec="auto").name == look().name


def test_runs_of_a_method_whose_file_is_gone_are_read_and_never_done_again(look, tmp_path):
    spec = replace(TRAINING, trainer="Gone")
    with pytest.raises(ValueError, match="unknown trainer 'Gone'"):
        look(spec)
    folder = tmp_path / "base2new/train_base/demo/shots_16/Gone/demo/seed1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"accuracy": 50.0}')
    there, lacking = look(spec), look(replace(spec, seed=2))
    assert (there.folder, there.state, there.result) == (folder, "done", {"accuracy": 50.0})
    assert (lacking.state, lacking.result) == ("todo", None)
    for planned in (there, lacking):
        assert not planned.runnable and planned.reason == "trainers/ registers no Gone"
        assert planned.note == "no recipe, the method's defaults"
    assert look().note == "" and look().runnable


def test_planning_imports_no_torch(tmp_path):
    code = (
        "import sys; from grid.plan import plan; from grid.spec import Spec; import grid.scheduler\n"
        "plan([(Spec('CLIPFit', 'cross_dataset', 'dtd', 16, 1, True), ())], 'output', 'data')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


@pytest.mark.parametrize("name", methods())
def test_versions_read_from_the_source_are_those_of_the_classes(name):
    assert class_fact("trainers", name, "version", 1) == TRAINER_REGISTRY.get(name).version


@pytest.mark.parametrize("name", DATASET_REGISTRY.registered_names())
def test_folders_read_from_the_source_are_those_of_the_classes(name):
    dataset = DATASET_REGISTRY.get(name)
    if dataset.__module__.startswith("datasets."):
        assert dataset_folder(name) == dataset.dataset_dir
        assert is_drawn(name) == issubclass(dataset, DrawnDataset)
