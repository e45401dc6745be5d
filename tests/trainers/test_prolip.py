"""ProLIP against its formulas, written out plainly."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import clipfit
from clipfit.clip import CLIP
from clipfit.fit.files import fit_folder, read_fit
from clipfit.modules import OpenAIModel
from clipfit.projection import Projection
from clipfit.prompts import ENSEMBLE, fill
from launch.resolve import load_recipe
from tests.trainers.plain import embed, encode, plain_clip, record_training, unit

EPS, BETAS = 1e-4, (0.9, 0.999)
NODE = "TRAINER.PROLIP"
QUICK = ("DATASET.NUM_SHOTS", 4, f"{NODE}.VIEWS", 3, "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.003)
AUGMENTED = "('random_resized_crop', 'random_flip', 'normalize')"


@pytest.fixture
def prolip(build, small_clip):
    def make(*words):
        return build("ProLIP", f"--backbone={small_clip}", *QUICK, *words, transforms=AUGMENTED)

    return make


def plain_views(path, trainer, count):
    """Features (N, d) before the projection of each view: passes over the images, one after the other."""
    model = plain_clip(path)
    model.visual.proj = torch.nn.Parameter(torch.eye(len(model.visual.proj)))
    loader = trainer.loader("train_x", trainer.dm.dataset.train_x, is_train=True)
    with torch.no_grad():
        return [torch.cat([model.encode_image(batch["img"]) for batch in loader]) for _ in range(count)]


def plain_parts(path, trainer):
    """Logit scale, text features t, projection W and labels."""
    model = plain_clip(path)
    tokens, rows = embed(model, fill("a photo of a {}.", trainer.classnames))
    labels = torch.tensor([item.label for item in trainer.dm.dataset.train_x])
    return model.logit_scale.exp(), encode(model, rows, tokens), model.visual.proj.detach().clone(), labels


def test_the_loss_follows_the_formulas_step_by_step(prolip, small_clip):
    trainer = prolip("TEST.NO_TEST", True)
    views = plain_views(small_clip, trainer, 3)
    scale, t, w0, labels = plain_parts(small_clip, trainer)
    summaries = record_training(trainer)[1]
    w, expected = w0.clone().requires_grad_(True), []
    m, v = torch.zeros_like(w0), torch.zeros_like(w0)
    for step in range(6):  # twice through three views
        logits = scale * unit(views[step % 3] @ w) @ t.t()
        loss = F.cross_entropy(logits, labels) + ((w - w0) ** 2).sum() / 4  # 4 shots
        (gradient,) = torch.autograd.grad(loss, w)
        m, v = (
            b * old + (1 - b) * new
            for b, old, new in zip(BETAS, (m, v), (gradient, gradient**2), strict=True)
        )
        lr = 0.003 * (1 + math.cos(math.pi * step / 6)) / 2
        with torch.no_grad():
            root = (v / (1 - BETAS[1] ** (step + 1))).sqrt() + EPS
            w -= lr * m / (1 - BETAS[0] ** (step + 1)) / root
        expected.append(loss.item())
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(trainer.projection.weight, w, rtol=1e-3, atol=1e-5)


def test_the_first_step_in_closed_form_does_not_depend_on_the_regularizer(prolip, small_clip):
    (trained, x), *others = (first_step(prolip, lam) for lam in (0.0, 0.25, 1e6))
    assert all(torch.equal(trained, other) for other, _ in others)  # its gradient at W0 is 0

    scale, t, w0, labels = plain_parts(small_clip, prolip())
    z = x @ w0
    length = z.norm(dim=1, keepdim=True)
    p = torch.softmax(scale * z / length @ t.t(), dim=1)
    wrong = p - F.one_hot(labels, len(t))  # (N, K)
    along = scale * wrong @ t / len(x)  # gradient by the unit features
    unit_z = z / length
    gradient = x.t() @ ((along - (along * unit_z).sum(dim=1, keepdim=True) * unit_z) / length)
    expected = w0 - 0.003 * gradient / (
        gradient.abs() + EPS
    )  # Adam's moments are the gradient and its square
    torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-5)


def first_step(prolip, lam):
    trainer = prolip(f"{NODE}.LAM", lam)
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 3
    trainer.set_model_mode("train")
    batch = next(iter(trainer.train_loader_x))
    trainer.forward_backward(batch)
    return trainer.projection.weight.detach(), batch["img"]


def test_the_fit_is_a_plain_clip_with_another_projection(prolip, tmp_path, result):
    trainer = prolip()
    trainer.train()
    assert set(read_fit(fit_folder(tmp_path / "run")).tensors) == {"clip.visual.proj", "class_features"}
    model, images = clipfit.load(tmp_path / "run"), next(iter(trainer.test_loader))["img"][:8]
    with torch.no_grad():
        expected = trainer.model_inference(images).softmax(dim=1)
        plain = trainer.clip.logits(trainer.clip.encode_image(images), trainer.t).softmax(dim=1)
    torch.testing.assert_close(model.probabilities(images), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-5)
    assert model.facts["open_vocabulary"] and result(tmp_path / "run")["extras"] == ["3 cached views"]


@pytest.mark.parametrize("name, values", [("ViT-B/16", 393_216), ("RN50", 2_097_152)])
def test_counts(name, values, build, shared_random_weights):
    assert build("ProLIP", f"--backbone=random:{name}").count_trained_parameters() == values


@pytest.mark.parametrize("layers, patch", [(2, 8), ((1, 1, 1, 1), None)])
def test_the_projection_of_what_comes_before_it_are_the_features(layers, patch):
    torch.manual_seed(0)
    clip = CLIP(OpenAIModel(32, 64, layers, 64, patch, 77, 512, 64, 1, 1)).eval()
    projection, images = Projection(clip), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        before = projection.before(images)
        torch.testing.assert_close(projection(before), clip.encode_image(images))
        projection.weight.mul_(2)  # the tower's own
        torch.testing.assert_close(projection.before(images), before)
        torch.testing.assert_close(projection(before), clip.encode_image(images))
    assert not any(one is projection.weight for one in projection.body.parameters())


def test_a_tower_without_one_last_matrix_is_refused(small_clip):
    clip = CLIP(plain_clip(small_clip))
    clip.image_encoder = torch.nn.Sequential(torch.nn.Linear(3, 3))
    with pytest.raises(ValueError, match="a Sequential that does not end in one matrix"):
        Projection(clip)


# Settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam, value", [("1/shots", 1 / 4), ("1/shots^2", 1 / 16), (0.3, 0.3), (2, 2)])
def test_the_weight_of_the_regularizer_follows_from_the_shots(lam, value, prolip):
    assert prolip(f"{NODE}.LAM", lam).lam == pytest.approx(value)


def test_where_all_images_are_trained_on_shots_are_their_mean(prolip):
    trainer = prolip("DATASET.NUM_SHOTS", -1)
    assert trainer.lam == pytest.approx(trainer.num_classes / len(trainer.dm.dataset.train_x))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("LAM", "1/16", "LAM is '1/16'; choose a number from 0, 1/shots or 1/shots\\^2"),
        ("LAM", -1.0, "LAM is -1.0"),
        ("VIEWS", 0, "VIEWS is 0; choose at least 1"),
    ],
)
def test_what_has_no_meaning_is_refused(key, value, message, prolip):
    with pytest.raises(ValueError, match=message):
        prolip(f"{NODE}.{key}", value)


def test_recipes_hold_the_release():
    for protocol, shots in (("base2new", 16), ("few_shot", 16), ("cross_dataset", 4), ("domain_shift", 4)):
        settings, _ = load_recipe("ProLIP", protocol, "ImageNet", None)
        assert settings["DATASET.NUM_SHOTS"] == shots
        assert (settings[f"{NODE}.VIEWS"], settings["OPTIM.MAX_EPOCH"]) == (300, 1)


def test_imagenet_has_the_seven_templates_unless_one_is_given(prolip, monkeypatch):
    trainer = prolip()
    assert trainer.templates == ["a photo of a {}."]
    trainer.cfg.defrost()
    trainer.cfg.DATASET.NAME = "ImageNet"
    trainer.setup()
    assert trainer.templates == list(ENSEMBLE) and "prompt ensemble" in trainer.extras()
    trainer.cfg.DATASET.PROMPT_TEMPLATE = trainer.template = "a photo of a {}."
    trainer.setup()
    assert trainer.templates == ["a photo of a {}."]


# Views ----------------------------------------------------------------------------------------------


def views_of(trainer):
    return trainer.train_loader_x.dataset


def test_a_view_follows_from_seed_view_and_image(prolip):
    views = views_of(prolip())
    first = [views[number]["img"] for number in range(3)]
    again, more = views_of(prolip()), views_of(prolip(f"{NODE}.VIEWS", 5))
    for number in (2, 0, 1):  # in any order
        assert torch.equal(again[number]["img"], first[number])
        assert torch.equal(more[number]["img"], first[number])
    assert not torch.allclose(first[0], first[1])
    assert not torch.allclose(views_of(prolip("SEED", 2))[0]["img"], first[0])
    with pytest.raises(IndexError, match="no view 3"):
        views[3]


@pytest.mark.parametrize("limit, passes", [(2.0, 3), (0.0, 6), (2.5e-5, 4)])  # a view: 40 images of 64 floats
def test_views_beyond_the_memory_are_computed_again(limit, passes, prolip, tmp_path):
    metrics = []
    for name, words in (("all", ()), ("some", ("FEATURES.VIEWS_GB", limit))):
        trainer = prolip(f"--output-dir={tmp_path / name}", "TEST.NO_TEST", True, *words)
        views, computed = views_of(trainer), []
        original = views._compute
        views._compute = lambda view, original=original, computed=computed: (
            computed.append(view),
            original(view),
        )[1]
        trainer.train()
        metrics.append(Path(tmp_path, name, "metrics.jsonl").read_text())
    assert metrics[0] == metrics[1]
    assert len(computed) == passes


def test_views_and_test_images_come_from_the_store(prolip, tmp_path, capsys, result):
    records = []
    for name in ("without", "first", "second"):
        store = [] if name == "without" else ["FEATURES.STORE", tmp_path / "store"]
        capsys.readouterr()
        prolip(f"--output-dir={tmp_path / name}", *store).train()
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("feature store")]
        predictions = Path(tmp_path, name, "predictions.jsonl").read_text()
        records.append((Path(tmp_path, name, "metrics.jsonl").read_text(), predictions))
    assert records[0] == records[1] == records[2]
    images = 3 * 40 + json.loads(Path(tmp_path, "second/result.json").read_text())["total"]
    assert lines == [f"feature store: {images:,} of {images:,} image passes were there"]
