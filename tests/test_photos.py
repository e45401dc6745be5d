"""train.py --images: from a folder of pictures to a result, as a user sees it."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reproduce
from clipfit.cli import main as clipfit
from clipfit.fit.files import read_fit
from dassl.data.datasets.build import stands_upright
from datasets.drawing.picture import draw
from launch.arguments import parse_args
from launch.registered import class_fact, methods, name_of_images
from launch.resolve import resolve

PROJECT = Path(__file__).parent.parent
FIGURES = ("striped red star", "dotted blue fish", "checkered green house")
QUICK = ("OPTIM.MAX_STEPS", "3", "THREADS", "1", "DATALOADER.NUM_WORKERS", "0", "VERBOSE", "True")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Three classes with twelve pictures each, named as cameras name them."""
    folder = tmp_path_factory.mktemp("pictures")
    for label, name in enumerate(FIGURES):
        (folder / name.replace(" ", "_")).mkdir()
        for number in range(12):
            picture = draw(name, np.random.default_rng([label, number]), "lamp")
            picture.save(folder / name.replace(" ", "_") / f"IMG_{label}{number:03d}.png")
    return folder


@pytest.fixture
def photos(drawn, tmp_path):
    return Path(shutil.copytree(drawn, tmp_path / "my photos"))


@pytest.fixture
def run(command_line):
    """Run train.py on pictures in ``tmp_path``; returns the exit message, None for success."""

    def run(*words, trainer="CLIPFit", quick=QUICK):
        return command_line("--trainer", trainer, "--backbone", "demo", *words, *quick)

    return run


def the_run(tmp_path, pattern="output/photos/*/*/*/*/seed1"):
    (folder,) = tmp_path.glob(pattern)
    return folder


def settled(path, *words):
    return resolve(parse_args(["--trainer", "CLIPFit", "--backbone", "demo", "--images", str(path), *words]))


def test_a_folder_is_all_that_is_needed(run, photos, tmp_path, result, capsys):
    (photos / "dotted_blue_fish/notes.txt").write_text("mine")
    (photos / "dotted_blue_fish/broken.jpg").write_text("no picture")
    before = sorted(photos.rglob("*"))
    assert run("--images", photos) is None
    folder, out = the_run(tmp_path), capsys.readouterr().out

    assert folder.relative_to(tmp_path).as_posix() == (
        f"output/photos/{name_of_images(photos)}/shots_-1/CLIPFit/{folder.parent.name}/seed1"
    )
    assert sorted(photos.rglob("*")) == before  # nothing is written there
    made = result(folder)
    assert (made["protocol"], made["dataset"], made["num_classes"]) == ("photos", "Photos", 3)
    assert made["train_images"] + made["total"] == 36 and made["total"] > 0

    assert "a folder per class; 3 classes, 36 pictures" in out
    assert "not pictures (1): dotted_blue_fish/notes.txt; unreadable (1): dotted_blue_fish/broken" in out
    assert "Prompts: a photo of a checkered green house. | a photo of a dotted blue fish." in out
    assert f"accuracy {made['accuracy']:.1f} %: {made['correct']} of {made['total']} pictures" in out
    assert f"files of this run: {folder.relative_to(tmp_path)}" in out

    with open(folder / "parts.csv", encoding="utf-8") as file:
        parts = [row["split"] for row in csv.DictReader(file)]
    assert (parts.count("train"), parts.count("test"), parts.count("")) == (
        made["train_images"],
        made["total"],
        1,
    )


def test_the_same_command_is_finished_and_says_the_same(run, photos, tmp_path, capsys):
    assert run("--images", photos) is None
    first = capsys.readouterr().out.split("Elapsed")[1].split("\n", 1)[1]
    assert run("--images", photos) is None
    assert first in (again := capsys.readouterr().out) and "is finished already" in again


def test_pictures_that_were_moved_are_the_same(run, photos, tmp_path, capsys):
    assert run("--images", photos, "--output-dir", "here") is None
    photos.rename(tmp_path / "moved")
    assert run("--images", tmp_path / "moved", "--output-dir", "here") is None
    assert "here is finished already" in capsys.readouterr().out


def test_other_pictures_are_another_experiment(run, photos):
    assert run("--images", photos) is None
    one, other = sorted((photos / "dotted_blue_fish").iterdir())[:2]
    (photos / "striped_red_star/new.png").write_bytes(one.read_bytes() + b"tail")
    assert "holds a finished run of another experiment" in run("--images", photos)
    assert run("--images", photos, "--redo") is None


def test_wrong_pictures_are_shown_with_both_probabilities(run, photos, tmp_path, capsys):
    for number, path in enumerate(sorted((photos / "dotted_blue_fish").iterdir())):
        path.rename(photos / f"striped_red_star/moved{number}.png")  # wrong labels
    star = next((photos / "striped_red_star").glob("IMG*"))
    star.rename(photos / f"dotted_blue_fish/{star.name}")
    assert run("--images", photos, "--test-share", 0.5, trainer="ZeroshotCLIP") is None
    out = capsys.readouterr().out
    lines = [line for line in out.split("wrong pictures")[1].splitlines() if line.startswith("  ")]
    assert lines and all(" instead of " in line for line in lines) and len(lines) <= 10
    folder = the_run(tmp_path)
    wrong = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()[1:]]
    wrong = sorted((one for one in wrong if one["label"] != one["top"][0]), key=lambda one: -one["p"][0])
    first = wrong[0]
    assert lines[0].startswith(f"  {first['image']}: ") and f"({first['p'][0]:.2f}) instead of" in lines[0]
    assert lines[0].endswith(f"({dict(zip(first['top'], first['p'], strict=True))[first['label']]:.2f})")


def test_nothing_is_tested_without_a_share(run, photos, tmp_path, result, capsys):
    assert run("--images", photos, "--test-share", 0) is None
    made, out = result(the_run(tmp_path)), capsys.readouterr().out
    assert made["train_images"] == 36 and made["accuracy"] is None
    assert "no pictures to test on, so the final test is left out" in out and "not tested" in out


def test_own_pictures_stand_upright(photos):
    settled(photos)  # registers the data sets
    assert stands_upright("Photos") and not stands_upright("Demo")


def test_shots_sample_as_everywhere(run, photos, tmp_path, result):
    assert run("--images", photos, "--shots", 2, trainer="ZeroshotCLIP") is None
    assert result(the_run(tmp_path))["train_images"] == 6


def test_the_last_incomplete_batch_is_kept(run, photos, tmp_path):
    words = "DATALOADER.TRAIN_X.BATCH_SIZE", "25"
    assert run("--images", photos, "--test-share", 0, quick=(*QUICK, *words)) is None
    steps = [json.loads(line) for line in (the_run(tmp_path) / "metrics.jsonl").read_text().splitlines()]
    assert [(step["epoch"], step["batch"]) for step in steps] == [(1, 1), (1, 2), (2, 1)]


def test_a_test_finds_the_model_that_the_same_words_trained(run, photos, tmp_path, result):
    assert run("--images", photos) is None
    assert run("--images", photos, "--eval-only") is None
    first = result(the_run(tmp_path))
    again = result(the_run(tmp_path, "output/photos_test/*/*/*/*/seed1"))
    assert (again["correct"], again["total"]) == (first["correct"], first["total"])


def test_the_expected_time_is_told_once_steps_have_shown_it(run, photos, capsys):
    pairs = ("OPTIM.MAX_STEPS", "9", *QUICK[2:])
    assert run("--images", photos, "--test-share", 0, quick=pairs) is None
    out = capsys.readouterr().out
    assert out.count("expected time: ") == 1 and "for 3 more steps of" in out


def test_the_trained_model_tests_other_pictures(run, photos, tmp_path, result):
    assert run("--images", photos) is None
    trained = the_run(tmp_path)
    other = shutil.copytree(photos, tmp_path / "others")
    words = "--images", other, "--eval-only", "--model-dir", trained, "--test-share", 0.9
    assert run(*words) is None
    assert result(the_run(tmp_path, "output/photos_test/*/*/*/*/seed1"))["total"] > 25


@pytest.mark.parametrize("trainer", ["TipAdapter", "CoOp"])
def test_other_methods_take_pictures(run, photos, tmp_path, trainer, result):
    assert run("--images", photos, trainer=trainer) is None
    assert result(the_run(tmp_path))["trainer"] == trainer


@pytest.mark.parametrize("trainer, features", [("TwoStage", "trained"), ("CLIPLoRA", "text")])
def test_methods_in_stages_and_of_low_rank_leave_a_model_that_predicts(
    run, photos, tmp_path, trainer, features, capsys
):
    """TwoStage with rows of its own for the classes of the pictures, which other classes do not have."""
    assert run("--images", photos, trainer=trainer) is None
    fit = read_fit(the_run(tmp_path) / "fit")
    assert fit.facts["features"] == features and fit.facts["open_vocabulary"]
    capsys.readouterr()
    tested = json.loads((the_run(tmp_path) / "predictions.jsonl").read_text().splitlines()[1])
    assert clipfit(["predict", str(the_run(tmp_path) / "fit"), str(photos / tested["image"])]) == 0
    assert fit.classes[tested["top"][0]] in capsys.readouterr().out


# The budget -----------------------------------------------------------------------------------------


def test_the_budget_follows_the_pictures_within_limits(photos, monkeypatch):
    few = settled(photos)
    assert few.cfg.OPTIM.MAX_STEPS == 200 and "budget: 200 steps of" in "\n".join(few.notes)

    class Many:
        train_x, test = range(12_000), [1]

    monkeypatch.setattr("launch.resolve.build_lists", lambda cfg: Many)
    assert settled(photos).cfg.OPTIM.MAX_STEPS == 4000
    Many.train_x = range(480)
    assert settled(photos).cfg.OPTIM.MAX_STEPS == 480


@pytest.mark.parametrize("trainer, least", [("TwoStage", 300), ("CLIPLoRA", 500)])
def test_small_rates_have_longer_budgets_of_their_own(photos, monkeypatch, trainer, least):
    words = parse_args(["--trainer", trainer, "--backbone", "demo", "--images", str(photos)])
    assert least == resolve(words).cfg.OPTIM.MAX_STEPS

    class Many:
        train_x, test = range(12_000), [1]

    monkeypatch.setattr("launch.resolve.build_lists", lambda cfg: Many)
    assert resolve(words).cfg.OPTIM.MAX_STEPS == 4000


def test_every_method_that_trains_has_a_budget_for_own_pictures(photos):
    for method in (name for name in methods() if class_fact("trainers", name, "trains", True)):
        words = ["--trainer", method, "--backbone", "demo", "--images", str(photos)]
        cfg = resolve(parse_args(words)).cfg
        assert cfg.OPTIM.MAX_STEPS >= 100 and not cfg.DATALOADER.TRAIN_X.DROP_LAST and cfg.SEED == 1


@pytest.mark.parametrize(
    ("pairs", "steps"),
    [(("OPTIM.MAX_STEPS", "7"), 7), (("OPTIM.MAX_EPOCH", "7"), 0)],
    ids=["steps", "epochs"],
)
def test_the_users_own_length_wins(photos, pairs, steps):
    assert steps == settled(photos, *pairs).cfg.OPTIM.MAX_STEPS


def test_seed_template_and_share(photos):
    cfg = settled(photos).cfg
    assert (cfg.SEED, cfg.DATASET.NUM_SHOTS, cfg.DATASET.TEST_SHARE) == (1, -1, 0.2)
    words = "--seed", "3", "--template", "a {}, a toy.", "--test-share", "0.5"
    cfg = settled(photos, *words).cfg
    assert (cfg.SEED, cfg.DATASET.PROMPT_TEMPLATE, cfg.DATASET.TEST_SHARE) == (3, "a {}, a toy.", 0.5)


def test_own_pictures_take_every_protocol(photos):
    run = settled(photos, "--protocol", "few_shot", "--shots", "4", "--seed", "1")
    assert (run.cfg.DATASET.NUM_SHOTS, run.cfg.OPTIM.MAX_EPOCH) == (4, 100)
    halves = settled(photos, "--protocol", "base2new", "--seed", "1")
    assert halves.cfg.DATASET.SUBSAMPLE_CLASSES == "base"


def test_resolving_imports_no_torch(photos):
    code = (
        "import sys\nfrom launch.arguments import parse_args\nfrom launch.resolve import resolve\n"
        "resolve(parse_args(sys.argv[1:]))\nprint(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    )
    words = ["--trainer", "CLIPFit", "--images", str(photos), "--backbone", "demo"]
    command = [sys.executable, "-c", code, *words]
    out = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


# What is wrong --------------------------------------------------------------------------------------


def test_mistakes_are_one_line(run, photos, tmp_path):
    assert "does not exist; did you mean" in run("--images", tmp_path / "my foto")
    assert "give one" in run("--images", photos, "--dataset", "demo")
    assert "--test-share" in run("--images", photos, "--test-share", 2)
    shutil.rmtree(photos / "dotted_blue_fish")
    shutil.rmtree(photos / "striped_red_star")
    assert "one class only" in run("--images", photos)
    assert not (tmp_path / "output").exists()


def test_a_class_name_longer_than_clip_reads(run, photos):
    (photos / "dotted_blue_fish").rename(photos / "_".join("7" * 80))
    assert "tokens, start and end included" in run("--images", photos)


def test_photos_without_images_says_what_to_give(run):
    assert "--images PATH names a folder" in run("--seed", 1, quick=("DATASET.NAME", "Photos"))


# Everything that takes a data set -------------------------------------------------------------------


@pytest.fixture
def forgotten(monkeypatch):
    """What reproduce.py remembers of own pictures ends with the test."""
    monkeypatch.setattr("launch.registered._own_pictures", "")


@pytest.mark.slow
def test_scripts_take_images(photos, tmp_path):
    def called(*words):
        pairs = f"OUTPUT_DIR {tmp_path}/run THREADS 1 DATALOADER.NUM_WORKERS 0 MODEL.BACKBONE.NAME demo"
        environment = {**os.environ, "IMAGES": str(photos), "SHOTS": "2", "EXTRA": pairs}
        script = PROJECT / "scripts/zsclip/few_shot.sh"
        return subprocess.run(["bash", script, *words], env=environment, capture_output=True, text=True)

    wrong = called("dtd", "1")
    assert wrong.returncode == 2 and wrong.stderr.startswith("usage") and "few_shot.sh <seed>" in wrong.stderr
    done = called("1")
    assert done.returncode == 0 and "files of this run: " in done.stdout


def test_curves_of_own_pictures_are_planned(photos, tmp_path, capsys, forgotten):
    words = [
        "--images",
        str(photos),
        "--methods",
        "CLIPFit",
        "CoOp",
        "--shots",
        "1",
        "2",
        "--seeds",
        "1",
        "2",
    ]
    where = ["--seeds", "1", "2", "--output", str(tmp_path / "runs"), "--backbone", "demo"]
    assert reproduce.main(["plan", "few_shot_curves", *words, *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    states, commands = lines[::2], lines[1::2]
    assert len(states) == 8 and all(line.startswith("todo") for line in states)
    assert all(f"few_shot/{name_of_images(photos)}/shots_" in line for line in states)
    args = parse_args(shlex.split(commands[0])[2:])
    assert str(photos) == resolve(args).cfg.DATASET.IMAGES


@pytest.mark.slow
def test_curves_of_own_pictures_are_made(photos, tmp_path, capsys, forgotten):
    words = ["--images", str(photos), "--methods", "CLIPAdapter", "--shots", "1", "2", "--seeds", "1"]
    where = ["--output", str(tmp_path / "runs"), "--backbone", "demo", "--threads", "1"]
    assert reproduce.main(["run", "table10", *words, *where]) == 0
    out = capsys.readouterr().out
    assert name_of_images(photos) in out and "own data sets" in out
    assert reproduce.main(["plan", "table10", *words, *where]) == 0
    assert "done" in capsys.readouterr().out


@pytest.mark.slow
def test_make_photos_goes_from_a_folder_to_a_result(tmp_path):
    environment = {
        **os.environ,
        "FOLDER": str(tmp_path / "my photos"),
        "RUN": str(tmp_path / "a run"),
        "EXTRA": "OPTIM.MAX_STEPS 5",
    }
    command = ["bash", PROJECT / "scripts/demo/photos.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    out = done.stdout
    assert "unreadable (1): wavy_green_tree/cut off.jpg" in out and "striped brown leaf (1)" in out
    assert "(parts.csv: where each picture went)" in out and "clipfit predict" in out
    assert "file_name,label,score,label_2,score_2\n" in out
    assert "cut off.jpg" in done.stderr and "1 could not be read" in done.stderr
    assert (tmp_path / "a run/report.html").is_file()


# Train, predict, correct, train again ----------------------------------------------------------------


def draw_new(folder) -> dict[str, str]:
    """Pictures of three classes in one folder; file name -> what it shows."""
    folder.mkdir(parents=True)
    shown = {}
    for label, name in enumerate(FIGURES):
        for number in range(6):
            shown[f"DSC_{label}{number:02d}.png"] = name
            draw(name, np.random.default_rng([9, label, number]), "lamp").save(
                folder / f"DSC_{label}{number:02d}.png"
            )
    return shown


@pytest.fixture
def fit(run, photos, tmp_path):
    assert run("--images", photos) is None
    return str(the_run(tmp_path) / "fit")


def facts_and_result(tmp_path, name) -> dict:
    (folder,) = tmp_path.glob(f"output/photos/{name}-*/*/*/*/seed1")
    return json.loads((folder / "result.json").read_text()) | json.loads(
        (folder / "fit/fit.json").read_text()
    )


@pytest.mark.slow
def test_a_corrected_csv_trains_the_next_run(fit, run, tmp_path):
    shown = draw_new(tmp_path / "new")
    assert clipfit(["predict", fit, "new", "--csv", "out.csv"]) == 0
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["file_name"]).name for row in rows} == set(shown)
    with open("out.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": shown[Path(row["file_name"]).name]} for row in rows)
    assert run("--images", "out.csv") is None
    again = facts_and_result(tmp_path, "out")
    assert again["train_images"] + again["total"] == len(shown)
    assert sorted(again["classes"]) == sorted(FIGURES)


@pytest.mark.slow
def test_corrections_in_fiftyone_train_the_next_run(fit, run, tmp_path):
    shown = draw_new(tmp_path / "export/data")
    assert clipfit(["predict", fit, "export/data", "--fiftyone", "export/labels.json"]) == 0
    path = Path("export/labels.json")
    labels = json.loads(path.read_text())
    assert {f"{stem}.png" for stem in labels["labels"]} == set(shown)
    for stem in labels["labels"]:
        labels["labels"][stem] = labels["classes"].index(shown[f"{stem}.png"].replace("_", " "))
    path.write_text(json.dumps(labels))
    assert run("--images", "export") is None
    again = facts_and_result(tmp_path, "export")
    assert again["train_images"] + again["total"] == len(shown)
    assert sorted(again["classes"]) == sorted(FIGURES)
