"""Values that no run can use are refused with their key, before torch; what is hardly meant gets a line."""

import pytest

from launch.arguments import parse_args
from launch.resolve import resolve


def resolved(*words, trainer="CLIPFit"):
    return resolve(parse_args(["--trainer", trainer, "--dataset", "dtd", "--seed", "1", *map(str, words)]))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("TEST.FINAL_MODEL", "bestval", "did you mean best_val\\? choose last_step or best_val"),
        ("TEST.SPLIT", "vall", "did you mean val\\? choose test or val"),
        ("TRAINER.CLIPFIT.BETA", "-1", "at least 0"),
        ("TRAINER.CLIPFIT.BETA", "1e999", "finite"),
        ("OPTIM.WEIGHT_DECAY", "-0.1", "at least 0"),
        ("OPTIM.MOMENTUM", "-0.9", "at least 0"),
        ("OPTIM.MOMENTUM", "1", "less than 1"),
        ("OPTIM.ADAM_BETA2", "1.5", "less than 1"),
        ("OPTIM.RMSPROP_ALPHA", "-1", "at least 0"),
        ("DATALOADER.TRAIN_X.N_INS", "0", "at least 1"),
        ("OPTIM.LR", "-0.002", "at least 0"),
        ("OPTIM.LR", "None", "at least 0"),
        ("OPTIM.LR", "nan", "is of type str|nan"),
        ("OPTIM.LR", "1e999", "finite"),
        ("OPTIM.WARMUP_CONS_LR", "-1", "at least 0"),
        ("DATALOADER.K_TRANSFORMS", "0", "at least 1"),
        ("INPUT.PIXEL_STD", "[0.5, 0.0, 0.5]", "give no zeros"),
        ("THREADS", "1000000", "give at most"),
        ("DATASET.NUM_SHOTS", "0", "ZeroshotCLIP"),
        ("DATASET.NUM_SHOTS", "-2", "-1 for all"),
        ("TRAINER.CLIPFIT.UNFREEZE", "['text.ffn_proj_bais']", "did you mean 'text.ffn_proj_bias'\\?"),
        ("TRAINER.CLIPFIT.UNFREEZE", "['image.layernrom[0:3]']", "did you mean 'image.layernorm'\\?"),
        ("TRAINER.CLIPFIT.UNFREEZE", "['image.layernorm[a]']", "'a' is no index or range"),
        ("TRAINER.CLIPFIT.UNFREEZE", "['image.all[0]']", "takes no layers"),
        ("TRAINER.CLIPFIT.UNFREEZE", "[5]", "unknown parameter group '5'"),
    ],
)
def test_a_value_that_no_run_can_use_is_refused_with_its_key(key, value, message):
    with pytest.raises(ValueError, match=f"{key}.*{message}"):
        resolved(key, value)


def test_shots_are_a_number_of_images_or_all():
    assert resolved("--shots", -1).cfg.DATASET.NUM_SHOTS == -1
    with pytest.raises(ValueError, match="--shots.* is 0.*ZeroshotCLIP.* -1 takes all"):
        resolved("--shots", 0, "--protocol", "few_shot")
    with pytest.raises(ValueError, match="--shots.* is -3"):
        resolved("--shots", -3)


def test_nan_in_a_file_is_refused_with_its_key(tmp_path):
    (tmp_path / "own.yaml").write_text("OPTIM: {LR: .nan}")
    with pytest.raises(ValueError, match="OPTIM.LR is nan; give a finite number"):
        resolved("--config-file", tmp_path / "own.yaml")


@pytest.mark.parametrize(
    "trainer, key", [("CLIPLoRA", "TRAINER.CLIPLORA.MAPS"), ("TwoStage", "TRAINER.TWOSTAGE.LOW_RANK")]
)
def test_a_map_that_is_none_is_refused_with_its_key(trainer, key):
    with pytest.raises(ValueError, match=f"{key}: unknown map .*; did you mean 'image.ffn_in'"):
        resolved(key, "['text.q', 'image.ffn_ni[6:]']", trainer=trainer)
    with pytest.raises(ValueError, match=f"{key}: unknown map 'text.bias'"):  # a group, and no map
        resolved(key, "['text.bias']", trainer=trainer)
    assert resolved(key, "['text.ffn_in', 'image.q[6:]']", trainer=trainer).cfg


def test_groups_that_exist_are_taken():
    assert resolved("TRAINER.CLIPFIT.UNFREEZE", "['text.bias[0:3,5]', 'image.all']").cfg


@pytest.mark.parametrize("warmup, epochs, said", [(5, 5, True), (6, 5, True), (4, 5, False)])
def test_a_warm_up_that_never_ends_is_said(warmup, epochs, said):
    words = ["OPTIM.WARMUP_EPOCH", warmup, "OPTIM.MAX_EPOCH", epochs]
    warned = f"Warning: OPTIM.WARMUP_EPOCH {warmup} is not less than OPTIM.MAX_EPOCH {epochs}"
    assert any(note.startswith(warned) for note in resolved(*words).notes) == said
    assert not any("WARMUP" in note for note in resolved(*words, trainer="ZeroshotCLIP").notes)
