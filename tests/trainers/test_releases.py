"""What the recipes of today's methods resolve to, beside what their releases train with."""

import pytest

from launch.arguments import parse_args
from launch.resolve import load_recipe, resolve

IMAGENET, OTHERS = "imagenet", ("dtd", "oxford_pets", "eurosat")
WIDE, HALF = (0.08, 1.0), (0.5, 1.0)
WARM_UP = {"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant", "WARMUP_CONS_LR": 1e-5, "WARMUP_RECOUNT": True}
ADAMW = {"NAME": "adamw", "ADAM_BETA1": 0.9, "ADAM_BETA2": 0.999}
OF_STEPS = {**ADAMW, "LR": 2e-4, "LR_MIN": 1e-6, "WEIGHT_DECAY": 0.01, "WARMUP_EPOCH": 0}
OF_TOKENS = {"NAME": "sgd", "LR": 0.0025, "MOMENTUM": 0.9, "WEIGHT_DECAY": 5e-4, "LR_MIN": 0.0, **WARM_UP}
OF_MMRL = {**ADAMW, "LR": 0.001, "WEIGHT_DECAY": 5e-4, "LR_MIN": 0.0}
OF_PROLIP = {"NAME": "adam", "LR": 1e-5, "LR_MIN": 0.0, "WEIGHT_DECAY": 0.0, "WARMUP_EPOCH": 0}
QKV = [f"{tower}.{kind}" for tower in ("text", "image") for kind in "qkv"]
# method: smallest crop, prompt, batch, settings of OPTIM, own settings
SAME_IN_ALL = {
    "TwoStage": (
        *(WIDE, "a photo of a {}.", 32, OF_STEPS),
        {"SHARE": 0.6, "UNFREEZE": ["text.block_layernorm", "image.block_layernorm"], "LOW_RANK": []},
    ),
    "CLIPLoRA": (
        *(WIDE, "a photo of a {}.", 32, OF_STEPS),
        {"RANK": 2, "ALPHA": 1.0, "SCALING": "root", "DROPOUT": 0.25, "LOGIT_SCALE": 100.0, "MAPS": QKV},
    ),
    "PromptSRC": (*(WIDE, "", 4, OF_TOKENS), {"TEXT_LOSS_WEIGHT": 25.0, "IMAGE_LOSS_WEIGHT": 10.0}),
    "IVLP": (*(WIDE, "", 4, OF_TOKENS), {"N_CTX_TEXT": 4, "N_CTX_VISION": 4, "CTX_INIT": "a photo of a"}),
    "MMRL": (
        *(HALF, "", None, OF_MMRL),
        {"N_TOKENS": 5, "FIRST_LAYER": 6, "ALPHA": 0.7, "PROJ_INIT": "random", "LOGIT_SCALE": 100.0},
    ),
    "ProLIP": (
        *(
            HALF,
            "",
            None,
            {"NAME": "adam", "LR": 1e-5, "LR_MIN": 0.0, "WEIGHT_DECAY": 0.0, "WARMUP_EPOCH": 0},
        ),
        {"VIEWS": 300, "LAM": "1/shots", "EPS": 1e-4},
    ),
}
STEPS_PER_SHOT = {"TwoStage": 300, "CLIPLoRA": 500}


def resolved(method, protocol, data_set, shots):
    words = ["--trainer", method, "--protocol", protocol, "--dataset", data_set, "--shots", str(shots)]
    return resolve(parse_args([*words, "--seed", "1"])).cfg


@pytest.mark.parametrize("protocol", ["base2new", "few_shot", "cross_dataset"])
@pytest.mark.parametrize("method", SAME_IN_ALL)
def test_what_a_method_trains_with_is_what_its_release_says(method, protocol):
    crop, template, batch, optim, own = SAME_IN_ALL[method]
    for data_set in (IMAGENET, *(() if protocol == "cross_dataset" else OTHERS)):
        cfg = resolved(method, protocol, data_set, 4)
        assert tuple(cfg.INPUT.TRANSFORMS) == ("random_resized_crop", "random_flip", "normalize")
        assert tuple(cfg.INPUT.RRCROP_SCALE) == crop
        assert template == cfg.DATASET.PROMPT_TEMPLATE  # empty: of the data set
        assert batch in (None, cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
        assert (cfg.DATASET.NUM_SHOTS, cfg.OPTIM.LR_SCHEDULER) == (4, "cosine")
        assert 4 * STEPS_PER_SHOT.get(method, 0) == cfg.OPTIM.MAX_STEPS
        assert {key: cfg.OPTIM[key] for key in optim} == optim
        node = cfg.TRAINER[method.upper()]
        assert {key: node[key] for key in own} == own


@pytest.mark.parametrize("protocol, warm_up", [("base2new", 1), ("few_shot", 1), ("cross_dataset", 0)])
def test_one_epoch_of_the_source_has_no_warm_up(protocol, warm_up):
    assert warm_up == resolved("MMRL", protocol, IMAGENET, 16).OPTIM.WARMUP_EPOCH


def test_own_pictures_have_budgets_that_do_not_grow_with_views_or_epochs():
    """Steps on all pictures, and an average near the end of the training, however many epochs that has."""
    prolip, _ = load_recipe("ProLIP", "photos", "Photos", None)
    assert (prolip["OPTIM.MAX_STEPS"], prolip["TRAINER.PROLIP.VIEWS"]) == (300, 100)
    promptsrc, _ = load_recipe("PromptSRC", "photos", "Photos", None)
    assert promptsrc["OPTIM.MAX_EPOCH"] == 50
    assert promptsrc["TRAINER.PROMPTSRC.GPA_MEAN"] == 45 and promptsrc["TRAINER.PROMPTSRC.GPA_STD"] == 5
