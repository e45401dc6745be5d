"""What holds for every trainer of the project, on the small CLIP."""

import json
from pathlib import Path

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint
from launch.resolve import shipped_trainers

TRAINED = [name for name in shipped_trainers() if not name.startswith("ZeroshotCLIP")]


def step(trainer):
    """One training step on the first batch; returns the summary."""
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
    trainer.set_model_mode("train")
    return trainer.forward_backward(next(iter(trainer.train_loader_x)))


def snapshot(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def test_every_shipped_yaml_has_a_registered_trainer():
    assert set(shipped_trainers()) <= set(TRAINER_REGISTRY.registered_names())


@pytest.mark.parametrize("method", TRAINED)
def test_one_step_moves_only_what_the_method_trains(method, build, small_clip):
    trainer = build(method, "--backbone=" + str(small_clip))
    before = snapshot(trainer)
    step(trainer)
    moved = {name for name, p in snapshot(trainer).items() if not torch.equal(p, before[name])}
    assert moved == set(trainer.trained_parameters())


@pytest.mark.parametrize("method", TRAINED)
def test_the_checkpoint_holds_the_trained_names_and_no_others(method, build, small_clip, tmp_path):
    trainer = build(method, "--backbone=" + str(small_clip))
    step(trainer)
    trainer.save_model(0, tmp_path)
    saved = load_checkpoint(tmp_path / trainer.registered_name / "model.pth.tar-1")["state_dict"]
    assert set(saved) == {*trainer.trained_parameters(), *trainer.also_saved}

    fresh = build(method, "--backbone=" + str(small_clip))
    fresh.load_model(tmp_path, epoch=1)
    assert all(torch.equal(p, saved[name]) for name, p in fresh.trained_parameters().items())


@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize("method", TRAINED)
def test_an_interrupted_run_goes_on_in_the_same_bits(method, precision, build, small_clip, tmp_path):
    def make(folder):
        trainer = build(
            *(method, "--backbone=" + str(small_clip), f"--output-dir={tmp_path / folder}"),
            *(f"TRAINER.{TRAINER_REGISTRY.get(method)._node()}.PREC", precision, "OPTIM.MAX_EPOCH", 3),
            *("DATALOADER.TRAIN_X.BATCH_SIZE", 32, "TEST.NO_TEST", True),
            transforms="('random_resized_crop', 'random_flip', 'normalize')",
        )
        trainer.resume_interval = 0.0
        return trainer

    undisturbed = make("undisturbed")
    undisturbed.train()

    interrupted = make("interrupted")
    original = interrupted.forward_backward

    def stop_in_the_third_epoch(batch):
        if interrupted.epoch == 2 and interrupted.batch_idx == 1:
            raise KeyboardInterrupt
        return original(batch)

    interrupted.forward_backward = stop_in_the_third_epoch
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    resumed = make("interrupted")
    resumed.train()

    assert resumed.start_epoch == 2
    for name, parameter in undisturbed.trained_parameters().items():
        assert torch.equal(parameter, resumed.trained_parameters()[name])
    metrics = [
        Path(tmp_path, folder, "metrics.jsonl").read_text() for folder in ("undisturbed", "interrupted")
    ]
    assert metrics[0] == metrics[1]


def test_zero_shot_clip_is_the_softmax_over_cosines(build, small_clip):
    trainer = build("ZeroshotCLIP", "--backbone=" + str(small_clip))
    assert trainer.trained_parameters() == {} and trainer.get_model_names() == []
    images = next(iter(trainer.test_loader))["img"][:4]
    with torch.no_grad():
        logits = trainer.model_inference(images)
        image = trainer.clip.encode_image(images)
        text = trainer.clip.text_encoder(trainer.prompts)
    cosines = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(logits, trainer.clip.logit_scale.exp() * cosines, rtol=1e-4, atol=1e-4)


def test_layernorm_updating_is_refused_where_nothing_trains(build, small_clip):
    with pytest.raises(ValueError, match="UPDATE_LAYERNORM: zero-shot CLIP trains nothing"):
        build("ZeroshotCLIP", "--backbone=" + str(small_clip), "TRAINER.UPDATE_LAYERNORM", "True")


def test_layernorm_updating_adds_a_parameter_group(build, small_clip):
    words = ("CLIPFit", "--backbone=" + str(small_clip), "TRAINER.CLIPFIT.UNFREEZE", "['text.ffn_proj_bias']")
    plain = build(*words).trained_parameters()
    with_norms = build(*words, "TRAINER.UPDATE_LAYERNORM", "True").trained_parameters()
    added = [name for name in with_norms if name not in plain]
    assert len(added) == 16 and all(
        name.startswith("image_encoder.") and ".ln_" in f".{name}" for name in added
    )


def test_a_class_name_that_does_not_fit_the_context_is_named(build, small_clip):
    with pytest.raises(ValueError, match="striped red star.*77"):
        build("CLIPFit", "--backbone=" + str(small_clip), "DATASET.PROMPT_TEMPLATE", "photo " * 80 + "of {}")


def test_the_result_states_precision_and_template(build, small_clip, result):
    trainer = build(
        "CLIPFit", "--backbone=" + str(small_clip), "TRAINER.CLIPFIT.PREC", "amp", "OPTIM.MAX_EPOCH", 1
    )
    trainer.train()
    record = result(trainer.output_dir)
    assert (record["precision"], record["template"]) == ("amp fp16", "a photo of a {}.")
    assert record["trainable_params"] == 1216 and record["extras"] == []
    assert (record["backbone"], record["epoch"], record["max_epoch"]) == (str(small_clip), 1, 1)
    assert json.loads(Path(trainer.output_dir, "environment.json").read_text())["packages"]["clip-anytorch"]


@pytest.mark.parametrize("own, extras", [(True, ["val epoch"]), (False, ["test epoch"])])
def test_the_result_says_on_which_images_the_epoch_was_chosen(own, extras, build, small_clip, result):
    trainer = build(
        "CLIPFit", "--backbone=" + str(small_clip), "OPTIM.MAX_EPOCH", 1, "TEST.FINAL_MODEL", "best_val"
    )
    if not own:  # as on ImageNet
        trainer.dm.dataset._val = trainer.dm.dataset.test
    trainer.train()
    assert result(trainer.output_dir)["extras"] == extras


def test_no_method_trains_on_test_images(build, small_clip):
    """Nor does any read one before its test: the images of the loader are those of the training list."""
    trainer = build("CLIPFit", "--backbone=" + str(small_clip), "OPTIM.MAX_EPOCH", 1)
    dataset = trainer.dm.dataset
    seen = {path for batch in trainer.train_loader_x for path in batch["impath"]}
    assert seen <= {item.impath for item in dataset.train_x}
    assert seen.isdisjoint(item.impath for item in dataset.test)
    dataset._train_x = [*dataset.train_x, dataset.test[0]]
    with pytest.raises(ValueError, match="1 of 161 training images are test images too"):
        trainer.train()
