"""A fit in memory against zero-shot CLIP computed step by step, and everything that can be wrong with one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import clipfit
from clipfit.backbones import weights_digest
from clipfit.clip import normalize
from clipfit.families.openai import DEMO_FILE
from clipfit.fit.files import FORMAT, Fit, read_facts, write_fit
from clipfit.fit.model import Unreadable
from clipfit.io.pictures import evaluation_transform
from clipfit.loading import load_clip
from clipfit.prompts import fill, tokenize
from tests.clipfit.fit.zero_shot import CLASSES, INPUT, TEMPLATE

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of different sizes and modes; the second is sideways by its EXIF tag."""
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.gif")]
    for number, (path, size) in enumerate(zip(paths, [(60, 50), (50, 90), (48, 48)], strict=True)):
        image = Image.effect_noise(size, 80 + 40 * number).convert("RGB")
        image.paste((250, 30, 40 * number), (0, 0, 20, size[1]))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif) if number == 1 else image.save(path)
    return [str(path) for path in paths]


def change(folder, **values):
    path = folder / "fit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_predictions_are_those_of_plain_zero_shot_clip(fit, pictures, demo, w):
    transform = evaluation_transform(INPUT["size"], "bicubic", INPUT["mean"], INPUT["std"])
    model = clipfit.load(fit)
    for path, found in zip(pictures, model.predict(pictures), strict=True):
        with Image.open(path) as image:
            x = normalize(demo.image_encoder(transform(image.convert("RGB"))[None]))
        p = (100 * x @ w.T).softmax(dim=1)[0]
        order = p.argsort(descending=True)
        assert found.picture == path and found.classes == [CLASSES[id] for id in order]
        torch.testing.assert_close(torch.tensor(found.p), p[order], rtol=0, atol=1e-5)


def test_images_and_pixels_are_taken_like_paths(fit, pictures):
    model = clipfit.load(fit.parent)  # of the run folder, too
    p = model.probabilities(pictures)
    assert torch.equal(model.probabilities([Image.open(path) for path in pictures]), p)
    assert torch.equal(model.probabilities(model.pixels(pictures)), p)
    assert model.encode_image(pictures).shape == (3, model.class_features.shape[1])


def test_own_pictures_are_turned_upright(fit, pictures, facts, w):
    turned = [Image.open(path) for path in pictures]
    turned[1] = turned[1].transpose(Image.Transpose.ROTATE_270)  # what orientation 6 asks for
    plain = clipfit.load(fit).probabilities(turned)
    write_fit(fit, Fit({**facts, "input": {**INPUT, "upright": True}}, {"class_features": w}))
    assert torch.equal(clipfit.load(fit).probabilities(pictures), plain)


def test_tensors_of_a_fit_take_the_place_of_the_backbones(fit, facts, w, pictures, demo):
    bias = torch.full_like(demo.image_encoder.ln_post.bias, 0.3)
    write_fit(fit, Fit(facts, {"class_features": w, "clip.visual.ln_post.bias": bias}))
    changed = load_clip("demo")
    with torch.no_grad():
        changed.image_encoder.ln_post.bias.copy_(bias)
        model = clipfit.load(fit)
        expected = normalize(changed.encode_image(model.pixels(pictures)))
    torch.testing.assert_close(model.encode_image(pictures), expected, rtol=0, atol=1e-6)


def test_any_number_of_pictures_keeps_its_order_and_what_cannot_be_read_its_place(fit, pictures, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    many = [*pictures * 7, str(broken), *pictures]
    model = clipfit.load(fit)
    found = list(model.predict_each(iter(many), batch_size=4))
    assert [one.picture for one in found] == many
    assert [number for number, one in enumerate(found) if isinstance(one, Unreadable)] == [21]
    assert "broken.jpg cannot be read as an image" in found[21].reason
    with pytest.raises(OSError, match="broken.jpg cannot be read"):
        model.predict(many)


def test_reading_stays_ahead_by_no_more_than_a_batch(fit, pictures):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield pictures[0]

    answers = clipfit.load(fit).predict_each(endless(), batch_size=4)
    for _ in range(10):
        next(answers)
    assert len(asked) <= 16


def test_an_ensemble_of_templates_is_the_mean_of_unit_features(fit, facts, w, demo):
    templates = [TEMPLATE, "art of the {}."]
    write_fit(fit, Fit({**facts, "template": templates}, {"class_features": w}))
    each = [
        normalize(demo.text_encoder(demo.embed_prompts(tokenize(fill(text, CLASSES), CLASSES))))
        for text in templates
    ]
    found = clipfit.load(fit).with_classes(CLASSES).class_features
    torch.testing.assert_close(found, normalize((each[0] + each[1]) / 2), rtol=0, atol=1e-6)


def test_a_backbone_that_lies_elsewhere_now_can_be_named(fit, tmp_path, pictures):
    expected = clipfit.load(fit).probabilities(pictures)
    facts = read_facts(fit)
    change(fit, backbone={**facts["backbone"], "name": str(tmp_path / "gone.pt")})
    with pytest.raises(
        FileNotFoundError, match="needs the backbone .*gone.pt, which is not there; say where"
    ):
        clipfit.load(fit)
    moved = tmp_path / "moved.pt"
    shutil.copyfile(DEMO_FILE, moved)
    assert torch.equal(clipfit.load(fit, backbone=moved).probabilities(pictures), expected)


def test_another_backbone_is_refused_by_its_digest(fit, tmp_path, demo):
    other = tmp_path / "other.pt"
    torch.save(torch.load(DEMO_FILE, weights_only=True), other)
    with pytest.raises(ValueError, match=f"SHA256 {weights_digest('demo')}; that of .*other.pt is"):
        clipfit.load(fit, backbone=other)


def test_random_weights_need_no_digest(fit, facts):
    features = normalize(torch.randn(3, 512, generator=torch.Generator().manual_seed(0)))
    backbone = {"name": "random:ViT-B/32", "sha256": None, "activation": "quick_gelu"}
    image = {**INPUT, "size": [224, 224]}
    write_fit(fit, Fit({**facts, "backbone": backbone, "input": image}, {"class_features": features}))
    assert clipfit.load(fit).classes == CLASSES


@pytest.mark.parametrize(
    "values, words",
    [
        (
            {"format": FORMAT + 1},
            rf"has format {FORMAT + 1}, the code here reads up to {FORMAT}: update clipfit",
        ),
        ({"format": "1"}, "says no format"),
        ({"classes": []}, "a fit has at least one class"),
        ({"classes": [1, 2, 3]}, "a fit has at least one class, by name"),
        ({"logit_scale": "100"}, "logit_scale is '100', which it cannot be"),
        ({"needs_trainer": True}, "is of CLIPFit, whose result is more than CLIP's tensors.*clipfit predict"),
        ({"classes": ["only one"]}, r"class_features has shape \(3, \d+\) for 1 classes"),
    ],
)
def test_a_fit_that_cannot_be_is_refused_with_words(values, words, fit):
    change(fit, **values)
    with pytest.raises(ValueError, match=words):
        clipfit.load(fit)


def test_unknown_facts_are_kept(fit):
    change(fit, weather="fine")
    assert clipfit.load(fit).facts["weather"] == "fine"


def test_damaged_tensors_are_refused_with_words(fit):
    path = fit / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "clip.visual.ln_post.bias": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"visual.ln_post.bias \(3,\) does not fit the backbone, which has"):
        clipfit.load(fit)
    save_file({**tensors, "other": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="'other' is no tensor of a fit"):
        clipfit.load(fit)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="model.safetensors is not a readable .safetensors file"):
        clipfit.load(fit)


def test_what_is_no_fit_is_said(tmp_path, fit):
    with pytest.raises(
        FileNotFoundError, match="nowhere is no folder; give the folder fit of a finished run"
    ):
        clipfit.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no fit.json; give the folder fit.*--redo"):
        clipfit.load(tmp_path)
    with pytest.raises(TypeError, match="pictures is one path"):
        clipfit.load(fit).predict("a.jpg")
    with pytest.raises(ValueError, match="classes is the text 'zebra'; give a list"):
        clipfit.load(fit).with_classes("zebra")
    with pytest.raises(ValueError, match="at most 77"):
        clipfit.load(fit).with_classes(["x " * 90])


@pytest.mark.parametrize(
    "folder", sorted((PROJECT / "tests/fixtures/fits").iterdir()), ids=lambda path: path.name
)
def test_the_fits_of_all_formats_load_for_ever(folder, pictures):
    """The kept features of the classes are those that its text tower still gives to their names."""
    model = clipfit.load(folder)
    again = model.with_classes(model.classes)
    torch.testing.assert_close(again.class_features, model.class_features, rtol=0, atol=1e-5)
    assert all(one.label in model.classes for one in model.predict(pictures))
