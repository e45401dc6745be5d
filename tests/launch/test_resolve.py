"""From arguments to a config: what wins over what, names, recipes, and errors that say what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clipfit.families.facts import OPENAI_MEAN, OPENAI_STD
from clipfit.families.openai import DEMO_FILE
from dassl.config import flatten, load_yaml
from dassl.config.facts import Facts
from dassl.config.identity import config_digest
from launch import registered
from launch import resolve as resolve_module
from launch.arguments import parse_args
from launch.folder import run_folder
from launch.registered import DataSet
from launch.resolve import load_recipe, resolve, settle_input

PROJECT = Path(__file__).parents[2]
DTD = str(PROJECT / "configs/datasets/dtd.yaml")


def config(*words, dataset=DTD):
    return resolve(parse_args(["--dataset-config-file", dataset, *map(str, words)])).cfg


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_later_sources_win(tmp_path):
    mine = write(tmp_path / "mine.yaml", "OPTIM: {LR: 0.1, MAX_EPOCH: 7}\nSEED: 5\n")
    base = ["--trainer", "CLIPFit", "--protocol", "base2new"]
    assert config(*base).OPTIM.LR == 0.002  # the trainer's defaults
    assert config(*base).OPTIM.MAX_EPOCH == 100  # the recipe
    assert config(*base, "--config-file", mine).OPTIM.MAX_EPOCH == 7  # the user's file
    assert config(*base, "--config-file", mine).SEED == 5
    assert config(*base, "--config-file", mine, "--seed", 0).SEED == 0  # a flag, zero included
    assert config(*base, "--config-file", mine, "--seed", 2, "SEED", 3, "OPTIM.LR", 1).SEED == 3  # pairs
    assert config(*base, "OPTIM.LR", 1).OPTIM.LR == 1


def test_names_of_the_family_reach_the_same_trainer():
    for name in ("CLIPFit", "ClipFit", "clipfit"):
        assert config("--trainer", name, "--seed", 1).TRAINER.NAME == "CLIPFit"
    for name in ("CLIPAdapter", "CLIP_Adapter", "clip_adapter"):
        assert config("--trainer", name, "--seed", 1).TRAINER.NAME == "CLIPAdapter"
    assert config("--trainer", "zsclip", "--seed", 1).TRAINER.NAME == "ZeroshotCLIP"
    assert config("--trainer", "zsclip2", "--seed", 1).TRAINER.NAME == "ZeroshotCLIP2"
    assert config("--seed", 1, "TRAINER.NAME", "ClipFit").TRAINER.NAME == "CLIPFit"


@pytest.mark.parametrize(
    "protocol, dataset, shots, beta, epochs",
    [
        ("base2new", "DescribableTextures", 16, 8, 100),
        ("base2new", "Food101", 4, 8, 10),
        ("few_shot", "DescribableTextures", 16, 8, 100),
        ("few_shot", "SUN397", 1, 8, 100),
        ("few_shot", "EuroSAT", 16, 2, 100),
        ("few_shot", "ImageNet", 16, 2, 10),
    ],
)
def test_clipfit_recipes_are_the_papers(protocol, dataset, shots, beta, epochs):
    recipe, trained_by = load_recipe("CLIPFit", protocol, dataset, shots)
    assert recipe["TRAINER.CLIPFIT.BETA"] == beta and recipe["OPTIM.MAX_EPOCH"] == epochs
    assert recipe["DATASET.NUM_SHOTS"] == 16 and trained_by == protocol


def test_recipes_choose_by_data_set_and_shots_and_apply_cases_in_order(tmp_path, monkeypatch):
    folder = tmp_path / "recipes/CLIPFit"
    folder.mkdir(parents=True)
    write(
        folder / "few_shot.yaml",
        "OPTIM: {MAX_EPOCH: 50}\n"
        "WHEN:\n"
        "  - {shots: [8, 16], set: {OPTIM.MAX_EPOCH: 200}, source: a}\n"
        "  - {dataset: [ImageNet], set: {OPTIM.MAX_EPOCH: 10}, source: b}\n"
        "  - {dataset: [ImageNet], shots: [1], set: {OPTIM.LR: 0.5}, source: c}\n",
    )
    monkeypatch.setattr(resolve_module, "CONFIGS", tmp_path)

    def settings(dataset, shots):
        settings = load_recipe("CLIPFit", "few_shot", dataset, shots)[0]
        return {key: value for key, value in settings.items() if key.startswith("OPTIM.")}

    assert settings("EuroSAT", 4) == {"OPTIM.MAX_EPOCH": 50}
    assert settings("EuroSAT", "") == {"OPTIM.MAX_EPOCH": 200}  # 16 shots unless told otherwise
    assert settings("ImageNet", 16) == {"OPTIM.MAX_EPOCH": 10}
    assert settings("ImageNet", 1) == {"OPTIM.MAX_EPOCH": 10, "OPTIM.LR": 0.5}

    write(folder / "few_shot.yaml", "WHEN: [{datset: [EuroSAT], set: {}}]")
    with pytest.raises(KeyError, match="datset"):
        settings("EuroSAT", 4)


def test_a_recipe_may_state_its_budget_per_shot(tmp_path, monkeypatch):
    folder = tmp_path / "recipes/CLIPFit"
    folder.mkdir(parents=True)
    recipe = folder / "few_shot.yaml"
    write(
        recipe,
        "OPTIM: {MAX_STEPS: {per_shot: 300}}\n"
        "WHEN:\n"
        "  - {dataset: [EuroSAT], set: {OPTIM.MAX_STEPS: {per_shot: 20}}}\n"
        "  - {dataset: [ImageNet], set: {OPTIM.MAX_STEPS: 7}}\n",
    )
    monkeypatch.setattr(resolve_module, "CONFIGS", tmp_path)

    def steps(dataset, shots):
        return load_recipe("CLIPFit", "few_shot", dataset, shots)[0]["OPTIM.MAX_STEPS"]

    assert [steps("Food101", 4), steps("EuroSAT", 4), steps("ImageNet", 4)] == [1200, 80, 7]
    assert steps("Food101", "") == 4800
    with pytest.raises(ValueError, match=r"300 steps per image of a class; --shots -1 takes all"):
        steps("Food101", -1)
    write(recipe, "OPTIM: {MAX_STEPS: {per_shots: 300}}\n")
    with pytest.raises(ValueError, match=r"few_shot.yaml: OPTIM.MAX_STEPS.*write a number of steps or"):
        steps("Food101", 4)


def test_every_recipe_resolves_for_its_trainer():
    recipes = list((PROJECT / "configs/recipes").glob("*/*.yaml"))
    assert recipes
    for path in (path for path in recipes if path.stem != "photos"):  # tests/test_photos.py has pictures
        test = [] if path.stem == "base2new" else ["--eval-only"]  # some have no test on new classes
        cfg = config("--trainer", path.parent.name, "--protocol", path.stem, "--seed", 1, *test)
        assert path.stem == cfg.RUN.PROTOCOL


def test_base2new_trains_on_base_and_tests_on_new_unless_told_otherwise():
    base = ["--trainer", "CLIPFit", "--protocol", "base2new", "--seed", 1]
    assert config(*base).DATASET.SUBSAMPLE_CLASSES == "base"
    assert config(*base, "--eval-only").DATASET.SUBSAMPLE_CLASSES == "new"
    assert config(*base, "--eval-only", "DATASET.SUBSAMPLE_CLASSES", "all").DATASET.SUBSAMPLE_CLASSES == "all"


def test_backbone_and_input_size_follow_the_data_set_then_the_default(tmp_path):
    assert config("--trainer", "CLIPFit", "--seed", 1).MODEL.BACKBONE.NAME == "ViT-B/16"
    assert config("--trainer", "CLIPFit", "--seed", 1).INPUT.SIZE == (224, 224)
    assert config("--trainer", "CLIPFit", "--seed", 1, "--backbone", "RN50x4").INPUT.SIZE == (288, 288)
    own = write(
        tmp_path / "own.yaml", "DATASET: {NAME: DescribableTextures}\nMODEL: {BACKBONE: {NAME: RN50}}\n"
    )
    assert config("--trainer", "CLIPFit", "--seed", 1, dataset=own).MODEL.BACKBONE.NAME == "RN50"
    with pytest.raises(ValueError, match=r"INPUT.SIZE is \(32, 32\), but the backbone ViT-B/16 takes"):
        config("--trainer", "CLIPFit", "--seed", 1, "INPUT.SIZE", "(32, 32)")


def test_how_pictures_are_read_follows_the_backbone_where_nothing_says_it(tmp_path):
    base = ("--trainer", "CLIPFit", "--seed", 1)
    read = config(*base).INPUT
    assert (list(OPENAI_MEAN), list(OPENAI_STD)) == (read.PIXEL_MEAN, read.PIXEL_STD)
    assert (read.INTERPOLATION, read.RESIZE) == ("bicubic", "shortest")
    said = config(*base, "INPUT.RESIZE", "squash", "INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]").INPUT
    assert ("squash", [0.5] * 3, list(OPENAI_STD)) == (said.RESIZE, said.PIXEL_MEAN, said.PIXEL_STD)
    copy = tmp_path / "copy.pt"
    copy.write_bytes(DEMO_FILE.read_bytes())
    later = config(*base, "--backbone", copy)
    assert not later.INPUT.PIXEL_MEAN and not later.INPUT.RESIZE  # it takes torch to read the file
    settle_input(later)
    assert ((48, 48), list(OPENAI_MEAN)) == (later.INPUT.SIZE, later.INPUT.PIXEL_MEAN)
    assert later.INPUT.RESIZE == "shortest"


def test_to_say_how_the_backbone_reads_pictures_anyway_makes_no_variant():
    mean = ("INPUT.PIXEL_MEAN", str(list(OPENAI_MEAN)), "INPUT.INTERPOLATION", "bicubic")
    base = ("--trainer", "CLIPFit", "--protocol", "few_shot", "--seed", 1)
    words = ["--dataset-config-file", DTD, *map(str, base)]
    assert resolve(parse_args([*words, *mean, "INPUT.RESIZE", "shortest"])).variant == {}
    changed = resolve(parse_args([*words, "INPUT.RESIZE", "squash"])).variant
    assert changed == {"INPUT.RESIZE": "squash"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.BACKBONE.ACTIVATION", "quick-gelu", "did you mean quick_gelu"),
        ("INPUT.RESIZE", "squashed", "did you mean squash. choose shortest or squash"),
    ],
)
def test_a_choice_about_the_backbone_is_checked(key, value, message):
    with pytest.raises(ValueError, match=f"{key} is '{value}'; {message}"):
        config("--trainer", "CLIPFit", "--seed", 1, key, value)


def test_threads_are_settled_and_decide_no_result():
    few, many = (config("--trainer", "CLIPFit", "--seed", 1, "THREADS", n) for n in (1, 2))
    assert (few.THREADS, many.THREADS) == (1, 2) and config_digest(few) == config_digest(many)
    unsaid = config("--trainer", "CLIPFit", "--seed", 1).THREADS
    assert unsaid == min(4, len(os.sched_getaffinity(0)))


def resolved(*words):
    return resolve(parse_args(["--dataset-config-file", DTD, *map(str, words)]))


def test_a_negative_or_missing_seed_is_drawn_and_noted():
    for words, why in (([], "no seed was given"), (["--seed", -3], "SEED -3 asks for a random seed")):
        run = resolved("--trainer", "CLIPFit", *words)
        assert run.cfg.SEED > 0 and run.notes == [f"{why}: this run draws and uses SEED {run.cfg.SEED}"]


def test_keys_of_other_methods_are_accepted_and_named_in_one_note(tmp_path):
    family = write(
        tmp_path / "coop.yaml", "TRAINER: {COOP: {N_CTX: 4, CTX_INIT: true}}\nLOSS: {NAME: prograd}\n"
    )
    words = ["--trainer", "CLIPFit", "--seed", 1]
    run = resolved(*words, "--config-file", family, "TRAINER.COOP.CSC", "True")
    assert run.cfg.TRAINER.COOP.CTX_INIT is True and run.cfg.TRAINER.COOP.CSC is True
    (note,) = run.notes
    assert "CLIPFit does not read" in note
    for key in ("TRAINER.COOP.CSC", "TRAINER.COOP.N_CTX", "TRAINER.COOP.CTX_INIT", "LOSS.NAME"):
        assert key in note
    assert resolved(*words, "TRAINER.CLIPFIT.BETA", 2).notes == []
    (note,) = resolved(*words, "DATASET.NUM_LABELED", 5).notes  # accepted for Dassl's own YAML files
    assert "DATASET.NUM_LABELED" in note


def test_a_plugin_that_declares_no_keys_is_not_told_which_ones_it_reads():
    from dassl.engine import TRAINER_REGISTRY, TrainerX

    TRAINER_REGISTRY.register(type("FamilyPlugin", (TrainerX,), {}), force=True)
    assert resolved("--trainer", "FamilyPlugin", "--seed", 1, "TRAINER.COOP.N_CTX", 4).notes == []


@pytest.fixture
def tcp():
    """A trainer of a fork, which declares nothing: its keys stand in its own train.py and YAML files."""
    from dassl.engine import TRAINER_REGISTRY, TrainerX

    TRAINER_REGISTRY.register(type("TCP", (TrainerX,), {}), force=True)
    return ["--trainer", "TCP", "--seed", 1]


TCP = "TRAINER: {TCP: {ALPHA: 0.7, HIDDEN: 5, LAYERS: [6, 7], PREC: fp32}}\nSEED: 1\n"


@pytest.mark.parametrize("in_data_sets_file", [False, True])
def test_a_plugins_node_in_its_own_yaml_is_a_declaration(tcp, tmp_path, in_data_sets_file):
    if in_data_sets_file:
        path = write(tmp_path / "tcp.yaml", f"{TCP}DATASET: {{NAME: DescribableTextures}}\n")
        words = ["--dataset-config-file", path]
    else:
        path = write(tmp_path / "tcp.yaml", TCP)
        words = ["--config-file", path]
    run = resolved(*tcp, *words, "TRAINER.TCP.ALPHA", 1, "TRAINER.TCP.LAYERS", "[8]")
    assert run.cfg.TRAINER.TCP == {"ALPHA": 1.0, "HIDDEN": 5, "LAYERS": [8], "PREC": "fp32"}
    assert run.notes == [f"Note: {path} declares TRAINER.TCP"]
    with pytest.raises(KeyError, match=r"TRAINER.TCP.HIDEN .* did you mean TRAINER.TCP.HIDDEN\?"):
        resolved(*tcp, *words, "TRAINER.TCP.HIDEN", 4)


def test_the_first_file_with_a_node_declares_its_keys_and_the_later_one_sets_them(tcp, tmp_path):
    data = write(tmp_path / "data.yaml", f"{TCP}DATASET: {{NAME: DescribableTextures}}\n")
    write(tmp_path / "parent.yaml", "TRAINER: {OTHER: {A: 1}}\n")
    mine = write(tmp_path / "mine.yaml", "_BASE_: parent.yaml\nTRAINER: {TCP: {ALPHA: 2}, OTHER: {B: 2}}\n")
    cfg = resolved(*tcp, "--dataset-config-file", data, "--config-file", mine).cfg
    assert (cfg.TRAINER.TCP.ALPHA, cfg.TRAINER.OTHER) == (2.0, {"A": 1, "B": 2})
    wrong = write(tmp_path / "wrong.yaml", "TRAINER: {TCP: {ALPHAA: 2}}\n")
    with pytest.raises(KeyError, match=r"ALPHAA .*wrong.yaml\) .* did you mean TRAINER.TCP.ALPHA\?"):
        resolved(*tcp, "--dataset-config-file", data, "--config-file", wrong)


def test_nodes_that_are_declared_elsewhere_get_no_new_keys(tcp, tmp_path):
    family = write(tmp_path / "ivlp.yaml", "TRAINER: {IVLP: {PROMPT_DEPTH_VISON: 3}}\n")
    with pytest.raises(KeyError, match=r"did you mean TRAINER.IVLP.PROMPT_DEPTH_VISION\?"):
        resolved(*tcp, "--config-file", family)
    misspelt = write(tmp_path / "clipfit.yaml", "TRAINER: {CLIPFITT: {BETA: 2}}\n")
    with pytest.raises(
        KeyError, match=r"TRAINER.CLIPFITT \(.*clipfit.yaml\) .* did you mean TRAINER.CLIPFIT\?"
    ):
        resolved("--trainer", "CLIPFit", "--config-file", misspelt)
    with pytest.raises(KeyError, match=r"TRAINER.TCP \(.*\) is not a config key'$"):
        resolved("--trainer", "CLIPFit", "--config-file", write(tmp_path / "tcp.yaml", TCP))


def test_a_node_that_no_file_declares_is_an_error_without_a_foreign_hint(tcp):
    with pytest.raises(KeyError, match="TRAINER.TCP.ALPHA .command line. is not a config key'$"):
        resolved(*tcp, "TRAINER.TCP.ALPHA", 1)


def test_flags_are_taken_as_they_are():
    run = resolved("--trainer", "CLIPFit", "--seed", 1, "--output-dir", "2024")
    assert run.cfg.OUTPUT_DIR == "2024" and run.has_folder
    assert not resolved("--trainer", "CLIPFit", "--seed", 1).has_folder


@pytest.mark.parametrize(
    "words, error, message",
    [
        (["--trainer", "ClipFitt"], ValueError, "unknown trainer 'ClipFitt'; did you mean 'CLIPFit'"),
        ([], ValueError, "pass --trainer"),
        (["--trainer", "CLIPFit", "OPTIM.MAX_EPOCHS", "3"], KeyError, "did you mean OPTIM.MAX_EPOCH?"),
        (["--trainer", "CLIPFit", "OPTIM.LR"], ValueError, "has no partner"),
        (["--trainer", "CLIPFit", "OPTIM.LR", "1", "--eval-only"], ValueError, "flags come before all pairs"),
        (["--trainer", "CLIPFit", "--backbone", "ViT-B/61"], ValueError, "did you mean 'ViT-B/16'"),
        (["--trainer", "CLIPFit", "OPTIM.MAX_EPOCH", "2.5"], ValueError, "OPTIM.MAX_EPOCH"),
        (["--trainer", "CLIPFit", "OPTIM.MAX_EPOCH", "None"], ValueError, "it must be at least 1"),
        (["--trainer", "CLIPFit", "TRAIN.PRINT_FREQ", "0"], ValueError, "it must be at least 1"),
        (["--trainer", "CLIPFit", "THREADS", "-1"], ValueError, "it must be at least 0"),
        (
            ["--trainer", "CLIPFit", "--protocol", "few_shot", "DATASET.NUM_SHOTS", "many"],
            ValueError,
            "NUM_SHOTS is 'many'",
        ),
        (["--trainer", "CLIPFit", "--eval-only", "--no-train"], ValueError, "give one of them"),
        (["--trainer", "CLIPFit", "--load-epoch", "5"], ValueError, "add --eval-only"),
    ],
)
def test_mistakes_are_named_with_the_nearest_valid_choice(words, error, message):
    with pytest.raises(error, match=message.replace("?", r"\?")):
        config(*words)


def test_a_wrong_key_in_a_file_names_the_file(tmp_path):
    wrong = write(tmp_path / "wrong.yaml", "OPTIM: {LEARNING_RATE: 0.1}\n")
    with pytest.raises(KeyError, match="OPTIM.LEARNING_RATE.*wrong.yaml"):
        config("--trainer", "CLIPFit", "--config-file", wrong)
    with pytest.raises(FileNotFoundError, match="did you mean .*dtd.yaml"):
        config("--trainer", "CLIPFit", dataset=str(PROJECT / "configs/datasets/dtdd.yaml"))
    with pytest.raises(ValueError, match="no data set is named"):
        config("--trainer", "CLIPFit", dataset="")


def test_a_key_given_twice_in_a_users_file_is_noted_for_the_log(tmp_path):
    mine = write(tmp_path / "mine.yaml", "OPTIM:\n  LR: 0.1\n  LR: 0.2\n")
    run = resolved("--trainer", "CLIPFit", "--seed", 1, "--config-file", mine)
    assert run.cfg.OPTIM.LR == 0.2
    (note,) = run.notes
    assert note.startswith(f"Warning: {mine}, line 3: OPTIM.LR is given twice (0.1 in line 2, 0.2 here)")


def test_a_plugin_without_yaml_declares_its_keys_in_its_class():
    from dassl.engine import TRAINER_REGISTRY
    from trainers.base import CLIPTrainer

    plugin = type("OneFile", (CLIPTrainer,), {"defaults": {"PREC": "auto", "STRENGTH": 0.5}})
    TRAINER_REGISTRY.register(plugin, force=True)
    cfg = config("--trainer", "OneFile", "--seed", 1, "TRAINER.ONEFILE.STRENGTH", "2")
    assert cfg.TRAINER.ONEFILE.STRENGTH == 2 and cfg.OPTIM.LR == 0.002


def drop_in(monkeypatch, tmp_path, code, defaults=""):
    """A trainers/ with one more file, and a YAML of its defaults if there are any."""
    for name in ("trainers", "configs"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    write(tmp_path / "trainers/dropped_in.py", f"@TRAINER_REGISTRY.register()\n{code}")
    if defaults:
        write(tmp_path / "configs/trainers/DroppedIn.yaml", defaults)
    monkeypatch.setattr(registered, "PROJECT", tmp_path)
    monkeypatch.setattr(resolve_module, "PROJECT", tmp_path)
    monkeypatch.setattr(resolve_module, "CONFIGS", tmp_path / "configs")


def test_defaults_of_a_class_are_read_over_those_of_its_bases_and_it_needs_no_recipe(monkeypatch, tmp_path):
    below = "class DroppedIn(Scale):\n    defaults = {'B': [1.5]}\n"
    above = "class Scale(CLIPTrainer):\n    defaults = dict(A=1, B=[])\n"
    drop_in(monkeypatch, tmp_path, below + above)
    run = resolved("--trainer", "dropped_in", "--seed", 1, "--protocol", "few_shot")
    assert dict(run.cfg.TRAINER.DROPPEDIN) == {"PREC": "auto", "A": 1, "B": [1.5]}
    assert run.notes == ["Note: DroppedIn, few_shot: no recipe, the method's defaults"]


def test_defaults_in_two_places_are_an_error_that_names_keys_and_places(monkeypatch, tmp_path):
    code = "class DroppedIn(CLIPTrainer):\n    defaults = {'PREC': 'auto', 'PULL': 0.1}\n"
    drop_in(monkeypatch, tmp_path, code, "_BASE_: ../_base_/clip.yaml\nTRAINER: {DROPPEDIN: {PREC: auto}}\n")
    places = r"trainers/dropped_in.py, .*\(PREC, PULL\).* configs/trainers/DroppedIn.yaml; move"
    with pytest.raises(ValueError, match=places):
        config("--trainer", "DroppedIn", "--seed", 1)


def test_a_yaml_alone_is_no_trainer(monkeypatch, tmp_path):
    drop_in(monkeypatch, tmp_path, "class DroppedIn(CLIPTrainer): ...\n")
    write(tmp_path / "configs/trainers/Alone.yaml", "TRAINER: {ALONE: {PREC: auto}}\n")
    with pytest.raises(ValueError, match="unknown trainer 'Alone'"):
        config("--trainer", "Alone", "--seed", 1)


def test_resolving_imports_no_torch():
    code = (
        "import sys; from launch.arguments import parse_args; from launch.resolve import resolve\n"
        "from launch.folder import run_folder\n"
        f"run_folder(resolve(parse_args(['--trainer', 'CLIPFit', '--dataset-config-file', {DTD!r}])))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_a_run_knows_the_declared_default_of_every_key(tmp_path):
    own = write(tmp_path / "own.yaml", "OPTIM: {LR: 0.5}")
    words = ["--trainer", "CLIPFit", "--dataset-config-file", DTD, "--seed", "1", "--config-file", own]
    run = resolve(parse_args([*words, "TRAINER.CLIPFIT.BETA", "3"]))
    assert run.declared.keys() == flatten(run.cfg).keys()
    assert (run.cfg.OPTIM.LR, run.declared["OPTIM.LR"]) == (0.5, 0.002)
    declared = load_yaml(PROJECT / "configs/trainers/CLIPFit.yaml")["TRAINER"]["CLIPFIT"]["BETA"]
    assert run.declared["TRAINER.CLIPFIT.BETA"] == declared != run.cfg.TRAINER.CLIPFIT.BETA


# --dataset ------------------------------------------------------------------------------------------


def test_a_data_set_is_named_from_any_folder_by_its_stem_or_registered_name(tmp_path, monkeypatch):
    long = resolve(parse_args(["--trainer", "CLIPFit", "--dataset-config-file", DTD, "--seed", "1"]))
    monkeypatch.chdir(tmp_path)
    for name in ("dtd", "DescribableTextures", "DTD"):
        short = resolve(parse_args(["--trainer", "CLIPFit", "--dataset", name, "--seed", "1"]))
        assert short.cfg == long.cfg and run_folder(short) == run_folder(long)


def test_a_data_set_without_yaml_is_named_by_its_file(monkeypatch):
    own = DataSet("myphotos", "MyPhotos", PROJECT / "datasets/myphotos.py", Facts("MyPhotos"), None)
    monkeypatch.setattr(resolve_module, "data_set", lambda word: own)
    run = resolve(parse_args(["--trainer", "CLIPFit", "--dataset", "myphotos", "--seed", "1"]))
    assert (run.cfg.DATASET.NAME, run.cfg.RUN.DATASET_FILE) == ("MyPhotos", "myphotos")
    assert "/myphotos/" in str(run_folder(run))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--dataset", "dttd"], "unknown data set 'dttd'; did you mean 'dtd'"),
        (["--dataset", "dtd", "--dataset-config-file", DTD], "both name a data set; give one"),
        ([], "no data set is named; pass --dataset .*ucf101"),
    ],
)
def test_a_data_set_that_is_not_clear_is_an_error(words, message):
    with pytest.raises(ValueError, match=message):
        resolve(parse_args(["--trainer", "CLIPFit", *words]))
