"""Recipes say what the methods' releases say, and a test builds the model that was trained."""

import pytest

from launch.resolve import load_recipe


@pytest.mark.parametrize("trainer", ["CoOp", "ProGrad", "CLIPAdapter"])
@pytest.mark.parametrize(
    "dataset, shots, epochs",
    [
        ("EuroSAT", 1, 50),
        ("EuroSAT", 2, 100),
        ("EuroSAT", 4, 100),
        ("EuroSAT", 16, 200),
        ("ImageNet", 16, 50),
    ],
)
def test_few_shot_epochs_follow_the_shots(trainer, dataset, shots, epochs):
    recipe, trained_by = load_recipe(trainer, "few_shot", dataset, shots)
    assert (recipe["OPTIM.MAX_EPOCH"], trained_by) == (epochs, "few_shot")


@pytest.mark.parametrize(
    "dataset, shots, strength",
    [("EuroSAT", 4, 1.0), ("EuroSAT", 8, 0.8), ("OxfordFlowers", 16, 0.8), ("OxfordPets", 16, 1.0)],
)
def test_prograd_takes_out_less_on_three_data_sets_with_many_shots(dataset, shots, strength):
    assert load_recipe("ProGrad", "few_shot", dataset, shots)[0]["LOSS.LAMBDA"] == strength


@pytest.mark.parametrize(
    "trainer, protocol, trained_by",
    [
        ("CoOp", "domain_shift", "few_shot"),
        ("CoOp", "cross_dataset", "cross_dataset"),
        ("KgCoOp", "domain_shift", "few_shot"),
        ("ProGrad", "domain_shift", "few_shot"),
        ("CoCoOp", "domain_shift", "cross_dataset"),
    ],
)
def test_a_transfer_test_builds_the_model_that_was_trained(trainer, protocol, trained_by):
    """The recipe of a test and that of the run it loads agree on the context."""
    tested, names_run = load_recipe(trainer, protocol, "ImageNetV2", 16)
    trained, _ = load_recipe(trainer, trained_by, "ImageNet", 16)
    assert names_run == trained_by
    node = "COCOOP" if trainer == "CoCoOp" else "COOP"
    prefix = f"TRAINER.{node}."
    assert {k: v for k, v in tested.items() if k.startswith(prefix)} == {
        k: v for k, v in trained.items() if k.startswith(prefix)
    }


def test_batches_and_epochs_of_base_to_new():
    settings = {}
    for trainer in ("CoOp", "CoCoOp", "KgCoOp", "ProGrad"):
        recipe, _ = load_recipe(trainer, "base2new", "StanfordCars", "")
        batch = recipe.get("DATALOADER.TRAIN_X.BATCH_SIZE", 32)
        settings[trainer] = recipe["OPTIM.MAX_EPOCH"], batch
    assert settings == {"CoOp": (200, 32), "CoCoOp": (10, 1), "KgCoOp": (100, 128), "ProGrad": (100, 32)}
