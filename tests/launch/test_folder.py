"""Where a run lies, and what an existing folder means."""

import multiprocessing
from pathlib import Path

import pytest

from launch import folder as folder_module
from launch.arguments import parse_args
from launch.folder import claim, run_folder, trained_folder
from launch.resolve import resolve

PROJECT = Path(__file__).parents[2]
DTD = str(PROJECT / "configs/datasets/dtd.yaml")


def resolved(*words):
    base = ["--trainer", "CLIPFit", "--dataset-config-file", DTD, "--seed", "1"]
    return resolve(parse_args([*base, *map(str, words)]))


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


def test_a_test_finds_the_run_trained_with_the_same_pairs():
    trained = run_folder(resolved("--protocol", "base2new", "OPTIM.MAX_EPOCH", 5))
    test = resolved("--protocol", "base2new", "--eval-only", "OPTIM.MAX_EPOCH", 5)
    assert trained_folder(test) == trained
    other_classes = resolved(
        *("--protocol", "base2new", "--eval-only", "OPTIM.MAX_EPOCH", 5, "DATASET.SUBSAMPLE_CLASSES", "all")
    )
    assert trained_folder(other_classes) == trained and run_folder(other_classes) != run_folder(test)


@pytest.mark.parametrize(
    "protocol, trained",
    [
        ("cross_dataset", "cross_dataset/train/imagenet/shots_16/CLIPFit/vit_b16/seed1"),
        ("domain_shift", "few_shot/imagenet/shots_16/CLIPFit/vit_b16/seed1"),
    ],
)
def test_a_transfer_test_loads_the_model_of_its_source(protocol, trained):
    test = resolved("--protocol", protocol, "--eval-only")
    assert trained_folder(test) == Path("output") / trained
    assert run_folder(test) == Path(f"output/{protocol}/test/dtd/shots_16/CLIPFit/vit_b16/seed1")
    other = resolved("--protocol", protocol, "--eval-only", "RUN.SOURCE", "caltech101")
    assert trained_folder(other) == Path("output") / trained.replace("imagenet", "caltech101")
    assert run_folder(other) != run_folder(test)


def test_demo_targets_load_the_model_of_demo():
    sketch = ["--dataset-config-file", str(PROJECT / "configs/datasets/demo_sketch.yaml")]
    test = resolved("--protocol", "cross_dataset", "--eval-only", *sketch)
    assert trained_folder(test) == Path("output/cross_dataset/train/demo/shots_16/CLIPFit/demo/seed1")


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
    cfg = resolved().cfg
    for _ in range(2):
        assert claim(tmp_path / "run", cfg, ["python", "train.py"]) is None
        folder_module._held.pop().release()
    (tmp_path / "run/result.json").write_text('{"accuracy": 50.0}')
    assert claim(tmp_path / "run", cfg, ["python", "train.py"]) == {"accuracy": 50.0}


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_another_experiment_in_the_folder_is_refused_with_the_keys_that_differ(state, tmp_path):
    claim(tmp_path, resolved().cfg, ["python", "train.py"])
    if state == "finished":
        (tmp_path / "result.json").write_text("{}")
    before = sorted(path.read_bytes() for path in tmp_path.iterdir())
    with pytest.raises(
        ValueError, match=f"{state} run with another config:\n  OPTIM.LR: 0.002 there, 0.1 now\n"
    ):
        claim(tmp_path, resolved("OPTIM.LR", 0.1).cfg, ["python", "train.py"])
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == before


def test_files_of_another_program_are_never_written_over(tmp_path):
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "prompt_learner/model.pth.tar-50").write_bytes(b"precious")
    with pytest.raises(ValueError, match="model.pth.tar-50 but no config.yaml"):
        claim(tmp_path, resolved().cfg, ["python", "train.py"])
    assert [path.name for path in tmp_path.iterdir()] == ["prompt_learner"]


def _claim_elsewhere(folder, messages):
    try:
        claim(Path(folder), resolved().cfg, ["python", "train.py"])
        messages.put("claimed")
    except RuntimeError as error:
        messages.put(str(error))


def test_two_processes_cannot_run_in_one_folder(tmp_path):
    claim(tmp_path, resolved().cfg, ["python", "train.py"])
    context = multiprocessing.get_context("fork")
    messages = context.Queue()
    other = context.Process(target=_claim_elsewhere, args=(tmp_path, messages))
    other.start()
    assert "another process is running in" in messages.get(timeout=60)
    other.join()
