"""Zero-shot CLIP and its prompt ensemble against their formulas, and what their runs say of themselves."""

import pytest
import torch

from clipfit.prompts import ENSEMBLE, fill
from tests.trainers.plain import embed, encode, logits, plain_clip, unit


def plain_ensemble(small_clip, templates, names):
    model = plain_clip(small_clip)
    each = []
    for template in templates:
        tokens, rows = embed(model, fill(template, names))
        each.append(encode(model, rows, tokens))
    return model, unit(torch.stack(each).mean(dim=0))


def test_zero_shot_clip_is_the_softmax_over_cosines(build, small_clip):
    trainer = build("ZeroshotCLIP", "--backbone=" + str(small_clip))
    assert trainer.trained_parameters() == {} and trainer.get_model_names() == []
    images = next(iter(trainer.test_loader))["img"][:4]
    with torch.no_grad():
        actual = trainer.model_inference(images)
        image = trainer.clip.encode_image(images)
        text = trainer.clip.text_encoder(trainer.prompts)
    cosines = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(actual, trainer.clip.logit_scale.exp() * cosines, rtol=1e-4, atol=1e-4)


def test_the_ensemble_is_the_normalized_mean_of_seven_templates_and_the_data_sets_own(build, small_clip):
    pets = "a photo of a {}, a type of pet."
    trainer = build("ZeroshotCLIP2", "--backbone=" + str(small_clip), "DATASET.PROMPT_TEMPLATE", pets)
    assert len(trainer.templates) == 8
    model, w = plain_ensemble(small_clip, [*ENSEMBLE, pets], trainer.classnames)
    torch.testing.assert_close(trainer.w, w, rtol=1e-5, atol=1e-6)
    images = next(iter(trainer.test_loader))["img"][:4]
    with torch.no_grad():
        torch.testing.assert_close(
            trainer.model_inference(images), logits(model, images, w), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name, count", [("ImageNet", 7), ("ImageNetV2", 8)])
def test_imagenet_alone_has_the_seven_only(name, count, build, small_clip):
    trainer = build("ZeroshotCLIP2", "--backbone=" + str(small_clip))
    trainer.cfg.defrost()
    trainer.cfg.DATASET.NAME = name
    for _ in range(2):  # a second trainer does not make the list longer
        trainer.template = "a photo of a {}."
        trainer.setup()
        assert len(trainer.templates) == count and list(ENSEMBLE) == trainer.templates[:7]


@pytest.mark.parametrize("precision", ["amp", "fp16"])
def test_half_precision_gives_the_same_ensemble(precision, build, small_clip):
    trainer = build("ZeroshotCLIP2", "--backbone=" + str(small_clip), "TRAINER.ZEROSHOT.PREC", precision)
    _, w = plain_ensemble(small_clip, trainer.templates, trainer.classnames)
    torch.testing.assert_close(trainer.w.float(), w, rtol=0, atol=0.01)


def test_a_run_needs_no_training_and_its_result_names_the_ensemble(build, result):
    trainer = build("ZeroshotCLIP2")
    trainer.train()
    record = result(trainer.output_dir)
    assert (record["trainable_params"], record["extras"]) == (0, ["prompt ensemble"])
    assert record["accuracy"] > 15  # of ten classes
    assert record["template"].count(" | ") == 7 and "a origami {}." in record["template"]
