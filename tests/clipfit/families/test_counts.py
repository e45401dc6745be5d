"""What the parameter groups select on published architectures, on the meta device.

A text tower of n blocks of width W has n * W biases, a LayerNorm of width W has 2 * W parameters.
"""

import pytest
import torch

from clipfit.families import open_clip as family
from clipfit.groups import count, select
from clipfit.whole_text import WholeTextEncoder

open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is not installed")
pytest.importorskip("timm", reason="timm is not installed")

NO_NORMS = "choose a ViT backbone"


def clip_of(name):
    """The CLIP of one of open_clip's names, without memory for its weights."""
    from clipfit.architectures import empty_model
    from clipfit.clip import CLIP

    config = family.model_config(name)
    if arguments := family.own_arguments(config):
        return CLIP(empty_model(half=False, **arguments))
    try:
        model = family.build_foreign(config, "gelu", device="meta")
    except RuntimeError as error:  # a model that this version of timm does not know
        pytest.skip(f"{name} cannot be built here: {error}")
    return CLIP(model, WholeTextEncoder(model.text))


def counted(clip, group):
    return count(select(clip, group)[group].values())


@pytest.mark.parametrize(
    "name, biases, norms, subnorms",
    [
        ("ViT-B-16", 12 * 512, 26 * 2 * 768, 0),
        ("ViT-B-16-quickgelu", 6_144, 39_936, 0),
        ("ViT-L-14-336", 12 * 768, 50 * 2 * 1024, 0),
        ("ViT-B-16-SigLIP", 12 * 768, 39_936, 0),
        ("ViT-B-16-SigLIP2", 9_216, 39_936, 0),
        ("ViT-SO400M-14-SigLIP", 27 * 1152, 129_024, 0),
        ("EVA02-B-16", 6_144, 38_400, 67_584),
        ("EVA02-L-14", 9_216, 100_352, 180_192),
        ("PE-Core-B-16", 24 * 1024, 41_472, 0),
        ("MobileCLIP-B", 6_144, 38_400, 0),
        ("MobileCLIP-S1", 6_144, None, 0),
        ("MobileCLIP2-S0", 6_144, None, 0),
        ("coca_ViT-B-32", 6_144, 41_984, 0),
        ("RN50", 6_144, None, 0),
    ],
)
def test_counts_are_those_of_the_architecture(name, biases, norms, subnorms):
    clip = clip_of(name)
    assert counted(clip, "text.ffn_proj_bias") == biases
    if norms is None:
        with pytest.raises(ValueError, match=f"has no LayerNorms; {NO_NORMS}"):
            select(clip, "image.layernorm")
    else:
        assert counted(clip, "image.layernorm") == norms
    if subnorms:
        assert counted(clip, "image.subnorm") == subnorms
    else:
        with pytest.raises(ValueError, match="has no LayerNorms inside attention or MLP"):
            select(clip, "image.subnorm")


@pytest.mark.parametrize(("name", "biases"), [("ViTamin-S", 12 * 384), ("convnext_base", 6_144)])
def test_counts_of_towers_whose_norms_nobody_published(name, biases):
    clip = clip_of(name)
    assert counted(clip, "text.ffn_proj_bias") == biases
    names = {}
    for group in ("image.layernorm", "image.subnorm") if name == "ViTamin-S" else ("image.layernorm",):
        chosen = select(clip, group)[group]
        print(f"{name}: {group} {count(chosen.values()):,} in {len(chosen)} tensors")
        names |= chosen
    norms = [one for one in clip.image_encoder.modules() if isinstance(one, torch.nn.LayerNorm)]
    assert len(names) == 2 * len(norms) > 0


def test_a_group_on_every_model_that_can_be_built_offline_has_no_attention_in_it():
    for name in ("EVA02-B-16", "PE-Core-B-16", "ViT-B-16-SigLIP", "coca_ViT-B-32"):
        clip = clip_of(name)
        for group in ("text.ffn_proj_bias", "image.ffn_proj_bias"):
            names = list(select(clip, group)[group])
            assert names and all(key.endswith(("mlp.c_proj.bias", "mlp.fc2.bias")) for key in names)
        assert not any("decoder" in key for key in select(clip, "text.all")["text.all"])
        assert not any("token_embedding" in key for key in select(clip, "text.all")["text.all"])
