"""CLIPFit against the paper's formulas, written out plainly: two text passes, 77 tokens, nothing cached."""

import copy

import pytest
import torch
from torch.nn import functional as F

from clipfit import loading
from clipfit.modules import convert_weights
from clipfit.prompts import fill, tokenize
from dassl.utils import load_checkpoint, save_checkpoint
from tests.trainers.plain import LR, SGD, plain_clip, rate, record_training, unit


class PlainCLIPFit:
    """The method from its formulas over OpenAI's whole model: encode_text reads all 77 tokens."""

    def __init__(self, model, names, beta, regularizer):
        self.model, self.beta, self.regularizer = model, beta, regularizer
        self.teacher = copy.deepcopy(model)
        self.tokens = tokenize(fill("a photo of a {}.", names), names)
        model.requires_grad_(False)
        self.biases = [block.mlp.c_proj.bias for block in model.transformer.resblocks]
        self.start = [bias.clone() for bias in self.biases]
        norms = [m for m in model.visual.modules() if isinstance(m, torch.nn.LayerNorm)]
        self.trained = [*self.biases, *(p for norm in norms for p in norm.parameters())]
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def loss(self, images, labels):
        image = self.model.encode_image(images)
        text = self.model.encode_text(self.tokens)
        logits = (self.model.logit_scale.exp() * unit(image)) @ unit(text).t()
        loss = F.cross_entropy(logits, labels)
        if self.regularizer == "kd":
            again = self.model.encode_text(self.tokens)
            with torch.no_grad():
                teacher = self.teacher.encode_text(self.tokens)
            return loss + self.beta * (1 - (unit(again) * unit(teacher)).sum(dim=-1).mean())
        if self.regularizer == "mse":
            return loss + self.beta * sum(
                ((b - b0) ** 2).sum() for b, b0 in zip(self.biases, self.start, strict=True)
            ) / len(self.biases)
        return loss


@pytest.mark.parametrize("regularizer, beta", [("kd", 8.0), ("mse", 5.0), ("none", 8.0)])
def test_the_loss_follows_the_formulas_step_by_step(regularizer, beta, build, small_clip):
    epochs = 4
    trainer = build(
        *("CLIPFit", "--backbone=" + str(small_clip), "OPTIM.MAX_EPOCH", epochs, "OPTIM.LR", LR),
        *("TRAINER.CLIPFIT.REGULARIZER", regularizer, "TRAINER.CLIPFIT.BETA", beta),
    )
    steps, summaries = record_training(trainer)

    plain = PlainCLIPFit(plain_clip(small_clip), trainer.dm.dataset.classnames, beta, regularizer)
    sgd, expected = SGD(plain.trained), []
    for epoch, images, labels in steps:
        loss = plain.loss(images, labels)
        sgd.step(torch.autograd.grad(loss, plain.trained), rate(epoch, epochs))
        expected.append(loss.item())
    losses = [summary["loss"] for summary in summaries]
    assert len(losses) == 4 * 5
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0]
    for parameter, mine in zip(plain.biases, _text_biases(trainer), strict=True):
        torch.testing.assert_close(mine, parameter, rtol=1e-4, atol=1e-6)


def _text_biases(trainer):
    return [block.mlp.c_proj.bias for block in trainer.clip.text_encoder.transformer.resblocks]


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("amp", 0.02), ("fp16", 0.02)])
@pytest.mark.parametrize("regularizer", ["kd", "mse"])
def test_every_precision_optimises_the_same_loss(precision, tolerance, regularizer, build, small_clip):
    """Away from the start, where the regulariser is not zero and large against the tolerance."""
    beta = 100.0
    trainer = build(
        *("CLIPFit", "--backbone=" + str(small_clip), "TRAINER.CLIPFIT.PREC", precision),
        *("TRAINER.CLIPFIT.REGULARIZER", regularizer, "TRAINER.CLIPFIT.BETA", beta),
    )
    plain = PlainCLIPFit(plain_clip(small_clip), trainer.dm.dataset.classnames, beta, regularizer)
    torch.manual_seed(3)
    with torch.no_grad():
        for mine, reference in zip(_text_biases(trainer), plain.biases, strict=True):
            shift = 0.05 * torch.randn_like(reference)
            mine += shift.to(mine.dtype)
            reference += shift
    batch = next(iter(trainer.train_loader_x))
    with trainer.autocast():
        loss, _ = trainer.loss(batch["img"], batch["label"])
    expected = plain.loss(batch["img"], batch["label"]).item()
    plain.regularizer = "none"
    assert expected - plain.loss(batch["img"], batch["label"]).item() > 0.5  # the term is there to be seen
    assert loss.item() == pytest.approx(expected, rel=tolerance)


def test_an_fp16_teacher_gives_the_original_codes_kd_term(build, small_clip):
    trainer = build("CLIPFit", "--backbone=" + str(small_clip), "TRAINER.CLIPFIT.TEACHER_PREC", "fp16")
    half = plain_clip(small_clip)
    names = trainer.dm.dataset.classnames
    tokens = tokenize(fill("a photo of a {}.", names), names)
    student = unit(half.encode_text(tokens))
    convert_weights(half)
    teacher = unit(half.encode_text(tokens))
    assert teacher.dtype == torch.float16
    expected = 1 - F.cosine_similarity(student, teacher, eps=1e-7).mean()
    assert trainer.regularizer(trainer.text_features()).item() == pytest.approx(expected.item(), abs=2e-4)
    assert trainer.w0.dtype == torch.float16


def test_clipfit_trains_46080_numbers_in_64_tensors_of_vit_b16(
    build, shared_random_weights, tmp_path, capsys
):
    trainer = build("CLIPFit", "--backbone=random:ViT-B/16")
    expected = {f"text_encoder.transformer.resblocks.{i}.mlp.c_proj.bias": (512,) for i in range(12)}
    norms = ["ln_pre", "ln_post", *(f"transformer.resblocks.{i}.ln_{n}" for i in range(12) for n in (1, 2))]
    expected |= {f"image_encoder.{norm}.{kind}": (768,) for norm in norms for kind in ("weight", "bias")}
    assert {name: tuple(p.shape) for name, p in trainer.trained_parameters().items()} == expected
    printed = capsys.readouterr().out
    assert "text.ffn_proj_bias: 6,144 parameters in 12 tensors" in printed
    assert "image.layernorm: 39,936 parameters in 52 tensors" in printed
    assert "Training 46,080 of 149,620,737 parameters" in printed

    for parameter in trainer.trained_parameters().values():
        parameter.grad = torch.zeros_like(parameter)
    trainer.model_update()  # gives the optimizer its momentum buffers
    trainer.save_model(0, tmp_path)
    path = tmp_path / "prompt_learner/model.pth.tar-1"
    assert path.stat().st_size < 1e6
    assert load_checkpoint(path)["state_dict"].keys() == expected.keys()


@pytest.mark.parametrize("bias", ["text.ffn_bias", "text.bias"])
def test_other_groups_train_what_their_names_say(bias, build, small_clip):
    trainer = build("CLIPFit", "--backbone=" + str(small_clip), "TRAINER.CLIPFIT.UNFREEZE", f"['{bias}']")
    per_block = {"text.ffn_bias": 256 + 64, "text.bias": 256 + 64 + 192 + 64 + 2 * 64}[bias]
    assert sum(p.numel() for p in trainer.trained_parameters().values()) == 3 * per_block


def test_a_checkpoint_of_the_original_repository_is_accepted(build, small_clip, tmp_path):
    """It holds both towers whole; the trained tensors are taken, the frozen ones left alone."""
    trainer = build("CLIPFit", "--backbone=" + str(small_clip))
    towers = {
        name: tensor + 1
        for name, tensor in trainer.clip.state_dict().items()
        if name.startswith(("image_encoder.", "text_encoder."))
    }
    save_checkpoint({"state_dict": towers, "epoch": 100}, tmp_path / "prompt_learner")
    frozen = trainer.clip.text_encoder.text_projection.clone()
    trainer.load_model(tmp_path, epoch=100)
    for name, parameter in trainer.trained_parameters().items():
        assert torch.equal(parameter, towers[name])
    assert torch.equal(trainer.clip.text_encoder.text_projection, frozen)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("image_encoder.ln_pre.weight"), "image_encoder.ln_pre.weight is missing"),
        (lambda s: s.update({"image_encoder.ln_pre.wieght": torch.ones(64)}), "ln_pre.wieght is unknown"),
        (
            lambda s: s.update({"image_encoder.ln_pre.weight": torch.ones(9)}),
            r"has shape \(9,\), not \(64,\)",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(change, message, build, small_clip):
    trainer = build("CLIPFit", "--backbone=" + str(small_clip))
    state = {name: p + 1 for name, p in trainer.model_state("prompt_learner").items()}
    before = {name: p.clone() for name, p in trainer.model_state("prompt_learner").items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        trainer.load_model_state("prompt_learner", state)
    assert all(torch.equal(p, before[name]) for name, p in trainer.model_state("prompt_learner").items())


def test_the_class_text_features_are_computed_once_per_test(build, small_clip):
    trainer = build("CLIPFit", "--backbone=" + str(small_clip))
    passes = []
    trainer.clip.text_encoder.register_forward_hook(lambda *_: passes.append(1))
    trainer.test()
    assert len(trainer.test_loader) > 1 and len(passes) == 1


@pytest.mark.parametrize(
    "pairs, message",
    [
        (["TRAINER.CLIPFIT.REGULARIZER", "l2"], "REGULARIZER is 'l2'; choose kd, mse or none"),
        (["TRAINER.CLIPFIT.TEACHER_PREC", "bf16"], "TEACHER_PREC is 'bf16'; choose same or fp16"),
        (["TRAINER.CLIPFIT.PREC", "fp8"], "PREC is 'fp8'; choose auto, fp32, amp, fp16"),
        (["TRAINER.AMP_DTYPE", "fp8"], "AMP_DTYPE is 'fp8'; choose fp16 or bf16"),
        (["TRAINER.CLIPFIT.UNFREEZE", "['text.biases']"], "text.biases"),
        (
            ["TRAINER.CLIPFIT.UNFREEZE", "['image.layernorm']", "TRAINER.CLIPFIT.REGULARIZER", "mse"],
            "trains none; add text.ffn_proj_bias",
        ),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(pairs, message, build, small_clip):
    with pytest.raises(ValueError, match=message):
        build("CLIPFit", "--backbone=" + str(small_clip), *pairs)


def test_random_weights_are_the_same_in_every_process():
    a, b = (loading.load_clip("random:ViT-B/32").logit_scale.item() for _ in range(2))
    assert a == b
