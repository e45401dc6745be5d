"""The command line `clipfit predict`, `info`, `diff` and `average`, as people type it."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import clipfit
from clipfit.cli import main
from clipfit.fit.compare import changes
from clipfit.fit.files import Fit, delta_tensors, read_fit, write_fit
from clipfit.fit.names import parameters_by_name
from clipfit.loading import load_clip
from clipfit.low_rank import LowRankChange
from tests.clipfit.fit.zero_shot import CLASSES

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def new(tmp_path, monkeypatch):
    """A folder of pictures with one that is none, seen from above it."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["new/b.png", "new/inner/c d.jpg", "new/a.PNG"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 60), (90 * number, 200, 20)).save(path)
    (tmp_path / "new/notes.txt").write_text("no picture")
    return tmp_path / "new"


NAMES = ["new/a.PNG", "new/b.png", "new/inner/c d.jpg"]


def rows(path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text())))


def test_a_folder_becomes_a_list_that_can_be_trained_on(fit, new, capsys):
    assert main(["predict", str(fit), "new", "--csv", "out.csv"]) == 0
    found = rows("out.csv")
    assert list(found[0]) == ["file_name", "label", "score", "label_2", "score_2"]
    assert [row["file_name"] for row in found] == NAMES
    for row, one in zip(found, clipfit.load(fit).predict(NAMES), strict=True):
        assert [row["label"], row["label_2"]] == one.classes[:2]
        assert float(row["score"]) == pytest.approx(one.p[0], rel=1e-6)
    assert capsys.readouterr().err == "3 pictures\n"


def test_files_patterns_and_standard_input_keep_their_order(fit, new, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("new/b.png\nnew/a.PNG\n"))
    main(["predict", str(fit), "new/inner/c d.jpg", "new/*.png", "-", "--csv", "-"])
    printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file_name"] for row in printed] == [NAMES[2], NAMES[1], NAMES[1], NAMES[0]]


def test_what_cannot_be_read_is_reported_skipped_and_remembered(fit, new, capsys):
    Path("new/broken.jpg").write_bytes(b"\xff\xd8")
    assert main(["predict", str(fit), "new", "gone.png", "--csv", "out.csv"]) == 1
    assert [row["file_name"] for row in rows("out.csv")] == NAMES
    said = capsys.readouterr().err
    assert "skipped: new/broken.jpg cannot be read as an image" in said and "gone.png" in said
    assert said.endswith("3 pictures; 2 could not be read\n")


def test_below_the_threshold_there_is_no_answer(fit, new):
    scores = [one.score for one in clipfit.load(fit).predict(NAMES)]
    threshold = sorted(scores)[1]
    words = ["--threshold", str(threshold), "--csv", "out.csv", "--jsonl", "out.jsonl", "--into", "sorted"]
    main(["predict", str(fit), "new", *words, "--fiftyone", "labels.json"])
    known = [score >= threshold for score in scores]
    assert sum(known) == 2
    assert [bool(row["label"]) for row in rows("out.csv")] == known
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["label"] is not None for line in lines] == known
    labels = json.loads(Path("labels.json").read_text())
    assert labels["classes"] == CLASSES
    assert list(labels["labels"]) == ["new/a", "new/b", "new/inner/c d"]
    assert [id is not None for id in labels["labels"].values()] == known
    assert len(list(Path("sorted/unsure").iterdir())) == 1 and len(list(Path("sorted").rglob("*.*"))) == 3


def test_copies_go_into_class_folders_and_take_no_name_twice(fit, new):
    for _ in range(2):
        assert main(["predict", str(fit), "new/b.png", "--into", "sorted"]) == 0
    label = clipfit.load(fit).predict(["new/b.png"])[0].label
    assert sorted(path.name for path in Path("sorted", label).iterdir()) == ["b-2.png", "b.png"]
    assert Path("sorted", label, "b-2.png").read_bytes() == Path("new/b.png").read_bytes()


def test_without_a_file_people_get_a_line_per_picture(fit, new, capsys):
    main(["predict", str(fit), "new/b.png", "--top", "3"])
    one = clipfit.load(fit).predict(["new/b.png"])[0]
    said = ", ".join(f"{name} {p:.1%}" for name, p in zip(one.classes, one.p, strict=True))
    assert capsys.readouterr().out == f"new/b.png: {said}\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (["new/nothing"], "no pictures in new/nothing"),
        (["new", "--threshold", "1.5"], "--threshold is 1.5; give a probability from 0 to 1"),
        (["new", "--top", "0"], "--top is 0; name at least one class"),
        (["new", "--csv", "-", "--jsonl", "-"], "--csv and --jsonl both name standard output"),
        (["new", "--backbone", "gone.pt"], "needs the backbone gone.pt, which is not there"),
    ],
)
def test_mistakes_are_one_line_and_leave_old_files_alone(words, message, fit, new, capsys):
    Path("new/nothing").mkdir()
    Path("out.csv").write_text("old")
    extra = [] if "--csv" in words else ["--csv", "out.csv"]
    assert main(["predict", str(fit), *words, *extra]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert Path("out.csv").read_text() == "old"


def test_a_reader_that_leaves_early_and_ctrl_c_end_cleanly(fit, new, monkeypatch, capsys):
    command = [sys.executable, "-m", "clipfit", "predict", str(fit), *["new/b.png"] * 300, "--jsonl", "-"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": str(PROJECT)}
    )
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read().decode()
    assert process.wait() == 0 and "Traceback" not in error and "BrokenPipe" not in error

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("clipfit.fit.predict.run", interrupted)
    assert main(["predict", str(fit), "new"]) == 130
    assert capsys.readouterr().err.endswith("stopped\n")


def test_info_tells_what_a_fit_is_without_torch(fit):
    code = "import sys; from clipfit.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", str(fit)], capture_output=True, text=True, cwd=PROJECT
    )
    assert done.returncode == 0 and "striped red star" in done.stdout and "CLIPFit" in done.stdout


def shifted(facts, w, **by) -> Fit:
    before = parameters_by_name(load_clip("demo"))
    tensors = {
        f"clip.{name.replace('__', '.')}": before[name.replace("__", ".")] + d for name, d in by.items()
    }
    return Fit(facts, {"class_features": w, **tensors})


def test_diff_lists_what_changed_most_first(tmp_path, facts, w, capsys):
    write_fit(tmp_path / "a", shifted(facts, w, visual__ln_post__bias=0.1, ln_final__bias=0.5))
    found = changes(tmp_path / "a")
    assert [change.name for change in found] == ["ln_final.bias", "visual.ln_post.bias"]
    assert found[0].mean_square == pytest.approx(0.25, rel=1e-4)
    assert found[1].largest == pytest.approx(0.1, rel=1e-4)
    assert main(["diff", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("ln_final.bias")


def test_the_average_of_fits_is_that_of_their_weights(tmp_path, facts, w):
    bias = "transformer__resblocks__0__mlp__c_proj__bias"
    for name, by in (("a", 0.0), ("b", 0.4), ("middle", 0.2)):
        write_fit(tmp_path / name, shifted(facts, w, **{bias: by}))
    assert main(["average", str(tmp_path / "a"), str(tmp_path / "b"), "--to", str(tmp_path / "mean")]) == 0
    mean = read_fit(tmp_path / "mean")
    expected = clipfit.load(tmp_path / "middle").with_classes(CLASSES).class_features
    torch.testing.assert_close(mean.tensors["class_features"], expected, rtol=0, atol=1e-5)
    assert mean.facts["averaged"] == [str(tmp_path / "a"), str(tmp_path / "b")]


def low_rank(facts, w, seed):
    """A fit with low-rank changes and a replaced LayerNorm."""
    generator = torch.Generator().manual_seed(seed)
    name = "transformer.resblocks.0.attn.in_proj_weight"
    changes = []
    for part in "qv":
        down, up = (torch.randn(*shape, generator=generator) for shape in ((2, 64), (64, 2)))
        changes.append(LowRankChange(name, part, 0.1 * down, 0.1 * up, scale=2**-0.5))
    fit = shifted(facts, w, ln_final__bias=0.1 * seed)
    return Fit(fit.facts, {**fit.tensors, **delta_tensors(changes)})


def test_the_average_of_low_rank_changes_is_that_of_the_merged_weights(tmp_path, facts, w):
    """Not the product of averaged factors, which is another matrix."""
    fits = [low_rank(facts, w, seed) for seed in (1, 2)]
    for name, fit in zip("ab", fits, strict=True):
        write_fit(tmp_path / name, fit)
    assert main(["average", str(tmp_path / "a"), str(tmp_path / "b"), "--to", str(tmp_path / "mean")]) == 0
    mean = read_fit(tmp_path / "mean")
    merged = [clipfit.load(tmp_path / name).clip for name in "ab"]
    assert not mean.deltas and len(mean.replaced) == 2
    weights = [parameters_by_name(clip)["transformer.resblocks.0.attn.in_proj_weight"] for clip in merged]
    packed = mean.replaced["transformer.resblocks.0.attn.in_proj_weight"]
    torch.testing.assert_close(packed, sum(weights) / 2, rtol=0, atol=1e-7)
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)
    biases = [fit.replaced["ln_final.bias"] for fit in fits]
    torch.testing.assert_close(mean.replaced["ln_final.bias"], sum(biases) / 2)
    again = clipfit.load(tmp_path / "mean").with_classes(CLASSES).class_features
    torch.testing.assert_close(mean.tensors["class_features"], again, rtol=0, atol=1e-6)


def test_a_low_rank_fit_and_one_of_other_tensors_have_no_average(tmp_path, facts, w, capsys):
    write_fit(tmp_path / "a", low_rank(facts, w, 1))
    write_fit(tmp_path / "b", shifted(facts, w, ln_final__bias=0.1))
    assert main(["average", str(tmp_path / "a"), str(tmp_path / "b"), "--to", str(tmp_path / "c")]) == 1
    assert "train other tensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    "values, words",
    [
        ({"open_vocabulary": False}, "is more than changed tensors of CLIP"),
        ({"classes": [*CLASSES[:2], "other"]}, "differ in classes"),
        ({"method": "Other"}, "differ in method"),
    ],
)
def test_fits_that_have_no_average_are_refused(values, words, tmp_path, facts, w, capsys):
    write_fit(tmp_path / "a", shifted(facts, w, ln_final__bias=0.1))
    write_fit(tmp_path / "b", shifted({**facts, **values}, w, ln_final__bias=0.1))
    assert main(["average", str(tmp_path / "a"), str(tmp_path / "b"), "--to", str(tmp_path / "c")]) == 1
    assert words in capsys.readouterr().err and not (tmp_path / "c").exists()
