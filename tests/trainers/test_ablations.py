"""The paper's ablations as files: what each trains on ViT-B/16, with which loss, and where its runs lie."""

from pathlib import Path

import pytest

from clipfit import groups
from launch.arguments import parse_args
from launch.folder import run_folder
from launch.registered import protocols
from launch.resolve import resolve, resolve_training

PROJECT = Path(__file__).parents[2]
ABLATIONS = {path.stem: path for path in sorted((PROJECT / "configs/ablations").glob("*.yaml"))}

TEXT_BLOCK = (
    3 * 512 + 512 + 2 * 512 + 2048 + 512
)  # biases: query, key, value; output; two norms; two FFN layers
IMAGE_BLOCK = 3 * 768 + 768 + 2 * 768 + 3072 + 768
NORM = 2 * 768  # gain and bias; 26 of them in the image tower

# file -> values that train in the text tower and in the image tower, regulariser
CLIPFIT = {
    "bias_a": (12 * TEXT_BLOCK, 12 * IMAGE_BLOCK, "none"),
    "bias_b": (12 * TEXT_BLOCK, 0, "none"),
    "bias_c": (12 * (2048 + 512), 0, "none"),
    "bias_d": (12 * 512, 0, "none"),
    "proj_bias_ln": (12 * 512, 26 * NORM, "none"),
    "proj_bias_kd": (12 * 512, 0, "kd"),
    "reg_mse": (12 * 512, 26 * NORM, "mse"),
    "ln_first": (12 * 512, NORM, "kd"),
    "ln_twelfth": (12 * 512, NORM, "kd"),
    "ln_last": (12 * 512, NORM, "kd"),
    "ln_top6": (12 * 512, 6 * NORM, "kd"),
    "bias_first": (512, 26 * NORM, "kd"),
    "bias_sixth": (512, 26 * NORM, "kd"),
    "bias_last": (512, 26 * NORM, "kd"),
    "bias_top3": (3 * 512, 26 * NORM, "kd"),
    "bias_last3": (3 * 512, 26 * NORM, "kd"),
}
PRINTED = {"bias_a": 168_960, "bias_b": 67_584, "bias_c": 30_720, "bias_d": 6_144, "proj_bias_ln": 46_080}
UPDATE_LAYERNORM = {
    "CLIPFit": 46_080,  # trains them anyway
    "CoOp": 4 * 512 + 39_936,
    "CoCoOp": 35_360 + 39_936,
    "KgCoOp": 4 * 512 + 39_936,
    "ProGrad": 16 * 512 + 39_936,
    "MaPLe": 3_555_072 + 39_936,
    "CLIPAdapter": 131_072 + 39_936,
}


def ablated(name, *words):
    flag = f"--config-file={ABLATIONS[name]}"
    return flag, "--backbone=random:ViT-B/16", *words


def trained(trainer, tower):
    return {
        name: p for name, p in trainer.trained_parameters().items() if name.startswith(f"{tower}_encoder.")
    }


def test_every_file_is_known_here():
    assert set(ABLATIONS) == {*CLIPFIT, "ul"}
    assert {name: sum(CLIPFIT[name][:2]) for name in PRINTED} == PRINTED


@pytest.mark.parametrize("name", CLIPFIT)
def test_what_trains_on_vit_b16_and_with_which_loss(name, build, shared_random_weights):
    trainer = build("CLIPFit", *ablated(name))
    text, image, loss = CLIPFIT[name]
    assert groups.count(trained(trainer, "text").values()) == text
    assert groups.count(trained(trainer, "image").values()) == image
    assert groups.count(trainer.trained_parameters().values()) == text + image
    assert loss == trainer.hp.REGULARIZER


@pytest.mark.parametrize(
    "name, tower, modules",
    [
        ("ln_first", "image", ["ln_pre"]),
        ("ln_twelfth", "image", ["transformer.resblocks.5.ln_1"]),
        ("ln_last", "image", ["ln_post"]),
        (
            "ln_top6",
            "image",
            ["ln_pre", *(f"transformer.resblocks.{i}.ln_{n}" for i in (10, 11) for n in (1, 2)), "ln_post"],
        ),
        ("bias_first", "text", ["transformer.resblocks.0.mlp.c_proj"]),
        ("bias_sixth", "text", ["transformer.resblocks.5.mlp.c_proj"]),
        ("bias_last", "text", ["transformer.resblocks.11.mlp.c_proj"]),
        ("bias_top3", "text", [f"transformer.resblocks.{i}.mlp.c_proj" for i in (0, 1, 2)]),
        ("bias_last3", "text", [f"transformer.resblocks.{i}.mlp.c_proj" for i in (9, 10, 11)]),
    ],
)
def test_which_layers_of_a_tower_train(name, tower, modules, build, shared_random_weights):
    trainer = build("CLIPFit", *ablated(name))
    found = {key.removeprefix(f"{tower}_encoder.").rpartition(".")[0] for key in trained(trainer, tower)}
    assert found == set(modules)


@pytest.mark.parametrize("method", UPDATE_LAYERNORM)
def test_what_trains_with_layernorm_updating(method, build, shared_random_weights):
    trainer = build(method, *ablated("ul"))
    assert groups.count(trainer.trained_parameters().values()) == UPDATE_LAYERNORM[method]


@pytest.mark.parametrize("method", ["ZeroshotCLIP", "ZeroshotCLIP2", "TipAdapter"])
def test_layernorm_updating_is_refused_where_it_has_no_meaning(method, build):
    with pytest.raises(ValueError, match="UPDATE_LAYERNORM: .* choose another --trainer"):
        build(method, f"--config-file={ABLATIONS['ul']}")


@pytest.mark.parametrize("protocol", protocols())
@pytest.mark.parametrize("name", ABLATIONS)
def test_a_run_lies_under_the_files_name_and_its_test_loads_it(name, protocol):
    method = "KgCoOp" if name == "ul" else "CLIPFit"
    words = ["--trainer", method, "--protocol", protocol, "--seed", "1"]
    words += ["--config-file", str(ABLATIONS[name])]
    words += ["--dataset-config-file", str(PROJECT / "configs/datasets/demo.yaml")]
    args = parse_args([*words, "--eval-only"])
    test = resolve(args)
    training, found = resolve_training(args, test, [])
    assert run_folder(test).parts[-3:] == run_folder(found).parts[-3:] == (method, name, "seed1")
    if method == "CLIPFit":
        assert found.cfg.TRAINER.CLIPFIT.UNFREEZE == test.cfg.TRAINER.CLIPFIT.UNFREEZE
    assert found.cfg.TRAINER.UPDATE_LAYERNORM == test.cfg.TRAINER.UPDATE_LAYERNORM == (name == "ul")
    if training.protocol == protocol:
        assert run_folder(resolve(parse_args(words))) == run_folder(found)


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_file_says_the_command_that_runs_it_and_its_source(name):
    first, second, *_ = ABLATIONS[name].read_text().splitlines()
    assert f"CONFIG=configs/ablations/{name}.yaml bash scripts/" in first
    assert (PROJECT / first.split()[-3]).is_file()
    assert second.startswith("# Paper, ")


@pytest.mark.parametrize("method, name", [("CLIPFit", "ln_top6"), ("KgCoOp", "ul")])
def test_an_ablation_trains_and_is_tested_on_new_classes(method, name, run_train, result, tmp_path):
    words = ("--trainer", method, "--protocol", "base2new", "--seed", 1, "--config-file", ABLATIONS[name])
    assert run_train(*words, "--shots", 1, "OPTIM.MAX_EPOCH", 1) is None
    assert run_train(*words, "--shots", 1, "--eval-only", "OPTIM.MAX_EPOCH", 1) is None
    base, new = (
        next(Path(tmp_path, "output/base2new", kind, "demo/shots_1", method).glob(f"{name}-*/seed1"))
        for kind in ("train_base", "test_new")
    )
    assert result(base)["trainable_params"] == result(new)["trainable_params"] > 0
    assert result(new)["subsample_classes"] == "new"
