"""MODEL.INIT_WEIGHTS: a training begins with what another one has trained."""

import pytest
import torch


def trained(trainer):
    return {name: tensor.clone() for name, tensor in trainer.ever_trained().items()}


@pytest.mark.parametrize("method", ["CLIPFit", "CoOp", "TwoStage"])
def test_a_training_begins_with_the_tensors_of_a_checkpoint(build, tmp_path, method):
    other = build(method)
    with torch.no_grad():
        for tensor in other.ever_trained().values():
            tensor += 0.5
    other.save_model(0, str(tmp_path / "other"))
    (path,) = (tmp_path / "other").rglob("model.pth.tar-1")
    found = trained(build(method, "MODEL.INIT_WEIGHTS", path))
    for name, tensor in trained(other).items():
        assert found[name].equal(tensor), name


def test_a_staged_training_begins_with_its_first_stage(build, tmp_path):
    other = build("TwoStage")
    other.stages.enter(1)
    other.model.stage.fill_(1)
    other.save_model(0, str(tmp_path / "other"))
    (path,) = (tmp_path / "other").rglob("model.pth.tar-1")
    assert int(build("TwoStage", "MODEL.INIT_WEIGHTS", path).model.stage) == 0


def test_a_checkpoint_of_another_method_is_refused_with_its_path(build, tmp_path):
    build("CoOp").save_model(0, str(tmp_path / "other"))
    (path,) = (tmp_path / "other").rglob("model.pth.tar-1")
    with pytest.raises(ValueError, match=f"MODEL.INIT_WEIGHTS: {path}: .* does not fit .* is missing"):
        build("CLIPFit", "MODEL.INIT_WEIGHTS", path)
