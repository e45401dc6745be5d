"""The model that a test loads was trained as the test uses it, or the message names both values."""

from pathlib import Path

import pytest

from dassl.run_folder import write_config
from dassl.utils import write_json
from launch import tested_model
from launch.arguments import parse_args
from launch.inputs import Inputs
from launch.registered import class_fact, shipped_methods
from launch.resolve import resolve, resolve_training
from launch.tested_model import check_tested_model, shaping_keys

PROJECT = Path(__file__).parents[2]


def resolved(*words, trainer="CLIPFit", dataset="dtd"):
    yaml = str(PROJECT / f"configs/datasets/{dataset}.yaml")
    flags = ["--dataset-config-file", yaml, "--seed", "1", "--trainer", trainer]
    return resolve(parse_args([*flags, *map(str, words)]))


def inputs(backbone="b" * 64):
    return Inputs({"backbone": backbone}, [], {}, {})


@pytest.fixture
def trained(tmp_path):
    """Leave the folder of a training run, on a backbone of this digest."""

    def leave(*words, trainer="CLIPFit", backbone="b" * 64):
        write_config(tmp_path, resolved(*words, trainer=trainer).cfg, "python train.py")
        write_json({"inputs": {"backbone": backbone} if backbone else None}, tmp_path / "result.json")
        return tmp_path

    return leave


def check(folder, *words, trainer="CLIPFit", backbone="b" * 64):
    run = resolved("--eval-only", "--model-dir", folder, *words, trainer=trainer)
    return check_tested_model(run.cfg, run.declared, inputs(backbone)), run.cfg.TEST.ACCEPT


@pytest.mark.parametrize(
    "key, value, there",
    [
        ("TRAINER.CLIPFIT.UNFREEZE", "['image.layernorm']", r"\['text.ffn_proj_bias', 'image.layernorm'\]"),
        ("DATASET.PROMPT_TEMPLATE", "a drawing of a {}.", "''"),
        ("TRAINER.UPDATE_LAYERNORM", "True", "False"),
        ("INPUT.INTERPOLATION", "bilinear", "bicubic"),
        ("INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]", r"\[0.48145466, 0.4578275, 0.40821073\]"),
        ("INPUT.PIXEL_STD", "[0.5, 0.5, 0.5]", r"\[0.26862954, 0.26130258, 0.27577711\]"),
    ],
)
def test_another_form_of_the_model_is_named_and_can_be_accepted(key, value, there, trained):
    folder = trained()
    now = value if value[0] in "[Tab" else repr(value)
    with pytest.raises(ValueError) as error:
        check(folder, key, value)
    said = str(error.value)
    assert f"--model-dir {folder}" in said and f'TEST.ACCEPT "{[key]}"' in said
    assert error.match(rf"{key}: {there} there, ") and f" there, {now} now" in said
    assert check(folder, key, value, "TEST.ACCEPT", str([key])) == ([], [key])


def test_another_input_size_and_backbone(trained):
    folder = trained("--backbone", "ViT-L/14@336px", backbone="a" * 64)
    with pytest.raises(ValueError) as error:
        check(folder)
    assert error.match(r"INPUT.SIZE: \[336, 336\] there, \[224, 224\] now")
    assert error.match(
        r"MODEL.BACKBONE.NAME: ViT-L/14@336px \(sha256 a{12}...\) there, ViT-B/16 \(sha256 b{12}"
    )
    accepted = ["INPUT.SIZE", "MODEL.BACKBONE.NAME"]
    assert check(folder, "TEST.ACCEPT", str(accepted)) == ([], accepted)


def test_a_backbone_counts_by_content_where_it_is_known(trained, tmp_path):
    folder = trained("--backbone", "random:ViT-B/32", backbone="b" * 64)
    check(folder, "--backbone", "random:ViT-B/16")  # another name, the same digest
    folder = trained(backbone=None)
    check(folder)  # by name
    with pytest.raises(ValueError, match="BACKBONE.NAME: ViT-B/16 there, random:ViT-B/16 now"):
        check(folder, "--backbone", "random:ViT-B/16")


@pytest.mark.parametrize(
    "words",
    [
        ["--shots", 4],
        ["SEED", 7],
        ["OPTIM.LR", 0.1],
        ["TRAINER.CLIPFIT.BETA", 2.0],
        ["TRAINER.CLIPFIT.PREC", "fp16"],
        ["DATASET.SUBSAMPLE_CLASSES", "new"],
        ["DATASET.NAME", "EuroSAT"],
    ],
)
def test_what_does_not_shape_a_model_may_differ(words, trained):
    assert check(trained(), *words) == ([], [])


def test_another_trainer_is_named(trained):
    with pytest.raises(ValueError, match="TRAINER.NAME: CoOp there, KgCoOp now"):
        check(trained(trainer="CoOp"), trainer="KgCoOp")


def test_what_need_not_be_accepted_is_no_extra(trained):
    assert check(trained(), "TEST.ACCEPT", "['INPUT.SIZE', 'TRAINER.NAME']") == ([], [])


def test_a_key_that_is_not_compared_cannot_be_accepted(trained):
    with pytest.raises(
        ValueError, match="TEST.ACCEPT names OPTIM.LR, .* choose from MODEL.BACKBONE.NAME, INPUT"
    ):
        check(trained(), "TEST.ACCEPT", "['OPTIM.LR']")


def test_a_model_of_another_repository_gets_one_line(tmp_path):
    ((note,), _) = check(tmp_path)
    assert f"{tmp_path} has no config.yaml" in note


def test_methods_name_keys_that_they_have():
    for trainer in shipped_methods():
        run = resolved(trainer=trainer)
        nodes = {
            f"TRAINER.{name}.{key}"
            for name, node in run.cfg.TRAINER.items()
            if isinstance(node, dict)
            for key in node
        }
        own = set(shaping_keys(trainer)) - set(tested_model.SHAPING)
        assert own <= nodes, trainer


def test_a_subclass_has_what_its_base_names():
    assert class_fact("trainers", "KgCoOp", "shapes_the_model", ()) == (
        "N_CTX",
        "CSC",
        "CTX_INIT",
        "CLASS_TOKEN_POSITION",
    )
    assert "TRAINER.COOP.N_CTX" in shaping_keys("KgCoOp") and "TRAINER.COCOOP.CSC" not in shaping_keys(
        "CoCoOp"
    )


@pytest.mark.parametrize("protocol", ["base2new", "few_shot", "cross_dataset", "domain_shift"])
@pytest.mark.parametrize("trainer", [name for name in shipped_methods() if not name.startswith("Zeroshot")])
def test_every_recipe_tests_what_it_trains(trainer, protocol, tmp_path):
    new_classes = protocol in ("base2new", "cross_dataset")
    if new_classes and not class_fact("trainers", trainer, "new_classes", True):
        pytest.skip("it knows only the classes that it was trained on")
    dataset = {"cross_dataset": "dtd", "domain_shift": "imagenetv2"}.get(protocol, "dtd")
    words = ["--protocol", protocol, "--eval-only", "--model-dir", str(tmp_path)]
    yaml = str(PROJECT / f"configs/datasets/{dataset}.yaml")
    args = parse_args(["--trainer", trainer, "--dataset-config-file", yaml, "--seed", "1", *words])
    run = resolve(args)
    _, training = resolve_training(args, run, [])
    write_config(tmp_path, training.cfg, "python train.py")
    write_json({"inputs": {"backbone": "b" * 64}}, tmp_path / "result.json")
    assert check_tested_model(run.cfg, run.declared, inputs()) == []
