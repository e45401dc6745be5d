"""ProGrad against its formulas, written out plainly: a teacher of its own, 77 tokens, gradients by hand."""

import copy
from pathlib import Path

import pytest
import torch

from clipfit import tokenizer
from clipfit.prompts import fill
from dassl.utils import read_json
from tests.trainers.plain import LR, SGD, embed, encode, logits, plain_clip, rate, record_training

AUGMENTED = "('random_resized_crop', 'random_flip', 'normalize')"
TEMPLATE = "a type of pet, a photo of a {}."


class PlainProGrad:
    def __init__(self, model, names, template, zeros, words, temperature=1.0):
        """The context: `zeros` zero rows, then the embeddings of the first `words` tokens of the template."""
        self.model, self.teacher, self.temperature = model, copy.deepcopy(model), temperature
        start = " ".join(["X"] * zeros + [template.format("")[:-2]])
        self.tokens, rows = embed(model, [f"{start} {name}." for name in names])
        length = zeros + words
        self.start, self.rest = rows[:, :1], rows[:, 1 + length :]
        self.ctx = rows[0, 1 : 1 + length].clone()
        self.ctx[:zeros] = 0
        tokens, rows = embed(self.teacher, fill(template, names))
        self.text = encode(self.teacher, rows, tokens)

    def losses(self, images, labels):
        context = self.ctx.expand(len(self.tokens), -1, -1)
        text = encode(self.model, torch.cat([self.start, context, self.rest], dim=1), self.tokens)
        z = logits(self.model, images, text)
        with torch.no_grad():
            target = torch.softmax(logits(self.teacher, images, self.text) / self.temperature, dim=-1)
        a = -torch.log_softmax(z, dim=-1)[torch.arange(len(labels)), labels].mean()
        log_q = torch.log_softmax(z / self.temperature, dim=-1)
        return a, self.temperature**2 * -(target * log_q).sum(dim=-1).mean()


def surgery(g_a, g_b, strength):
    """The step's gradient, and whether the two conflict."""
    u = g_b / g_b.norm()
    if (g_a / g_a.norm() * u).sum() < 0:
        return g_a - strength * (g_a * u).sum() * u, True
    return g_a, False


def prograd(build, small_clip, *words):
    pairs = ("OPTIM.LR", LR, "DATASET.PROMPT_TEMPLATE", TEMPLATE, "TRAINER.COOP.N_CTX", 10, *words)
    return build("ProGrad", "--backbone=" + str(small_clip), *pairs)


@pytest.mark.parametrize("strength, temperature", [(1.0, 1.0), (0.8, 2.0)])
def test_losses_and_steps_follow_the_formulas(strength, temperature, build, small_clip):
    epochs = 4
    pairs = ("OPTIM.MAX_EPOCH", epochs, "LOSS.LAMBDA", strength, "LOSS.T", temperature)
    trainer = prograd(build, small_clip, *pairs)
    names = trainer.classnames
    steps, summaries = record_training(trainer)

    plain = PlainProGrad(plain_clip(small_clip), names, TEMPLATE, 2, 8, temperature)
    plain.ctx.requires_grad_(True)
    sgd, expected, conflicts = SGD([plain.ctx]), [], 0
    for epoch, images, labels in steps:
        a, b = plain.losses(images, labels)
        g_a = torch.autograd.grad(a, plain.ctx, retain_graph=True)[0]
        gradient, conflict = surgery(g_a, torch.autograd.grad(b, plain.ctx)[0], strength)
        sgd.step([gradient], rate(epoch, epochs))
        expected.append((a.item(), b.item()))
        conflicts += conflict
    assert 0 < conflicts < len(steps)
    assert [s["loss"] for s in summaries] == pytest.approx([a for a, _ in expected], rel=1e-5)
    assert [s["kl_loss"] for s in summaries] == pytest.approx([b for _, b in expected], rel=1e-5)
    torch.testing.assert_close(trainer.model.ctx, plain.ctx, rtol=1e-4, atol=1e-6)


def test_a_worked_example_of_the_surgery():
    example = read_json(Path(__file__).parents[1] / "fixtures/prograd_update.json")
    for result in example["results"]:
        for name, expected in result["final_grad"].items():
            g_a, g_b = (torch.tensor(example[side][name]) for side in ("grad_a", "grad_b"))
            gradient, _ = surgery(g_a, g_b, result["lambda"])
            torch.testing.assert_close(gradient, torch.tensor(expected), rtol=0, atol=1e-6)


def test_the_gradient_scaler_does_not_change_the_step(build, small_clip):
    """amp in bf16 has no scaler, amp in fp16 has one: both step alike, with the surgery at work."""
    moved = []
    for dtype in ("bf16", "fp16"):
        pairs = ("TRAINER.COOP.PREC", "amp", "TRAINER.AMP_DTYPE", dtype, "LOSS.LAMBDA", 1.0)
        trainer = prograd(build, small_clip, *pairs, "OPTIM.WARMUP_EPOCH", -1, "OPTIM.LR", 0.1)
        before = trainer.model.ctx.detach().clone()
        trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
        batch = next(iter(trainer.train_loader_x))
        while torch.equal(trainer.model.ctx, before):  # the first scale may be too high
            trainer.forward_backward(batch)
        moved.append(trainer.model.ctx.detach() - before)
    assert torch.cosine_similarity(moved[0].flatten(), moved[1].flatten(), dim=0) > 0.98
    assert moved[1].norm() == pytest.approx(moved[0].norm().item(), rel=0.05)


HALF = ("TRAINER.COOP.PREC", "amp", "TRAINER.AMP_DTYPE", "fp16", "OPTIM.WARMUP_EPOCH", -1, "OPTIM.LR", 0.1)
SHORT = (
    "DATASET.NUM_SHOTS",
    2,
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    10,
    "OPTIM.MAX_EPOCH",
    8,
    "TEST.NO_TEST",
    True,
)


def scaled_gradients(trainer, batch):
    """Gradients of both losses to the context under the scaler's factor, and that factor."""
    factor = trainer.scaler.scale(torch.ones(()))
    with trainer.autocast():
        a, b, _ = trainer.losses(batch["img"], batch["label"], trainer.text_features())
    gradients = (torch.autograd.grad(factor * x, trainer.model.ctx, retain_graph=True)[0] for x in (a, b))
    return *gradients, factor


def test_an_overflow_of_the_general_loss_alone_skips_the_step_and_lowers_the_scale(build, small_clip):
    trainer = prograd(build, small_clip, *HALF, *SHORT, "LOSS.T", 8.0)
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
    before, batch = trainer.model.ctx.detach().clone(), next(iter(trainer.train_loader_x))
    g_a, g_b, factor = scaled_gradients(trainer, batch)
    assert g_a.isfinite().all() and not g_b.isfinite().all()
    trainer.forward_backward(batch)
    assert torch.equal(trainer.model.ctx, before) and trainer.scaler.get_scale() == factor / 2
    trainer.forward_backward(batch)
    assert trainer.model.ctx.isfinite().all() and not torch.equal(trainer.model.ctx, before)


def test_under_amp_each_step_is_the_surgery_of_unscaled_gradients_at_any_temperature(
    build, small_clip, tmp_path
):
    contexts = []
    for temperature in (8.0, 32.0):
        pairs = ("LOSS.T", temperature, "LOSS.LAMBDA", 0.8, f"--output-dir={tmp_path / str(temperature)}")
        trainer = prograd(build, small_clip, *HALF, *SHORT, *pairs)
        stepped, expected = [], []
        trainer.optim.register_step_pre_hook(
            lambda *_, t=trainer, s=stepped: s.append(t.model.ctx.grad.clone())
        )
        step = trainer.forward_backward

        def forward_backward(batch, trainer=trainer, expected=expected, step=step):
            g_a, g_b, factor = scaled_gradients(trainer, batch)
            if g_a.isfinite().all() and g_b.isfinite().all():
                expected.append(surgery(g_a / factor, g_b / factor, 0.8))
            return step(batch)

        trainer.forward_backward = forward_backward
        trainer.train()
        assert 0 < sum(conflict for _, conflict in expected) < len(expected) < 16
        for mine, (gradient, _) in zip(stepped, expected, strict=True):
            torch.testing.assert_close(mine, gradient, rtol=1e-4, atol=1e-7)
        assert trainer.skipped_steps == 16 - len(expected)
        contexts.append(trainer.model.ctx)
    assert not torch.equal(*contexts)


def test_the_context_starts_from_the_template_that_the_prompt_ends_with(build, small_clip):
    """ "pet," is one word and two tokens: the last "a" does not fit and stands fixed before the name."""
    trainer = prograd(build, small_clip, "TRAINER.COOP.N_CTX", 16)
    assert trainer.model.ctx.shape == (16, 64)
    assert not trainer.model.ctx[:8].any()
    ids = torch.tensor(tokenizer.encode("a type of pet, a photo of a"))
    assert len(ids) == 9
    assert torch.equal(trainer.model.ctx[8:], trainer.clip.token_embedding.weight[ids[:8]])
    shared = trainer.context_prompts.fill(trainer.model.ctx).prefix  # start, context, "a"
    assert len(shared) == 18 and torch.equal(shared[17], trainer.clip.token_embedding.weight[ids[8]])


def test_layernorm_updating_does_not_move_the_teacher(build, small_clip):
    """The student's image features change; the teacher's must not."""
    trainer = prograd(build, small_clip, "TRAINER.UPDATE_LAYERNORM", "True", "OPTIM.MAX_EPOCH", 3)
    before = {n: p.detach().clone() for n, p in trainer.trained_parameters().items()}
    trainer.train()
    assert not any(torch.equal(p, before[name]) for name, p in trainer.trained_parameters().items())

    plain = PlainProGrad(plain_clip(small_clip), trainer.classnames, TEMPLATE, 2, 8)
    student = {n.removeprefix("image_encoder."): p for n, p in trainer.trained_parameters().items()}
    plain.ctx = student.pop("ctx")
    plain.model.visual.load_state_dict({**plain.model.visual.state_dict(), **student})
    batch = next(iter(trainer.train_loader_x))
    a, b, _ = trainer.losses(batch["img"], batch["label"], trainer.text_features())
    expected_a, expected_b = plain.losses(batch["img"], batch["label"])
    assert a.item() == pytest.approx(expected_a.item(), rel=1e-5)
    assert b.item() == pytest.approx(expected_b.item(), rel=1e-5)


def test_what_trains_on_vit_b16(build, shared_random_weights, capsys):
    trainer = build("ProGrad", "--backbone=random:ViT-B/16")
    assert {name: tuple(p.shape) for name, p in trainer.trained_parameters().items()} == {"ctx": (16, 512)}
    assert "Training 8,192 of" in capsys.readouterr().out


@pytest.mark.parametrize(
    "pairs, message",
    [
        (["LOSS.NAME", "ce"], "LOSS.NAME is 'ce'; ProGrad knows only 'prograd'"),
        (["LOSS.T", 0.0], "LOSS.T is 0.0"),
        (["TRAINER.COOP.N_CTX", 7], "N_CTX is 7.*8 words.*choose at least 8"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(pairs, message, build, small_clip):
    with pytest.raises(ValueError, match=message):
        prograd(build, small_clip, *pairs)
