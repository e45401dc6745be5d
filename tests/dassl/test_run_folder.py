"""The run folder: every file name stands in one place, and what the files mean together."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dassl import run_folder
from dassl.run_folder import (
    RECORD_FILES,
    all_checkpoints,
    epoch_of,
    files_of_another_program,
    find_checkpoint,
    has_resume_point,
    is_begun,
    is_resumable,
    pointed_at,
    read_config,
    read_environment,
    read_result,
    read_starts,
    set_aside,
    settle_records,
    take_over,
    tidy,
    unrecorded,
    write_result,
)

PROJECT = Path(__file__).parents[2]
ROOMS = [PROJECT / name for name in ("benchmarks", "clipfit", "dassl", "datasets", "grid", "launch", "paper")]
ROOMS += [PROJECT / name for name in ("papers", "report", "scripts", "trainers")]
# same_numbers is copied into checkouts of other versions, which may have no dassl/run_folder.py. A report has
# a report.html of its own.
MAY_NAME_FILES = {"dassl/run_folder.py", "report/formats/__init__.py", "scripts/same_numbers.py"}
NAMES = {value for name, value in vars(run_folder).items() if name.isupper() and isinstance(value, str)}
NAMES |= set(RECORD_FILES.values())


def put(folder, *names):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


# Names ----------------------------------------------------------------------------------------------


def file_names(source: str) -> set[str]:
    """File names of a run folder in the strings of a source text, parts of f-strings among them."""
    module = ast.parse(source)
    remarks = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}  # docstrings
    strings = [
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in remarks
    ]
    return {name for text in strings for name in NAMES if _names(text, name)}


def _names(text: str, name: str) -> bool:
    """Whether a string names a file. A name that is a plain word counts as a whole part of a path only."""
    if name.isalpha():
        return name in text.split("/")
    end = "" if name.endswith("-") else r"(?!\w)"
    return re.search(rf"(?<![\w.-]){re.escape(name)}{end}", text) is not None


def test_the_search_finds_names_and_leaves_remarks_alone():
    assert file_names('"""Reads result.json."""\nx = folder / "result.json"  # log.txt') == {"result.json"}
    assert file_names('print(f"see {folder}/log.txt), or")') == {"log.txt"}
    assert file_names('glob("*/checkpoint"), "a checkpoint of"') == {"checkpoint"}
    assert file_names('x.glob("*/model.pth.tar-*")') == {"model.pth.tar-"}
    assert file_names('"other.config.yaml", ".prepare.lock", "resume.pth"') == set()
    assert {"config.yaml", "resume.pt", "cmat.pt", "gradient.jsonl", ".lock"} < NAMES


def test_no_other_source_names_a_file_of_the_run_folder():
    sources = [*PROJECT.glob("*.py"), *(path for room in ROOMS for path in room.rglob("*.py"))]
    assert {"train.py", "dassl/run_folder.py"} < {path.relative_to(PROJECT).as_posix() for path in sources}
    found = {
        source.relative_to(PROJECT).as_posix(): names
        for source in sources
        if (names := file_names(source.read_text(encoding="utf-8")))
    }
    assert found.keys() - MAY_NAME_FILES == set(), found


def test_it_imports_no_torch():
    code = "import sys, dassl.run_folder; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


# States ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["result.json", "resume.pt", "m/checkpoint", "m/model.pth.tar-3", "m/model-best.pth.tar"]
)
def test_what_took_work_makes_a_folder_begun(name, tmp_path):
    put(tmp_path, "config.yaml", "log.txt", "environment.json", "fewshot.json", "tensorboard/events")
    (tmp_path / "metrics.jsonl").touch()  # opened, no step finished
    assert not is_begun(tmp_path) and not is_begun(tmp_path / "nowhere")
    put(tmp_path, name)
    assert is_begun(tmp_path)


def test_a_step_makes_a_folder_begun(tmp_path):
    put(tmp_path, "metrics.jsonl")
    assert is_begun(tmp_path)


def test_a_result_finishes_a_run_and_drops_its_resume_point(tmp_path):
    put(tmp_path, "resume.pt")
    assert read_result(tmp_path) is None and has_resume_point(tmp_path)
    write_result(tmp_path, {"accuracy": 50.0})
    assert read_result(tmp_path) == {"accuracy": 50.0} and not has_resume_point(tmp_path)


@pytest.mark.parametrize("name", ["resume.pt", "learner/checkpoint"])
def test_a_resume_point_or_a_checkpoint_of_a_registered_model_is_resumable(name, tmp_path):
    put(tmp_path, "other/checkpoint", "metrics.jsonl")
    assert not is_resumable(tmp_path, ["learner"])
    put(tmp_path, name)
    assert is_resumable(tmp_path, ["learner"])


def test_files_like_ours_without_a_config_are_of_another_program(tmp_path):
    put(tmp_path, "log.txt-2020", "m/model.pth.tar-5", "notes.md", "predictions.jsonl.gz")
    model = os.path.join("m", "model.pth.tar-5")
    assert files_of_another_program(tmp_path) == ["log.txt-2020", model, "predictions.jsonl.gz"]
    put(tmp_path, "config.yaml")
    assert files_of_another_program(tmp_path) == []


def test_setting_aside_moves_everything_and_deletes_nothing(tmp_path):
    files = ["config.yaml", "result.json", "prompt_learner/model.pth.tar-1", "notes.txt"]
    assert set_aside(tmp_path) is None
    for _ in range(3):  # more than one in a second
        put(tmp_path, *files, ".lock")
        aside = set_aside(tmp_path)
        assert aside.parent == tmp_path / ".old" and tree(aside) == sorted(files)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".old"]
        assert not is_begun(tmp_path) and not files_of_another_program(tmp_path)
    assert len(list((tmp_path / ".old").iterdir())) == 3


def test_a_move_that_was_cut_short_leaves_the_config_and_is_finished_by_the_next(tmp_path, monkeypatch):
    put(tmp_path, "a", "config.yaml", "result.json")

    def rename(path, target):
        if path.name == "result.json":
            raise OSError("disk full")
        return original(path, target)

    original = Path.rename
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(Path, "rename", rename)
        set_aside(tmp_path)
    assert (tmp_path / "config.yaml").is_file() and (tmp_path / "result.json").is_file()
    set_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "a",
        "config.yaml",
        "result.json",
    ]


def test_an_environment_that_was_not_written_is_empty(tmp_path):
    assert read_environment(tmp_path) == {}
    (tmp_path / "environment.json").write_text('{"device": "cpu"}')
    assert read_environment(tmp_path) == {"device": "cpu"}


# Records and take-over ------------------------------------------------------------------------------


def test_only_a_training_can_lack_records(tmp_path):
    assert unrecorded(tmp_path, ["change"]) == []
    put(tmp_path, "metrics.jsonl", "gradient.jsonl")
    assert unrecorded(tmp_path, ["gradient", "change"]) == ["change"]


def test_records_nobody_asks_for_are_removed_when_training_goes_on(tmp_path):
    put(tmp_path, "gradient.jsonl", "change.jsonl", "resume.pt")
    settle_records(tmp_path, tmp_path, ["change"], ["learner"])
    assert tree(tmp_path) == ["change.jsonl", "resume.pt"]


def test_a_past_without_an_asked_record_is_refused(tmp_path):
    put(tmp_path / "past", "learner/checkpoint")
    with pytest.raises(ValueError, match="past did not record its change; leave TRAIN.RECORD out"):
        settle_records(tmp_path / "here", tmp_path / "past", ["change"], ["learner"])
    settle_records(tmp_path / "here", tmp_path / "past", ["change"], ["another"])  # nothing to go on from


def test_a_run_takes_over_metrics_records_and_the_best_model(tmp_path):
    past, here = tmp_path / "past", tmp_path / "here"
    put(past, "metrics.jsonl", "gradient.jsonl", "change.jsonl", "m/model-best.pth.tar", "m/model.pth.tar-2")
    take_over(past, here, ["change"])
    assert tree(here) == ["change.jsonl", "m/model-best.pth.tar", "metrics.jsonl"]
    take_over(past, past, ["change"])  # nothing to copy


# Checkpoints ----------------------------------------------------------------------------------------


def test_the_best_model_comes_before_the_newest_and_an_epoch_before_both(tmp_path):
    put(tmp_path, "model.pth.tar-9", "model.pth.tar-10", "model.pth.tar-10.bak", "checkpoint")
    assert find_checkpoint(tmp_path).name == "model.pth.tar-10"
    put(tmp_path, "model-best.pth.tar")
    assert find_checkpoint(tmp_path).name == "model-best.pth.tar"
    assert find_checkpoint(tmp_path, 9).name == "model.pth.tar-9"
    with pytest.raises(FileNotFoundError, match=r"epoch 3 in .* \(saved: 9, 10\)"):
        find_checkpoint(tmp_path, 3)
    with pytest.raises(FileNotFoundError, match="none is saved"):
        find_checkpoint(tmp_path / "nowhere")


def test_a_checkpoints_name_says_its_epoch_but_the_best_ones(tmp_path):
    assert epoch_of("runs/m/model.pth.tar-100") == 100
    assert epoch_of("model-best.pth.tar") is None and epoch_of("model.pth.tar-10.bak") is None


def test_a_pointer_leads_to_a_file_beside_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        pointed_at(tmp_path)
    (tmp_path / "checkpoint").write_text("model-best.pth.tar\n")
    assert pointed_at(tmp_path) == tmp_path / "model-best.pth.tar"
    (tmp_path / "checkpoint").write_text("../elsewhere\n")
    with pytest.raises(ValueError, match="not a file of its own folder"):
        pointed_at(tmp_path)


@pytest.mark.parametrize("content", ["", "\n", "\0\0\0\n", "model.pth.tar-7\n", "../x\n", b"\xff\xfe"])
def test_a_pointer_that_names_no_checkpoint_is_repaired(content, tmp_path):
    pointer = tmp_path / "m/checkpoint"
    put(tmp_path, "m/model.pth.tar-1", "m/model-best.pth.tar", "m/checkpoint")
    pointer.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert tidy(tmp_path) == [f"{pointer} named no checkpoint: it names model.pth.tar-1 now"]
    assert pointed_at(tmp_path / "m") == tmp_path / "m/model.pth.tar-1" and tidy(tmp_path) == []

    (tmp_path / "m/model.pth.tar-1").unlink()
    tidy(tmp_path)
    assert pointed_at(tmp_path / "m").name == "model-best.pth.tar"

    (tmp_path / "m/model-best.pth.tar").unlink()
    assert tidy(tmp_path) == [f"{pointer} named no checkpoint, and there is none: it was removed"]
    assert not pointer.exists() and not is_resumable(tmp_path, ["m"])


def test_an_empty_pointer_is_told_with_its_cure(tmp_path):
    put(tmp_path, "checkpoint")
    (tmp_path / "checkpoint").write_text("")
    with pytest.raises(ValueError, match="checkpoint names '', .*write the name of a checkpoint into it"):
        pointed_at(tmp_path)


def test_the_checkpoints_of_all_models_are_listed(tmp_path):
    put(tmp_path, "a/model.pth.tar-1", "b/model.pth.tar-2", "b/model-best.pth.tar", "b/checkpoint")
    assert all_checkpoints(tmp_path) == [tmp_path / "a/model.pth.tar-1", tmp_path / "b/model.pth.tar-2"]


@pytest.mark.parametrize("name", ["..", "x" * 300])
def test_a_pointer_to_what_no_file_is_called_is_damage(name, tmp_path):
    (tmp_path / "checkpoint").write_text(name)
    with pytest.raises(ValueError, match="not a file of its own folder"):
        pointed_at(tmp_path)


@pytest.mark.parametrize("line", [b"\xff", b"[" * 100_000, b"[]", b"9" * 5_000])
def test_a_damaged_start_is_told_with_its_line(line, tmp_path):
    (tmp_path / "starts.jsonl").write_bytes(b"{}\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"starts\.jsonl, line 2 is "):
        read_starts(tmp_path)


@pytest.mark.parametrize("content", ["a: 2020-99-99", "a: !!int ''", "[" * 9_000, "a: " + "9" * 5_000, ""])
def test_a_damaged_config_is_told(content, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config\.yaml is damaged.*choose another --output-dir"):
        read_config(tmp_path)
