"""The slow, obvious computation that methods are tested against.

77 tokens through OpenAI's whole model (clipfit/modules/), nothing cached, shared or cut; SGD and the
schedule from their formulas.
"""

import math

import torch

from clipfit.modules import OpenAIModel
from clipfit.prompts import tokenize

LR, MOMENTUM, DECAY = 0.002, 0.9, 5e-4


def plain_clip(path) -> OpenAIModel:
    """The tests' small CLIP as OpenAI's whole model, frozen."""
    model = OpenAIModel(32, 48, 3, 64, 8, 77, 49_408, 64, 1, 3)
    model.load_state_dict(torch.load(path))
    return model.eval().requires_grad_(False)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def embed(model, texts):
    """Token ids and their embeddings (K, 77, W)."""
    tokens = tokenize(texts, texts)
    return tokens, model.token_embedding(tokens)


def encode(model, embedded, tokens):
    """Unit features (K, D) of embedded prompts (K, 77, W), read at the EOT positions of `tokens`."""
    x = (embedded + model.positional_embedding).permute(1, 0, 2)
    x = model.ln_final(model.transformer(x).permute(1, 0, 2))
    return unit(x[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ model.text_projection)


def logits(model, images, text):
    return (model.logit_scale.exp() * unit(model.encode_image(images))) @ unit(text).t()


def text_with_tokens(model, rows, tokens, ctx, deep):
    """Unit features (K, D) of embedded prompts (K, 77, W), whose positions 1..M are ctx (M, W).

    Before the blocks 1, 2, ... their hidden states are those of deep (J, M, W).
    """
    classes, n = len(rows), len(ctx)
    x = torch.cat([rows[:, :1], ctx.expand(classes, -1, -1), rows[:, 1 + n :]], dim=1)
    x = x + model.positional_embedding
    mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
    for i, block in enumerate(model.transformer.resblocks):
        if 1 <= i <= len(deep):
            x = torch.cat([x[:, :1], deep[i - 1].expand(classes, -1, -1), x[:, 1 + n :]], dim=1)
        x = block(x.permute(1, 0, 2), mask=mask).permute(1, 0, 2)
    return unit(model.ln_final(x)[torch.arange(classes), tokens.argmax(dim=-1)] @ model.text_projection)


def image_with_tokens(model, images, prompts):
    """Unit features (B, D) of images with prompts[0] behind the patches, then prompts[1] and so on."""
    visual, count, n = model.visual, len(images), prompts[0].shape[0]
    patches = visual.conv1(images).flatten(2).permute(0, 2, 1)
    x = torch.cat([visual.class_embedding.expand(count, 1, -1), patches], dim=1)
    x = x + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, prompts[0].expand(count, -1, -1)], dim=1))
    for i, block in enumerate(visual.transformer.resblocks):
        if 1 <= i < len(prompts):
            x = torch.cat([x[:, :-n], prompts[i].expand(count, -1, -1)], dim=1)
        x = block(x.permute(1, 0, 2)).permute(1, 0, 2)
    return unit(visual.ln_post(x[:, 0]) @ visual.proj)


class SGD:
    """Momentum 0.9 and coupled weight decay, over a list of tensors."""

    def __init__(self, tensors):
        self.tensors, self.buffers = tensors, [None] * len(tensors)

    def step(self, gradients, lr):
        with torch.no_grad():
            for i, (tensor, gradient) in enumerate(zip(self.tensors, gradients, strict=True)):
                d = gradient + DECAY * tensor
                self.buffers[i] = d if self.buffers[i] is None else MOMENTUM * self.buffers[i] + d
                tensor -= lr * self.buffers[i]


def rate(epoch, max_epoch):
    """One warm-up epoch at 1e-5, then half a cosine that counts from the warm-up's end."""
    return 1e-5 if epoch == 0 else LR / 2 * (1 + math.cos(math.pi * (epoch - 1) / max_epoch))


def record_training(trainer):
    """Train; return what each step saw (epoch, images, labels) and its summary, in numbers."""
    steps, summaries = [], []
    original = trainer.forward_backward

    def recording(batch):
        summary = original(batch)
        summaries.append({name: value.item() for name, value in summary.items()})
        steps.append((trainer.epoch, batch["img"].clone(), batch["label"].clone()))
        return summary

    trainer.forward_backward = recording
    trainer.train()
    return steps, summaries
