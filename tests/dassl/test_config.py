"""The configuration: its keys, how values merge, what an error says."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from yacs.config import CfgNode as YacsNode

from dassl.config import CfgNode, clean_cfg, flatten, get_cfg_default, load_yaml, yaml_files
from dassl.config.identity import changed_keys, differences
from dassl.run_folder import read_config

FIXTURES = Path(__file__).parents[1] / "fixtures"
OURS = {
    "DATASET.SUBSAMPLE_CLASSES": "all",
    "DATASET.FEWSHOT_LIST": "",
    "DATASET.IMAGES": "",
    "DATASET.TEST_SHARE": 0.2,
    "DATALOADER.TRAIN_X.DROP_LAST": True,
    "OPTIM.MAX_STEPS": 0,
    "TEST.PREDICTIONS": True,
    "TEST.ACCEPT": [],
    "INPUT.RESIZE": "shortest",
    "DATALOADER.CACHE_GB": 2.0,
    "MODEL.MEMORY_GB": 0.0,
    "DATALOADER.TEST_CACHE_GB": 8.0,
    "FEATURES.STORE": False,
    "FEATURES.STORE_GB": 20.0,
    "FEATURES.VIEWS_GB": 2.0,
    "THREADS": 0,
    "DETERMINISTIC": False,
    "RUN.PROTOCOL": "",
    "RUN.DATASET_FILE": "",
    "RUN.SOURCE": "",
    "RUN.EVAL_ONLY": False,
    "RUN.NEW_CLASSES": False,
    "RUN.TEST_ONLY": False,
    "RUN.MODEL_DIR": "",
    "RUN.LOAD_EPOCH": -1,
    "RUN.DIGEST_GB": 8.0,
    "TRAIN.CUDA_GRAPH": False,
    "TRAIN.RECORD": [],
    "OPTIM.LR_MIN": 0.0,
}


@pytest.fixture
def cfg():
    return get_cfg_default()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# Keys


def test_the_keys_defaults_and_types_are_dassls_plus_our_own(cfg):
    expected = dict(OURS)
    for entry in json.loads((FIXTURES / "config_defaults.json").read_text())["keys"]:
        value = entry["default"]
        expected[entry["key"]] = tuple(value) if entry["type"] == "tuple" else value
    found = {
        key: value
        for key, value in flatten(cfg).items()
        if not key.startswith(("TRAINER.CG.", "TRAINER.MEANTEA."))
    }
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in expected.items()
    }


def test_every_call_gives_a_fresh_config(cfg):
    cfg.INPUT.PIXEL_MEAN[0] = 9.0
    cfg.OPTIM.LR = 1.0
    assert get_cfg_default().INPUT.PIXEL_MEAN[0] == 0.485
    assert get_cfg_default().OPTIM.LR == 0.0003


def test_resolving_a_config_imports_no_torch():
    code = "import sys, dassl.config as c, dassl.utils; c.get_cfg_default(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_flatten_keeps_the_order_of_definition():
    tree = CfgNode({"B": 1, "A": {"Z": 2, "C": {"D": 3}}, "AA": 4})
    assert list(flatten(tree).items()) == [("B", 1), ("A.Z", 2), ("A.C.D", 3), ("AA", 4)]


def test_clean_cfg_keeps_the_name_and_the_trainers_own_node(cfg):
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    clean_cfg(cfg, "CoOp")
    assert set(cfg.TRAINER) == {"NAME", "COOP"}


# Merging


@pytest.mark.parametrize(
    ("key", "given", "result"),
    [
        ("OPTIM.LR", 1, 1.0),
        ("OPTIM.LR", "1e-5", 1e-5),
        ("INPUT.SIZE", "[32, 48]", (32, 48)),
        ("INPUT.PIXEL_MEAN", (0, 0, 0), [0, 0, 0]),
        ("INPUT.TRANSFORMS", "normalize", ("normalize",)),
        ("INPUT.TRANSFORMS", ["random_flip", "normalize"], ("random_flip", "normalize")),
        ("OUTPUT_DIR", "'2024'", "2024"),
        ("USE_CUDA", "False", False),
        ("OUTPUT_DIR", None, None),
        ("DATASET.NAME", "true", "true"),
    ],
)
def test_values_convert_only_as_documented(cfg, key, given, result):
    cfg.merge_from_list([key, given])
    merged = flatten(cfg)[key]
    assert merged == result
    assert type(merged) is type(result)


@pytest.mark.parametrize(
    ("key", "value", "types"),
    [
        ("OPTIM.MAX_EPOCH", 1.5, ("float", "int")),
        ("OUTPUT_DIR", True, ("bool", "str")),
        ("OUTPUT_DIR", 3, ("int", "str")),
        ("USE_CUDA", 1, ("int", "bool")),
        ("OPTIM.LR", "fast", ("str", "float")),
        ("OPTIM.STEPSIZE", "ten", ("str", "tuple")),
        ("OPTIM.LR", {"A": 1}, ("dict", "float")),
    ],
)
def test_a_wrong_type_is_refused_with_key_types_and_source(cfg, key, value, types):
    before = flatten(cfg)
    with pytest.raises(ValueError) as error:
        cfg.merge_from_mapping({key: value}, source="some.yaml")
    assert all(part in str(error.value) for part in (key, "some.yaml", *types))
    assert flatten(cfg) == before


def test_a_list_that_does_not_read_as_one_is_refused(cfg):
    with pytest.raises(ValueError, match="does not read as a list"):
        cfg.merge_from_list(["INPUT.TRANSFORMS", "[random_flip,normalize]"])


def test_ctx_init_takes_a_phrase_or_a_bool(cfg):
    cfg.merge_from_mapping({"TRAINER.COOP": {"CTX_INIT": ""}}, source="method", allow_new=True)
    for value in (False, "a photo of a", True):
        cfg.merge_from_list(["TRAINER.COOP.CTX_INIT", value])
        assert value == cfg.TRAINER.COOP.CTX_INIT
    with pytest.raises(ValueError, match="str or bool"):
        cfg.merge_from_list(["TRAINER.COOP.CTX_INIT", 4])


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("OPTIM.MAX_EPOCHS", "OPTIM.MAX_EPOCH"),
        ("optim.lr", "OPTIM.LR"),
        ("NUM_SHOTS", "DATASET.NUM_SHOTS"),
        ("OPTIM.LR.START", "OPTIM.LR"),
        ("OPTIMM", "OPTIM"),
    ],
)
def test_an_unknown_key_names_the_nearest(cfg, wrong, meant):
    with pytest.raises(KeyError) as error:
        cfg.merge_from_mapping({wrong: 1}, source="configs/x.yaml")
    assert error.value.args[0] == f"{wrong} (configs/x.yaml) is not a config key; did you mean {meant}?"


def test_an_unknown_key_that_resembles_nothing_gets_no_guess(cfg):
    with pytest.raises(KeyError) as error:
        cfg.merge_from_list(["TRAINER.SOMETHING.WEIGHT", 1])
    assert "did you mean" not in error.value.args[0]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("TRAINER.MMRL.ALPHA", None),  # two other trainers have an ALPHA
        ("TRAINER.MMRL", None),
        ("TRAINER.COOPP.N_CTX", None),
        ("TRAINER.CLIPFITT.BETA", "TRAINER.CLIPFIT.BETA"),
        ("TRAINER.CLIPFITT.BETAA", "TRAINER.CLIPFIT.BETA"),
        ("TRAINER.CLIPFITT", "TRAINER.CLIPFIT"),
        ("TRAINER.CLIPFIT.BEETA", "TRAINER.CLIPFIT.BETA"),
        ("TRAINER.COOP.N_CTXX", "TRAINER.COOP.N_CTX"),
        ("TRAINER.COOP.BETA", None),
        ("TRAINER.NAMEE", "TRAINER.NAME"),
        ("BETA", "TRAINER.CLIPFIT.BETA"),
        ("N_CTX", None),
        ("ALPHA", None),
    ],
)
def test_the_nearest_key_is_never_another_trainers(cfg, wrong, meant):
    nodes = {"COOP": {"N_CTX": 16, "ALPHA": 1.0}, "CLIPFIT": {"BETA": 8.0}}
    cfg.merge_from_mapping({"TRAINER": nodes}, source="x", allow_new=True)
    with pytest.raises(KeyError) as error:
        cfg.merge_from_mapping({wrong: 1}, source="pairs", own_nodes=["CLIPFIT"])
    hint = f"; did you mean {meant}?" if meant else ""
    assert error.value.args[0] == f"{wrong} (pairs) is not a config key{hint}"
    with pytest.raises(AttributeError, match=r"no config key MMRL here \(here: NAME"):
        cfg.TRAINER.MMRL  # noqa: B018


def test_a_value_for_a_node_and_an_odd_number_of_pairs_are_errors(cfg):
    with pytest.raises(ValueError, match="OPTIM .* is a group of keys"):
        cfg.merge_from_list(["OPTIM", "sgd"])
    with pytest.raises(ValueError, match="3 words and the last, 'SEED'"):
        cfg.merge_from_list(["OPTIM.LR", "0.1", "SEED"])


def test_new_keys_are_declared_only_when_allowed(cfg):
    new = {"TRAINER": {"MINE": {"BETA": 8.0, "GROUPS": ["a"]}}}
    with pytest.raises(KeyError):
        cfg.merge_from_mapping(new, source="x")
    cfg.merge_from_mapping(new, source="x", allow_new=True)
    cfg.merge_from_list(["TRAINER.MINE.BETA", 2])
    assert cfg.TRAINER.MINE.BETA == 2.0
    assert isinstance(cfg.TRAINER.MINE, CfgNode)


def test_nodes_of_plain_yacs_merge_like_our_own(cfg):
    cfg.TRAINER.COOP = YacsNode()
    cfg.TRAINER.COOP.N_CTX = 16
    cfg.TRAINER.COOP.W = 1.0
    copied = copy.deepcopy(cfg)
    copied.merge_from_list(["TRAINER.COOP.N_CTX", 4, "TRAINER.COOP.W", 2])
    assert (copied.TRAINER.COOP.N_CTX, copied.TRAINER.COOP.W, cfg.TRAINER.COOP.N_CTX) == (4, 2.0, 16)
    assert "N_CTX: 4" in str(copied)


def test_a_frozen_config_takes_no_value(cfg):
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.SEED = 1
    with pytest.raises(AttributeError, match="defrost"):
        cfg.merge_from_list(["SEED", 1])
    cfg.defrost()
    cfg.merge_from_list(["SEED", 1])
    assert cfg.SEED == 1


def test_asking_for_a_key_that_is_not_there_names_the_nearest(cfg):
    with pytest.raises(AttributeError, match="did you mean MAX_EPOCH"):
        cfg.OPTIM.MAX_EPOCHS  # noqa: B018
    assert not hasattr(cfg, "MISSING")


def test_keys_that_nothing_reads_are_accepted_with_one_warning(cfg, recwarn):
    cfg.merge_from_mapping({"TRAINER": {"MCD": {"N_STEP_F": 4}, "CG": {"EPS_F": 1.0}}}, source="same.yaml")
    assert not recwarn.list
    with pytest.warns(UserWarning) as caught:
        cfg.merge_from_mapping({"TRAINER": {"MCD": {"N_STEP_F": 5}, "SE": {"RAMPUP": 1}}}, source="da.yaml")
    assert len(caught) == 1
    assert "TRAINER.MCD.N_STEP_F, TRAINER.SE.RAMPUP (da.yaml)" in str(caught[0].message)


# YAML files


def test_a_file_wins_over_its_parents_and_later_parents_over_earlier_ones(tmp_path, cfg):
    write(tmp_path / "base" / "far.yaml", "OPTIM: {LR: 0.1, MAX_EPOCH: 1}\nSEED: 1")
    write(tmp_path / "base" / "near.yaml", "_BASE_: far.yaml\nOPTIM: {MAX_EPOCH: 2, GAMMA: 0.2}")
    write(tmp_path / "base" / "other.yaml", "OPTIM: {GAMMA: 0.3, MOMENTUM: 0.3}")
    path = write(tmp_path / "run.yaml", "_BASE_: [base/near.yaml, base/other.yaml]\nOPTIM: {MOMENTUM: 0.4}")
    merged = {"OPTIM": {"LR": 0.1, "MAX_EPOCH": 2, "GAMMA": 0.3, "MOMENTUM": 0.4}, "SEED": 1}
    assert load_yaml(path) == merged
    cfg.merge_from_file(path)
    assert {key: cfg.OPTIM[key] for key in merged["OPTIM"]} == merged["OPTIM"]


def test_an_error_names_the_parent_that_holds_the_wrong_key(tmp_path, cfg):
    write(tmp_path / "parent.yaml", "OPTIM: {LRR: 1}")
    path = write(tmp_path / "child.yaml", "_BASE_: parent.yaml")
    with pytest.raises(KeyError, match=r"OPTIM.LRR \(.*parent.yaml\)"):
        cfg.merge_from_file(path)


def test_parents_in_a_circle_and_missing_parents_are_errors(tmp_path):
    write(tmp_path / "a.yaml", "_BASE_: b.yaml")
    write(tmp_path / "b.yaml", "_BASE_: ./a.yaml")
    with pytest.raises(ValueError, match=r"a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        load_yaml(tmp_path / "a.yaml")
    write(tmp_path / "c.yaml", "_BASE_: nowhere.yaml")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml, which .*c\.yaml names"):
        load_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SEED: 1\nOPTIM: {LR: 0.1\nTEST: 2", r"x\.yaml, line 3: not valid YAML"),
        ("- a\n- b", r"x\.yaml: .*holds a list"),
        ("_BASE_: {a: b}", r"_BASE_ \(.*x\.yaml\)"),
    ],
)
def test_text_that_is_no_configuration_names_file_and_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_yaml(write(tmp_path / "x.yaml", text))


TWICE = "OPTIM: {LR: 0.1}\nTRAINER:\n  MMRL: {A: 1}\n  MMRL: {B: 2,\n    B: 3}\n"
REPEATED = [
    r"line 4: TRAINER.MMRL is given twice \(a group of 1 in line 3, a group of 2 here\)",
    r"line 5: TRAINER.MMRL.B is given twice \(2 in line 4, 3 here\)",
]


def test_a_key_given_twice_in_a_users_file_is_a_warning_and_the_last_is_used(tmp_path):
    path = write(tmp_path / "x.yaml", TWICE)
    for _ in range(2):  # each time that the file is read
        with pytest.warns(UserWarning) as caught:
            merged = load_yaml(path)
        assert merged == yaml.safe_load(TWICE) == {"OPTIM": {"LR": 0.1}, "TRAINER": {"MMRL": {"B": 3}}}
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == 2
        for message, line in zip(messages, REPEATED, strict=True):
            assert re.fullmatch(rf".*x\.yaml, {line}; the last value is used", message)


def test_a_key_given_twice_in_our_own_files_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(yaml_files, "PROJECT", tmp_path)
    for path in ("configs/trainers/x.yaml", "configs/recipes/CoOp/x.yaml", "paper/x.yaml", "papers/a/x.yaml"):
        with pytest.raises(ValueError, match=REPEATED[0]):
            load_yaml(write(tmp_path / path, TWICE))
    child = write(tmp_path / "mine.yaml", "_BASE_: configs/trainers/x.yaml\n")
    with pytest.raises(ValueError, match=r"trainers/x\.yaml, line 4"):
        load_yaml(child)
    for path in ("mine.yaml", "configs/trainers/MMRL/vit_b16.yaml"):  # the latter is the family's place
        with pytest.warns(UserWarning, match="given twice"):
            load_yaml(write(tmp_path / path, TWICE))


def test_anchors_and_merged_keys_are_no_repetitions(tmp_path, recwarn):
    text = "A: &a {X: 1, Y: 2}\nB: *a\nC: {<<: *a, X: 3}\n"
    assert load_yaml(write(tmp_path / "x.yaml", text)) == {
        "A": {"X": 1, "Y": 2},
        "B": {"X": 1, "Y": 2},
        "C": {"X": 3, "Y": 2},
    }
    assert not recwarn.list


def test_what_is_put_over_one_place_of_an_alias_leaves_the_others_alone(tmp_path):
    write(tmp_path / "parent.yaml", "A: &a {X: 1}\nB: *a\n")
    child = write(tmp_path / "child.yaml", "_BASE_: parent.yaml\nA: {X: 5}")
    assert load_yaml(child) == {"A": {"X": 5}, "B": {"X": 1}}


def test_a_parent_of_several_parents_is_read_once_and_counts_where_it_comes_last(tmp_path):
    write(tmp_path / "0.yaml", "A: {X: 0, Y: 0}")
    for level in range(1, 41):  # 2**40 paths lead from the last file to the first
        text = f"_BASE_: [{level - 1}.yaml, ./{level - 1}.yaml]\nA: {{X: {level}}}"
        write(tmp_path / f"{level}.yaml", text)
    assert load_yaml(tmp_path / "40.yaml") == {"A": {"X": 40, "Y": 0}}
    assert len(yaml_files.yaml_layers(tmp_path / "40.yaml")) == 41
    write(tmp_path / "left.yaml", "_BASE_: 0.yaml\nA: {X: 1}")
    write(tmp_path / "right.yaml", "_BASE_: 0.yaml")
    both = write(tmp_path / "both.yaml", "_BASE_: [left.yaml, right.yaml]")
    assert load_yaml(both) == {"A": {"X": 0, "Y": 0}}  # the right one wins, its parent with it


def test_a_long_chain_of_parents_is_refused(tmp_path):
    for level in range(200):
        write(tmp_path / f"{level}.yaml", f"_BASE_: {level + 1}.yaml")
    with pytest.raises(ValueError, match=r"_BASE_ \(.*49\.yaml\): more than 50 files"):
        load_yaml(tmp_path / "0.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "A0: &a0 [1]\n" + "".join(f"A{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "A0: &a0 {X: 1}\n"
        + "".join(f"A{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)),
        "A0: &a0 [1]\n" + "".join(f"A{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000)),
        "A: " + "[" * 900 + "]" * 900,
        "A: " + "{B: " * 900 + "1" + "}" * 900,
        "A: [" + "1, " * 200_000 + "]",
        "A: &a {X: *a}",
    ],
    ids=["alias bomb", "merge bomb", "alias chain", "deep list", "deep group", "long", "circle"],
)
def test_a_file_that_stands_for_more_than_a_configuration_is_refused_at_once(text, tmp_path):
    with pytest.raises(ValueError, match=r"x\.yaml, line \d+: (more than 200,000 values|\*a holds itself)"):
        load_yaml(write(tmp_path / "x.yaml", text))


@pytest.mark.parametrize(
    "text",
    ["? [1, 2]\n: 3", "? {a: 1}\n: 3", "A: !!python/object:os.system {}", "A: !!int x", "A: 2001-99-99"],
)
def test_values_that_yaml_has_and_a_configuration_not_name_the_file(text, tmp_path):
    with pytest.raises(ValueError, match=r"x\.yaml"):
        load_yaml(write(tmp_path / "x.yaml", text))


def test_files_are_read_as_utf8(tmp_path, cfg):
    cfg.merge_from_file(write(tmp_path / "x.yaml", "OUTPUT_DIR: läufe"))
    assert cfg.OUTPUT_DIR == "läufe"


def test_an_empty_file_changes_nothing(tmp_path, cfg):
    cfg.merge_from_file(write(tmp_path / "x.yaml", "# nothing yet\n"))
    assert cfg == get_cfg_default()


# The identity of an experiment


def old_config(tmp_path, text):
    """A config.yaml as a run folder of an earlier version holds it, read back."""
    write(tmp_path / "config.yaml", f"# python train.py --seed 1\n{text}")
    return read_config(tmp_path)


def test_a_key_that_an_old_folder_does_not_know_counts_as_todays_default(cfg, tmp_path):
    old = old_config(tmp_path, "SEED: 1\nOPTIM:\n  LR: 0.002\nINPUT:\n  SIZE: [224, 224]\n")
    cfg.SEED, cfg.OPTIM.LR = 1, 0.002
    assert differences(old, cfg, get_cfg_default()) == differences(old, cfg) == {}
    cfg.OPTIM.MOMENTUM = 0.5
    assert differences(old, cfg) == {"OPTIM.MOMENTUM": (0.9, 0.5)}
    assert differences(cfg, old) == {"OPTIM.MOMENTUM": (0.5, 0.9)}


def test_the_defaults_of_a_method_are_those_that_the_caller_knows(cfg, tmp_path):
    old = old_config(tmp_path, "TRAINER:\n  NAME: MMRL\n  MMRL:\n    ALPHA: 0.7\n")
    declared = {**flatten(cfg), "TRAINER.MMRL.ALPHA": 0.7, "TRAINER.MMRL.DEPTH": 3}
    now = {**declared, "TRAINER.NAME": "MMRL"}
    assert differences(old, now, declared) == {}
    assert differences(old, {**now, "TRAINER.MMRL.DEPTH": 4}, declared) == {"TRAINER.MMRL.DEPTH": (3, 4)}
    assert differences(old, now) == {"TRAINER.MMRL.DEPTH": (None, 3)}


def test_a_key_of_a_plugin_that_nobody_declares_any_more_counts_with_its_value(cfg, tmp_path):
    old = old_config(tmp_path, "TRAINER:\n  MMRL:\n    ALPHA: 0.7\n")
    assert differences(old, cfg) == {"TRAINER.MMRL.ALPHA": (0.7, None)}


def test_what_decides_speed_storage_or_reporting_alone_is_no_difference(cfg, tmp_path):
    old = old_config(tmp_path, "OUTPUT_DIR: there\nRUN:\n  DIGEST_GB: 1.0\nDATALOADER:\n  NUM_WORKERS: 1\n")
    assert differences(old, cfg) == {}


def test_the_folder_of_the_tested_model_is_a_difference(cfg, tmp_path):
    old = old_config(tmp_path, "RUN:\n  MODEL_DIR: /a\n")
    cfg.RUN.MODEL_DIR = "/b"
    assert differences(old, cfg) == {"RUN.MODEL_DIR": ("/a", "/b")}
    assert changed_keys(old, cfg) == {}


@pytest.mark.parametrize("value", ["!!int ''", "!!float ''", "!!timestamp x", "2020-99-99"])
def test_a_value_that_yaml_cannot_build_is_told_with_the_file(value, tmp_path):
    (tmp_path / "own.yaml").write_text(f"a: {value}\n")
    with pytest.raises(ValueError, match=r"own\.yaml: a value that no configuration file can have"):
        load_yaml(tmp_path / "own.yaml")


@pytest.mark.parametrize("base", [r'"a\0b.yaml"', "x" * 300])
def test_a_parent_that_no_file_is_called_is_told_with_the_file(base, tmp_path):
    (tmp_path / "own.yaml").write_text(f"_BASE_: {base}\n")
    with pytest.raises(ValueError, match=r"_BASE_ \(.*own\.yaml\) is .*, which no file is called"):
        load_yaml(tmp_path / "own.yaml")


def test_a_key_does_not_reach_the_terminal_as_it_is(tmp_path):
    (tmp_path / "own.yaml").write_text('"\\e[2J": 1\n')
    with pytest.raises(KeyError) as error:
        get_cfg_default().merge_from_file(tmp_path / "own.yaml")
    assert "\x1b" not in error.value.args[0]
