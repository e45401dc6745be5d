"""CLIP as one module: names, features, logits."""

import copy

import pytest
import torch

from clipfit.clip import CLIP, normalize
from clipfit.modules import convert_weights


def test_tower_parameters_keep_openai_names_behind_the_towers(vit_b16):
    names = {name for name, _ in vit_b16.named_parameters()}
    assert "image_encoder.ln_pre.weight" in names
    assert "image_encoder.transformer.resblocks.11.ln_2.bias" in names
    assert "text_encoder.transformer.resblocks.0.mlp.c_proj.bias" in names
    towers = [
        p for name, p in vit_b16.named_parameters() if name.startswith(("image_encoder.", "text_encoder."))
    ]
    assert len(towers) == 300
    assert sum(parameter.numel() for parameter in towers) == 124_323_840
    assert names - {n for n in names if n.startswith(("image_encoder.", "text_encoder."))} == {
        "token_embedding.weight",
        "logit_scale",
    }


def test_image_features_are_those_of_the_whole_model(tiny_model):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(CLIP(tiny_model).encode_image(images), tiny_model.encode_image(images))


def test_half_model_takes_float32_images_and_gives_half_logits(tiny_model):
    half = copy.deepcopy(tiny_model)
    convert_weights(half)
    clip = CLIP(half)
    with torch.no_grad():
        features = clip.encode_image(torch.zeros(2, 3, 32, 32))
        logits = clip.logits(features, features)
    assert clip.dtype == features.dtype == logits.dtype == torch.float16


def test_logits_are_scaled_cosines(tiny_model):
    clip = CLIP(copy.deepcopy(tiny_model))
    clip.logit_scale.data.fill_(torch.tensor(50.0).log())
    image = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    text = torch.tensor([[1.0, 0.0], [0.0, 7.0], [4.0, -3.0]])
    expected = torch.tensor([[30.0, 40.0, 0.0], [0.0, 50.0, -30.0]])
    torch.testing.assert_close(clip.logits(image, text), expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(clip.logits(normalize(image), normalize(text)), expected, rtol=1e-6, atol=1e-5)


def test_each_image_is_compared_with_text_features_of_its_own(tiny_model):
    clip = CLIP(tiny_model)
    image, text = torch.randn(4, 1, 32), torch.randn(4, 5, 32)
    expected = torch.stack([clip.logits(row, own) for row, own in zip(image, text, strict=True)])
    torch.testing.assert_close(clip.logits(image, text), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_under_autocast_are_not_rounded(tiny_model, dtype):
    clip = CLIP(tiny_model)
    image, text = torch.randn(4, 32).to(dtype), torch.randn(5, 32).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        logits = clip.logits(image, text)
    assert torch.equal(logits, clip.logits(image.float(), text.float()))


def test_training_mode_changes_no_number_of_a_vit(tiny_model):
    clip = CLIP(copy.deepcopy(tiny_model))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(clip.train().encode_image(images), clip.eval().encode_image(images))


def test_images_are_encoded_in_pieces_where_nothing_is_kept(tiny_model):
    clip, sizes = CLIP(copy.deepcopy(tiny_model)), []
    clip.image_encoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    images = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = clip.encode_image(images)
    with torch.no_grad():
        actual = clip.encode_image(images)
    assert sizes == [20, 8, 8, 4]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
