"""Which results count beside what lies on this machine now: crafted folders over a small DTD."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

import datasets  # noqa: F401 - registers the data sets
import grid.current
import launch.inputs
from clipfit.io import digests
from dassl.run_folder import write_config
from grid.executors import Outcome
from grid.plan import NOT_COMPARED, plan
from grid.scheduler import move_aside, run
from grid.spec import Spec
from launch.compare import NOT_RECORDED
from launch.inputs import note_tensors, read_inputs
from launch.resolve import PROJECT

BACKBONE = ("MODEL.BACKBONE.NAME", "random:ViT-B/16")
TRAINING = Spec("CLIPFit", "base2new", "dtd", 1, 1, pairs=BACKBONE)
TEST = replace(TRAINING, eval_only=True)
NEWEST = "model.pth.tar-1"
CLASSES = ("banded", "dotted", "woven", "zigzagged")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A small DTD. Files that were written a moment ago are read again at every look."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED", 10**12)
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(CLASSES):
        (tmp_path / "data/dtd/images" / name).mkdir(parents=True)
        for part in split:
            picture(tmp_path, f"{name}/{part}.png", label)
            split[part].append([f"{name}/{part}.png", label, name])
    write_split(tmp_path, split)


def picture(tmp_path, path, shade):
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(tmp_path / "data/dtd/images" / path)


def write_split(tmp_path, split):
    (tmp_path / "data/dtd/split_zhou_DescribableTextures.json").write_text(json.dumps(split))


@pytest.fixture
def look(tmp_path):
    def look(spec=TRAINING, **options):
        return plan([(spec, ())], tmp_path / "out", str(tmp_path / "data"), **options)[spec]

    return look


def finish(planned, **inputs):
    """Leave what a finished run of the plan leaves: its config, its result and what it has read."""
    cfg = planned.config()
    cfg.TRAINER.CLIPFIT.PREC = "fp32"
    write_config(planned.folder, cfg, "python train.py")
    read = read_inputs(cfg).digests
    note_tensors(read, cfg)
    result = {"trainer_version": 1, "accuracy": 50.0, "inputs": {**read, **inputs}}
    (planned.folder / "result.json").write_text(json.dumps(result))


def train(planned, weight=1.0, **others):
    """Leave a finished training with this model."""
    folder = planned.folder / "clip"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"state_dict": {"w": torch.tensor([weight])}, "epoch": 1, **others}, folder / "model.pth.tar-1"
    )
    finish(planned)


def other_photo(tmp_path):
    picture(tmp_path, "banded/train.png", 200)


def corrected_split(tmp_path):
    path = tmp_path / "data/dtd/split_zhou_DescribableTextures.json"
    split = json.loads(path.read_text())
    split["train"][0], split["test"][0] = split["test"][0], split["train"][0]
    write_split(tmp_path, split)


def other_test_photo(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "data/dtd/images/banded/test.png")


@pytest.mark.parametrize(
    "change, words",
    [
        (other_photo, "the training images: sha256 "),
        (corrected_split, "the training list: 2 images there, 2 now"),
        (other_test_photo, "the test images, their sizes or contents: sha256 "),
    ],
)
def test_a_result_of_other_data_is_stale_in_words(look, tmp_path, change, words):
    finish(look())
    assert (look().state, look().remarks, look().footnotes) == ("done", (), ())
    change(tmp_path)
    planned = look()
    assert planned.state == "stale" and words in planned.reason and planned.result is None
    assert "\n" not in planned.reason


def test_an_interrupted_run_of_other_data_is_stale_too(look, tmp_path):
    planned = look()
    finish(planned)
    (planned.folder / "environment.json").write_text((planned.folder / "result.json").read_text())
    (planned.folder / "result.json").rename(planned.folder / "resume.pt")
    assert look().state == "unfinished"
    other_photo(tmp_path)
    assert look().state == "stale"


@pytest.mark.parametrize(
    "recorded, words",
    [
        ({"backbone": "0" * 64}, ""),  # a random backbone has no file: nothing to compare
        ({"trainer_version": 7}, "the version of CLIPFit: 7 there, 1 now"),
        (
            {"code": {"trainers/mine.py": "0" * 64}},
            "trainers/mine.py: sha256 000000000000... there",
        ),
    ],
)
def test_version_and_code_of_a_plugin_decide(look, recorded, words):
    finish(look(), **recorded)
    assert look().state == ("stale" if words else "done") and words in look().reason


def test_changed_code_of_a_shipped_method_is_one_remark_and_no_state(look):
    finish(look(), code={"trainers/clipfit.py": "0" * 64})
    planned = look()
    assert planned.state == "done" and planned.footnotes == ()
    assert "trainers/clipfit.py" in planned.remarks[0] and "raise `version`" in planned.remarks[0]
    assert len(planned.remarks) == 1


def test_a_test_is_done_while_its_training_has_left_the_model_that_it_tested(look):
    train(look(TEST).needs)
    finish(look(TEST))
    assert look(TEST).state == "done"
    train(look(TEST).needs, weight=2.0)
    planned = look(TEST)
    assert (
        planned.state == "stale"
        and "was trained anew: its checkpoint and its tensors differ" in planned.reason
    )


def test_equal_tensors_in_another_file_are_the_same_model(look):
    train(look(TEST).needs)
    finish(look(TEST))
    train(look(TEST).needs, written="again")
    assert look(TEST).state == "done"


def test_a_test_is_done_again_when_its_training_leaves_another_model(look, progress):
    class Executor:
        slots, started = 1, []

        def open(self, planned=()):
            pass

        close = open

        def takes(self, planned):
            return True

        def start(self, planned):
            self.started.append(planned)
            finish(planned) if planned.needs else train(planned, weight=2.0)

        def wait(self):
            return [Outcome(self.started[-1])]

    train(look(TEST).needs)
    finish(look(TEST))
    (look(TEST).needs.folder / "result.json").unlink()
    planned = look(TEST)
    assert (planned.needs.state, planned.state) == ("unfinished", "done")
    executor = Executor()
    assert run([planned], executor, progress).done == executor.started == [planned.needs, planned]
    assert look(TEST).state == "done" and progress.shown[-1].total == 2


def test_a_test_of_a_stale_training_is_stale(look, tmp_path):
    train(look(TEST).needs)
    finish(look(TEST))
    other_photo(tmp_path)
    planned = look(TEST)
    assert planned.state == planned.needs.state == "stale"
    assert planned.reason.startswith("its training run is stale: the training images")


def test_a_result_whose_data_are_not_here_counts_with_a_footnote(look, tmp_path):
    finish(look())
    (tmp_path / "data/dtd").rename(tmp_path / "elsewhere")
    planned = look()
    assert (planned.state, planned.footnotes, planned.result["accuracy"]) == ("done", (NOT_COMPARED,), 50.0)
    assert "dtd is not there" in planned.remarks[0]


def test_embedded_data_that_are_not_here_are_not_drawn(look, tmp_path):
    embedded = replace(TRAINING, dataset="demo")
    planned = look(embedded)
    planned.folder.mkdir(parents=True)
    (planned.folder / "result.json").write_text(
        json.dumps({"config_digest": next(iter(planned.digests)), "inputs": {"lists": {}, "code": {}}})
    )
    assert (look(embedded).state, look(embedded).footnotes) == ("done", (NOT_COMPARED,))
    assert not (tmp_path / "data/demo").exists()


def test_a_result_without_inputs_counts_with_a_footnote_until_it_is_verified(look):
    planned = look()
    finish(planned)
    result = json.loads((planned.folder / "result.json").read_text())
    del result["inputs"]
    (planned.folder / "result.json").write_text(json.dumps(result))
    assert (look().state, look().footnotes, look().remarks) == ("done", (NOT_RECORDED,), (NOT_RECORDED,))
    stale = look(verify=True)
    assert (stale.state, stale.runnable, stale.result) == ("stale", True, result)
    aside = move_aside(stale)
    assert json.loads((aside / "result.json").read_text()) == result
    finish(stale)
    stale.refresh(anew=True)
    assert (stale.state, look(verify=True).state) == ("done", "done")


def test_data_are_read_once_for_all_runs_and_only_for_those_that_have_begun(look, tmp_path, monkeypatch):
    looked, read = [], []
    inputs, data = grid.current.read_inputs, launch.inputs._read_data
    monkeypatch.setattr(grid.current, "read_inputs", lambda *a, **k: looked.append(1) or inputs(*a, **k))
    monkeypatch.setattr(launch.inputs, "_read_data", lambda *a: read.append(1) or data(*a))
    specs = [replace(TRAINING, pairs=(*BACKBONE, "OPTIM.LR", str(rate))) for rate in (0.1, 0.2, 0.3)]
    specs.append(replace(TRAINING, pairs=(*BACKBONE, "DATALOADER.TRAIN_X.BATCH_SIZE", "2")))
    wanted = [(spec, ()) for spec in [*specs, TRAINING]]
    planned = plan(wanted, tmp_path / "out", str(tmp_path / "data"))
    assert looked == read == []
    for spec in specs:
        finish(planned[spec])
    looked.clear(), read.clear()
    again = plan(wanted, tmp_path / "out", str(tmp_path / "data"))
    assert [again[spec].state for spec in [*specs, TRAINING]] == ["done"] * 4 + ["todo"]
    assert (len(looked), len(read)) == (4, 1)
