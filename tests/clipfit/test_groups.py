"""Parameter groups: which parameters, how many values, in which order, and what is refused."""

import pytest

from clipfit.groups import count, select

BLOCKS = range(12)


def names(clip, group):
    return list(select(clip, [group])[group])


@pytest.mark.parametrize(
    "groups, values",
    [
        (["text.ffn_proj_bias"], 6_144),
        (["text.ffn_bias"], 30_720),
        (["text.bias"], 67_584),
        (["text.bias", "image.bias"], 168_960),
        (["image.layernorm"], 39_936),
        (["text.ffn_proj_bias", "image.layernorm"], 46_080),
        (["text.layernorm"], 25 * 2 * 512),
        (["image.layernorm[-6:]"], 9_216),
        (["text.layernorm", "image.layernorm"], 65_536),
        (["text.block_layernorm", "image.block_layernorm"], 61_440),
        (["text.module_bias", "image.module_bias"], 124_928),
        (["image.attn_in"], 12 * (3 * 768 * 768 + 3 * 768)),
        (["text.attn_out"], 12 * (512 * 512 + 512)),
        (["image.proj"], 768 * 512),
        (["text.proj"], 512 * 512),
        (["image.all"], 86_192_640),
        (["text.all"], 124_323_840 - 86_192_640),
    ],
)
def test_counts_on_vit_b16(vit_b16, groups, values):
    selection = select(vit_b16, groups)
    assert list(selection) == groups
    assert sum(count(parameters.values()) for parameters in selection.values()) == values


def test_clipfit_trains_these_64_tensors(vit_b16):
    selection = select(vit_b16, ["text.ffn_proj_bias", "image.layernorm"])
    assert list(selection["text.ffn_proj_bias"]) == [
        f"text_encoder.transformer.resblocks.{block}.mlp.c_proj.bias" for block in BLOCKS
    ]
    norms = [f"transformer.resblocks.{block}.ln_{which}" for block in BLOCKS for which in (1, 2)]
    assert list(selection["image.layernorm"]) == [
        f"image_encoder.{norm}.{kind}"
        for norm in ["ln_pre", *norms, "ln_post"]
        for kind in ("weight", "bias")
    ]
    for parameters in selection.values():
        for name, parameter in parameters.items():
            assert parameter is vit_b16.get_parameter(name)


def test_block_biases_leave_out_the_tower_s_own_norms(vit_b16):
    assert len(names(vit_b16, "text.bias")) == 12 * 6
    assert "text_encoder.ln_final.bias" not in names(vit_b16, "text.bias")
    assert "text_encoder.ln_final.bias" in names(vit_b16, "text.layernorm")


def test_block_layernorms_leave_out_the_tower_s_own_and_module_biases_the_packed_one(vit_b16):
    outer = {f"image_encoder.ln_{which}.{kind}" for which in ("pre", "post") for kind in ("weight", "bias")}
    assert set(names(vit_b16, "image.layernorm")) - set(names(vit_b16, "image.block_layernorm")) == outer
    biases = {name for name, _ in vit_b16.image_encoder.named_parameters() if name.endswith("bias")}
    packed = {f"transformer.resblocks.{block}.attn.in_proj_bias" for block in BLOCKS}
    left = {f"image_encoder.{name}" for name in biases - packed}
    assert set(names(vit_b16, "image.module_bias")) == left
    assert names(vit_b16, "image.proj") == ["image_encoder.proj"]
    assert names(vit_b16, "text.proj") == ["text_encoder.text_projection"]


@pytest.mark.parametrize(
    "layers, blocks",
    [
        ("[0]", [0]),
        ("[-1]", [11]),
        ("[0:3]", [0, 1, 2]),
        ("[:2]", [0, 1]),
        ("[10:]", [10, 11]),
        ("[-2:]", [10, 11]),
        ("[0:12]", list(BLOCKS)),
        ("[5, 0, 4:6]", [5, 0, 4]),
    ],
)
def test_layers_are_python_indices_of_blocks(vit_b16, layers, blocks):
    assert names(vit_b16, f"text.ffn_proj_bias{layers}") == [
        f"text_encoder.transformer.resblocks.{block}.mlp.c_proj.bias" for block in blocks
    ]


@pytest.mark.parametrize(
    "group, norm",
    [
        ("image.layernorm[0]", "image_encoder.ln_pre"),
        ("image.layernorm[11]", "image_encoder.transformer.resblocks.5.ln_1"),
        ("image.layernorm[25]", "image_encoder.ln_post"),
        ("text.layernorm[24]", "text_encoder.ln_final"),
    ],
)
def test_layernorms_count_in_forward_order(vit_b16, group, norm):
    assert names(vit_b16, group) == [f"{norm}.weight", f"{norm}.bias"]


def test_a_parameter_of_two_groups_appears_in_the_first(vit_b16):
    selection = select(vit_b16, ["text.ffn_proj_bias", "text.ffn_bias", "text.ffn_proj_bias"])
    assert {group: len(parameters) for group, parameters in selection.items()} == {
        "text.ffn_proj_bias": 12,
        "text.ffn_bias": 12,
    }


@pytest.mark.parametrize(
    "group, message",
    [
        ("text.ffn", "ffn_proj_bias, ffn_bias, bias, layernorm, subnorm, block_layernorm, .*proj or all"),
        ("audio.bias", "tower text or image"),
        ("text", "tower.kind"),
        ("text.bias[12]", "12 is out of range; there are 12 transformer blocks"),
        ("text.bias[-13]", "there are 12 transformer blocks"),
        ("text.bias[0:13]", "0:13 is out of range; there are 12 transformer blocks"),
        ("image.layernorm[26]", "there are 26 LayerNorms"),
        ("text.bias[3:3]", "3:3 names none of the 12"),
        ("text.bias[]", "no index or range"),
        ("text.bias[first]", "'first' is no index or range"),
        ("text.bias[5-6]", "'5-6' is no index or range"),
        ("text.bias[0:6:2]", "'0:6:2' is no index or range"),
        ("image.all[0]", "takes no layers"),
    ],
)
def test_wrong_groups_say_what_is_possible(vit_b16, group, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")) as error:
        select(vit_b16, [group])
    assert group in str(error.value)


@pytest.mark.parametrize("group", ["image.layernorm", "image.bias", "image.attn_in", "image.proj"])
def test_a_resnet_has_no_image_layernorm_and_the_error_offers_the_rest(rn50, group):
    with pytest.raises(ValueError, match="ResNet.*choose a ViT backbone.*text.ffn_proj_bias.*image.all"):
        select(rn50, [group])
    assert count(select(rn50, ["text.ffn_proj_bias"])["text.ffn_proj_bias"].values()) == 6_144
