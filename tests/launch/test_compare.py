"""One thing changes: it is named with both values and what to do. Nothing changes: the run is the same."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clipfit.families.openai import DEMO_FILE
from dassl.run_folder import write_config
from dassl.utils import save_checkpoint, write_json
from launch import compare as compare_module
from launch import folder as folder_module
from launch import registered
from launch.arguments import parse_args
from launch.compare import compare
from launch.folder import claim, finished
from launch.inputs import read_inputs
from launch.resolve import resolve, settle_input

PROJECT = Path(__file__).parents[2]
SPLIT = "split_zhou_DescribableTextures.json"
BASE = [
    "--dataset-config-file",
    str(PROJECT / "configs/datasets/dtd.yaml"),
    "--seed",
    "1",
    "--trainer",
    "CLIPFit",
]
SITUATIONS = ["finished", "unfinished", "--resume"]


class Place:
    """A run folder with what a run needs, and ways to change that."""

    def __init__(self, tmp_path):
        self.tmp, self.root = tmp_path, tmp_path / "data"
        self.folder, self.model, self.backbone = tmp_path / "run", tmp_path / "model", tmp_path / "clip.pt"
        self.listed = tmp_path / "list.txt"
        shutil.copy(DEMO_FILE, self.backbone)
        self.listed.write_text("".join(f"{name}/train_0.png\n" for name in ("banded", "dotted", "woven")))
        self.train_model(0.0)
        self.words = ()

    def train_model(self, value, **more):
        shutil.rmtree(self.model, ignore_errors=True)
        state = {"state_dict": {"w": torch.full((2, 3), value)}, "epoch": 1, "optimizer": None, **more}
        save_checkpoint(state, self.model / "prompt_learner")

    def run(self, *words, settled=True):
        """The run of these words, else of those that the folder was made with; and its inputs."""
        words = words or self.words
        flags = [*BASE, "--root", self.root, "--output-dir", self.folder, "--backbone", self.backbone]
        run = resolve(parse_args([*map(str, flags), *map(str, words)]))
        if settled:
            settle_input(run.cfg)
            for node in run.cfg.TRAINER.values():
                if isinstance(node, dict) and node.get("PREC") == "auto":
                    node.PREC = "fp32"
        return run, read_inputs(run.cfg)

    def leave(self, *words, state="finished", tensors=False, **result):
        """The files that such a run leaves, as far as they are compared."""
        self.words = words
        run, inputs = self.run(*words)
        if tensors:
            inputs = read_inputs(run.cfg, tensors=True)
        write_config(self.folder, run.cfg, "python train.py")
        write_json({"inputs": inputs.digests}, self.folder / "environment.json")
        images = inputs.paths.get("train", [])
        write_json({"images": images, "files": inputs.train_files}, self.folder / "fewshot.json")
        if state == "finished":
            content = {"accuracy": 50.0, "inputs": inputs.digests, "trainer_version": 1, **result}
            write_json(content, self.folder / "result.json")
        else:
            (self.folder / "resume.pt").touch()

    def start(self, situation, *words):
        """Start such a run again; with --resume, in another folder. Returns a finished run that is there."""
        if situation == "finished":
            run, inputs = self.run(*words, settled=False)
            found = finished(run, inputs)
            assert found is not None
            return found
        run, inputs = self.run(*words)
        if situation == "--resume":
            run.cfg.RESUME, run.cfg.OUTPUT_DIR = str(self.folder), str(self.tmp / "other")
        try:
            return claim(run, ["python", "train.py"], inputs)
        finally:
            folder_module.release()

    def refused(self, situation, *words):
        """The message of a start that is refused, which leaves every file as it was."""
        before = contents(self.folder)
        with pytest.raises(ValueError) as error:
            self.start(situation, *words)
        assert contents(self.folder) == before
        return str(error.value)

    def image(self, name):
        return self.root / f"dtd/images/{name}.png"

    def edit_split(self, change):
        path = self.root / "dtd" / SPLIT
        split = json.loads(path.read_text())
        change(split)
        path.write_text(json.dumps(split))


def contents(folder):
    return {
        path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def place(root, tmp_path):
    return Place(tmp_path)


def next_step(situation):
    return (
        "--resume .*: that run is of another" if situation == "--resume" else r"--redo, .*run/\.old/<time>/"
    )


# What changes a training run


def replace_photo(place):
    content = place.image("dotted/train_1").read_bytes()
    place.image("dotted/train_1").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def correct_a_label(split):
    entry = next(entry for entry in split["train"] if entry[0] == "banded/train_0.png")
    entry[1:] = [1, "dotted"]


def rename_a_class(split):
    for entry in (entry for part in split.values() for entry in part if entry[1] == 0):
        entry[2] = "striped"


def exchange(split):
    split["train"], split["test"] = split["test"], split["train"]


def another_root(place):
    place.root = shutil.copytree(place.root, place.tmp / "elsewhere")
    replace_photo(place)


def take_photo_out(place):
    place.edit_split(lambda split: split["train"].pop(0))


SHA = r"sha256 [0-9a-f]{12}\.\.\."
ONE_PHOTO = (
    f"the training images: 1 of 9 differ, first dotted/train_1.png: {SHA} there, [0-9a-f]{{12}}... now"
)
CHANGES = {
    "a photo of the same name and size": (replace_photo, ONE_PHOTO),
    "another root": (another_root, ONE_PHOTO),
    "a photo less": (take_photo_out, "the training list: 9 images there, 8 now"),
    "lists exchanged": (
        lambda p: p.edit_split(exchange),
        "(?s)training list: 9 images there, 12.*test list: 12 images",
    ),
    "another order": (
        lambda p: p.edit_split(lambda split: split["train"].reverse()),
        "the training list: 9 images there, 9 now, in another order",
    ),
    "a corrected label": (
        lambda p: p.edit_split(correct_a_label),
        "training list: 9 .* with other labels or class names",
    ),
    "a class renamed": (
        lambda p: p.edit_split(rename_a_class),
        "training list: 9 .* with other labels or class names",
    ),
    "a test photo less": (
        lambda p: p.edit_split(lambda split: split["test"].pop()),
        "the test list: 12 images there, 11 now",
    ),
    "another test photo": (
        lambda p: p.image("banded/test_1").write_bytes(b"larger" * 100),
        f"the test images, their sizes or contents: {SHA} there, {SHA} now".replace(
            "there, sha256 ", "there, "
        ),
    ),
    "a validation photo less": (
        lambda p: p.edit_split(lambda split: split["val"].pop()),
        "the validation list: 6 images there, 5 now",
    ),
    "another file at the backbone's path": (
        lambda p: p.backbone.write_bytes(p.backbone.read_bytes() + b"\0"),
        rf"the backbone .*clip\.pt: {SHA} there, [0-9a-f]{{12}}\.\.\. now",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_run_reads_has_changed(name, situation, place):
    change, message = CHANGES[name]
    place.leave(state=situation)
    change(place)
    said = place.refused(situation)
    assert re.search(message, said) and re.search(next_step(situation), said), said


@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_edited_fewshot_list(situation, place):
    place.leave("DATASET.FEWSHOT_LIST", place.listed, state=situation)
    place.listed.write_text(place.listed.read_text().replace("banded/train_0", "banded/train_2"))
    said = place.refused(situation)
    expected = "1 of them differ, first banded/train_0.png there, banded/train_2.png now"
    assert f"the training list: 3 images there, 3 now; {expected}" in said


@pytest.mark.parametrize("situation", SITUATIONS)
def test_another_file_of_initial_weights(situation, place):
    weights = place.tmp / "init.pt"
    weights.write_bytes(b"one")
    place.leave("MODEL.INIT_WEIGHTS", weights, state=situation)
    weights.write_bytes(b"two")
    assert re.search(rf"MODEL.INIT_WEIGHTS .*init.pt: {SHA} there", place.refused(situation))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_another_setting(situation, place):
    place.leave(state=situation)
    assert "OPTIM.LR: 0.002 there, 0.1 now" in place.refused(situation, "OPTIM.LR", 0.1)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_another_version_of_the_trainer(situation, place, monkeypatch):
    place.leave(state=situation)
    facts = {"version": 2}
    monkeypatch.setattr(
        "launch.inputs.class_fact", lambda folder, name, key, default: facts.get(key, default)
    )
    assert "the version of CLIPFit: 1 there, 2 now" in place.refused(situation)


# What changes nothing


def move(place):
    place.root = shutil.move(place.root, place.tmp / "moved")


def touch(place):
    for path in place.root.rglob("*.*"):
        os.utime(path, (1, 1))


def move_backbone(place):
    place.backbone = shutil.move(place.backbone, place.tmp / "the_same.pt")


def forget_keys(place):
    """As an older version wrote it: a key declared since is not there, as is one that only reports."""
    path = place.folder / "config.yaml"
    kept = [
        line
        for line in path.read_text().splitlines()
        if not re.match(r" *(UPDATE_LAYERNORM|ACCEPT|CROP_PADDING):", line)
    ]
    assert len(kept) == len(path.read_text().splitlines()) - 3
    path.write_text("\n".join(kept))


SAME = {
    "nothing": (lambda p: None, []),
    "the data moved": (move, []),
    "touched files": (touch, []),
    "the backbone moved": (move_backbone, []),
    "a file beside the lists": (lambda p: shutil.copy(p.image("banded/train_0"), p.image("banded/new")), []),
    "a key declared since": (forget_keys, []),
    "other workers and threads": (
        lambda p: None,
        [*("DATALOADER.NUM_WORKERS", 0, "DATALOADER.CACHE_GB", 0), "DATALOADER.TEST_CACHE_GB", 0],
    ),
    "other checkpoints and lines": (lambda p: None, ["TRAIN.CHECKPOINT_FREQ", 3, "TRAIN.PRINT_FREQ", 2]),
    "a list of what was sampled": (lambda p: None, ["DATASET.FEWSHOT_LIST", "{all}"]),
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", SAME)
def test_the_same_run(name, situation, place):
    change, words = SAME[name]
    everything = place.tmp / "all.txt"
    train = json.loads((place.root / "dtd" / SPLIT).read_text())["train"]
    everything.write_text("".join(f"{path}\n" for path, _, _ in train))
    place.leave(state=situation)
    change(place)
    found = place.start(situation, *(str(word).replace("{all}", str(everything)) for word in words))
    assert found is None if situation != "finished" else found.notes == []


def test_a_copied_fewshot_list_is_the_same(place):
    place.leave("DATASET.FEWSHOT_LIST", place.listed)
    copy = shutil.copy(place.listed, place.tmp / "copy.txt")
    assert place.start("finished", "DATASET.FEWSHOT_LIST", copy).result["accuracy"] == 50


@pytest.mark.parametrize("precision", ["amp", "fp32", "fp16"])
def test_prec_auto_accepts_what_it_may_have_become(precision, place):
    place.leave("TRAINER.CLIPFIT.PREC", precision)
    place.words = ()
    if precision == "fp16":
        assert "TRAINER.CLIPFIT.PREC: 'fp16' there, 'auto' now" in place.refused("finished")
    else:
        assert place.start("finished").result["accuracy"] == 50
    assert "PREC" in place.refused(
        "finished", "TRAINER.CLIPFIT.PREC", "fp32" if precision == "amp" else "amp"
    )


def test_an_unfinished_run_does_not_change_its_precision(place):
    place.leave("TRAINER.CLIPFIT.PREC", "amp", state="unfinished")
    place.words = ()
    assert "TRAINER.CLIPFIT.PREC: 'amp' there, 'fp32' now" in place.refused("unfinished")


def test_digest_gb_that_is_another_is_a_note_with_what_to_do(place):
    place.leave()
    found = place.start("finished", "RUN.DIGEST_GB", 0)
    assert "RUN.DIGEST_GB was 8.0 there and is 0.0 now; give RUN.DIGEST_GB 8.0" in found.notes[0]


# Tests of a trained model


def eval_words(place):
    return "--eval-only", "--model-dir", place.model


def test_a_model_that_was_trained_anew(place):
    place.leave(*eval_words(place), tensors=True)
    place.train_model(1.0)
    said = place.refused("finished")
    expected = (
        f"the model in {place.model} was trained anew: its checkpoint and its tensors differ ({SHA[:6]}"
    )
    assert expected in said and "--redo" in said


def test_a_copied_model_and_one_saved_again_with_equal_tensors_are_the_same(place):
    place.leave(*eval_words(place), tensors=True)
    copy = shutil.copytree(place.model, place.tmp / "copy")
    assert place.start("finished", "--eval-only", "--model-dir", copy).notes == []
    place.train_model(0.0, val_result=90.0)
    assert place.start("finished").notes == []


def test_a_test_whose_test_list_or_backbone_has_changed(place):
    place.leave(*eval_words(place))
    place.edit_split(lambda split: split["test"].pop())
    place.backbone.write_bytes(place.backbone.read_bytes() + b"\0")
    said = place.refused("finished")
    assert "the test list: 12 images there, 11 now" in said and "clip.pt: sha256" in said


def test_a_test_among_more_classes_is_another_test(place):
    place.leave(*eval_words(place))
    shutil.copytree(place.root / "dtd/images/woven", place.root / "dtd/images/zigzag")
    place.edit_split(lambda split: split["train"].append(["zigzag/train_0.png", 3, "zigzagged"]))
    said = place.refused("finished")
    assert re.search(rf"the classes, their names or labels: {SHA} there, [0-9a-f]+\.\.\. now", said)


def test_a_test_does_not_depend_on_what_only_training_reads(place):
    place.leave(*eval_words(place))
    replace_photo(place)
    assert place.start("finished").notes == []


# Code


@pytest.fixture
def trainers(tmp_path, monkeypatch):
    """A folder of trainers: ours, and a plugin with its helper."""
    files = {
        "base": "class Base: ...\n",
        "clipfit": "from .base import Base\n@TRAINER_REGISTRY.register()\nclass CLIPFit(Base): ...\n",
        "mine": "from . import base, helper\n@TRAINER_REGISTRY.register()\nclass Mine(base.Base): ...\n",
        "helper": "x = 1\n",
    }
    project, folder = tmp_path / "project", tmp_path / "project/trainers"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(registered, "PROJECT", project)
    (project / "configs/trainers").mkdir(parents=True)
    (project / "configs/trainers/CLIPFit.yaml").touch()
    return folder


@pytest.mark.parametrize("file", ["mine", "helper"])
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_an_edited_plugin_is_another_method(state, file, place, trainers, monkeypatch):
    original = place.run

    def with_plugin(*words, **options):
        run, _ = original(*words, **options)
        run.cfg.TRAINER.NAME = "Mine"
        return run, read_inputs(run.cfg)

    monkeypatch.setattr(place, "run", with_plugin)
    place.leave(state=state)
    with open(trainers / f"{file}.py", "a") as text:
        text.write("# edited\n")
    assert re.search(rf"trainers/{file}\.py: {SHA} there, [0-9a-f]+\.\.\. now", place.refused(state))


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_changed_code_of_a_shipped_method_is_one_warning(state, place, trainers):
    place.leave(state=state)
    for name in ("base", "clipfit"):
        with open(trainers / f"{name}.py", "a") as text:
            text.write("# edited\n")
    run, inputs = place.run()
    found = compare(place.folder, run.cfg, run.declared, inputs)
    assert found.different == [] and len(found.notes) == 1
    assert (
        "trainers/base.py and trainers/clipfit.py have changed since, and the version of CLIPFit"
        in found.notes[0]
    )


# What is not there


@pytest.mark.parametrize("what", ["data", "backbone", "model"])
def test_a_finished_run_whose_inputs_are_gone_is_finished_and_says_so(what, place):
    place.leave(*(eval_words(place) if what == "model" else ()))
    {"data": place.root / "dtd", "backbone": place.backbone, "model": place.model}[what].rename(
        place.tmp / "away"
    )
    found = place.start("finished")
    reason = {
        "data": "data/dtd does not exist",
        "backbone": "clip.pt",
        "model": "no checkpoint of a model in",
    }[what]
    assert found.result["accuracy"] == 50
    assert len(found.notes) == 1 and found.notes[0].startswith("Note: not compared with what is here: ")
    assert reason in found.notes[0]


# Run folders of versions that recorded no inputs


def forget_inputs(place, **lists):
    write_json({"lists": lists}, place.folder / "environment.json")
    if (place.folder / "result.json").is_file():
        write_json({"accuracy": 50.0, "trainer_version": 1}, place.folder / "result.json")


@pytest.mark.parametrize("situation", SITUATIONS)
def test_without_recorded_inputs_what_was_recorded_is_compared(situation, place):
    place.leave(state=situation)
    inputs = place.run()[1]
    paths = {name: compare_module.list_digest(paths) for name, paths in inputs.paths.items()}
    test = {"images": 12, "digest": paths["test"]}
    forget_inputs(place, train_x={"images": 9, "digest": paths["train"]}, test=test)
    replace_photo(place)  # nobody knows what it was
    found = place.start(situation)
    if situation == "finished":
        assert not found.recorded and found.notes == []
    place.edit_split(lambda split: split["test"].pop())
    assert "the test list: 12 images there, 11 now" in place.refused(situation)


# The whole


def test_redo_moves_everything_aside_and_starts_anew(place):
    place.leave()
    before = {path.relative_to(place.folder): text for path, text in contents(place.folder).items()}
    for count in (1, 2):
        run, inputs = place.run("OPTIM.LR", 0.1)
        assert claim(run, ["python", "train.py"], inputs, redo=True) is None
        folder_module.release()
        old = sorted((place.folder / ".old").iterdir())
        assert len(old) == count and str(old[-1]) in run.notes[-1]
        assert sorted(path.name for path in place.folder.iterdir()) == [".lock", ".old", "config.yaml"]
    assert {path.relative_to(old[0]): text for path, text in contents(old[0]).items()} == before


def test_redo_does_not_touch_the_folder_of_another_process(place, monkeypatch):
    monkeypatch.setattr(folder_module, "LOCK_PATIENCE", 0.1)
    place.leave()
    before = contents(place.folder)
    lock = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n    print(flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", lock, str(place.folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        run, inputs = place.run()
        with pytest.raises(RuntimeError, match="another process is running"):
            claim(run, ["python", "train.py"], inputs, redo=True)
        other.stdin.close()
    assert contents(place.folder) == before


@pytest.mark.parametrize("flags", [["--no-train"], ["--resume", "x"]])
def test_redo_beside_flags_that_say_something_else_is_refused(flags):
    with pytest.raises(ValueError, match="--redo .* give one of them"):
        resolve(parse_args([*BASE, "--redo", *flags]))


def test_many_runs_share_what_they_read(place, monkeypatch):
    memory = {}
    run, first = place.run()
    assert read_inputs(run.cfg, memory=memory).digests == first.digests
    monkeypatch.setattr("launch.inputs.build_lists", lambda cfg: pytest.fail("the data set is built again"))
    run.cfg.OPTIM.LR, run.cfg.OUTPUT_DIR = 0.1, "elsewhere"
    assert read_inputs(run.cfg, memory=memory).digests == first.digests
