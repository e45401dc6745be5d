"""The methods on OpenAI's ResNets: what has a meaning there takes a step, what has none is refused."""

import pytest
import torch

TEXT_ONLY = ("TRAINER.CLIPFIT.UNFREEZE", "['text.ffn_proj_bias']")
# method -> values that train on RN50: text width 512, feature width 1024, ten classes with one image each
TRAINED = {
    "CLIPFit": 12 * 512,
    "CoOp": 4 * 512,
    "CoCoOp": 4 * 512 + (1024 * 64 + 64) + (64 * 512 + 512),
    "KgCoOp": 4 * 512,
    "ProGrad": 16 * 512,
    "CLIPAdapter": 2 * 1024 * 256,
    "TipAdapter": 10 * 1024,
}


@pytest.fixture
def resnet(build, shared_random_weights):
    """Build a method on random weights, for steps of two images."""

    def _build(method, *words, name="RN50"):
        few = ("DATASET.NUM_SHOTS", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2)
        words = (*(TEXT_ONLY if method == "CLIPFit" else ()), *words)
        return build(method, f"--backbone=random:{name}", *few, *words)

    return _build


@pytest.mark.parametrize(
    "name, method", [*(("RN50", m) for m in TRAINED), ("RN101", "CoOp"), ("RN101", "CLIPFit")]
)
def test_a_step_trains_the_method_and_leaves_the_batch_norms_alone(name, method, resnet):
    trainer = resnet(method, name=name)
    trained = trainer.trained_parameters()
    assert sum(p.numel() for p in trained.values()) == TRAINED[method]
    before = {key: p.detach().clone() for key, p in trained.items()}
    statistics = dict(trainer.clip.image_encoder.named_buffers())
    statistics_before = {key: buffer.clone() for key, buffer in statistics.items()}
    trainer.batch_idx, trainer.num_batches = 0, 2
    trainer.set_model_mode("train")
    summary = trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert summary["loss"].isfinite()
    assert not any(torch.equal(p, before[key]) for key, p in trained.items())
    assert any(key.endswith("running_mean") for key in statistics)
    assert all(torch.equal(buffer, statistics_before[key]) for key, buffer in statistics.items())


def test_zero_shot_clip_classifies(resnet):
    trainer = resnet("ZeroshotCLIP")
    images = next(iter(trainer.test_loader))["img"][:2]
    with torch.no_grad():
        logits = trainer.model_inference(images)
    assert logits.shape == (2, 10) and logits.isfinite().all()


def test_clipfits_default_groups_are_refused_with_what_is_possible(build, shared_random_weights):
    with pytest.raises(ValueError, match="image.layernorm: this image tower is a ResNet.*text.ffn_proj_bias"):
        build("CLIPFit", "--backbone=random:RN50")


def test_maple_is_refused(resnet):
    with pytest.raises(ValueError, match="ResNet, which has no tokens.*choose a ViT backbone"):
        resnet("MaPLe")


@pytest.mark.parametrize("method", [name for name in TRAINED if name != "TipAdapter"])
def test_layernorm_updating_is_refused(method, resnet):
    with pytest.raises(ValueError, match="UPDATE_LAYERNORM: this image tower is a ResNet.*choose a ViT"):
        resnet(method, "TRAINER.UPDATE_LAYERNORM", True)
