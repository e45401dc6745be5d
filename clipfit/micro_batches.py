"""The loss of a batch a few images at a time, so that the backward pass needs little at once.

A loss that is a mean over the images of a batch is a sum of means over parts of it, and so is its gradient.
Each part is taken back through the image tower at once; what the parts say about the text features, which all
of them share, is added up and goes back through the text tower once, when the caller takes the loss back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Losses = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


def mean_losses(
    losses: Losses,
    images: Tensor,
    labels: Tensor,
    w: Tensor,
    trained: Sequence[Tensor],
    most: int,
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> tuple[Tensor, ...]:
    """`losses(images, labels, w)`, of at most so many images at a time.

    Args:    losses (images (B, ...), labels (B,), w) -> one or more means over the images, then their logits
             (B, K); w, text features, which no image changes; trained, every tensor that trains; scaled, what
             a gradient scaler does to a loss
    Returns: the losses of the whole batch, to be taken back as always, and its logits. Those of a batch in
             parts carry no gradient.
    """
    if len(images) <= most:
        return losses(images, labels, w)
    size = math.ceil(len(images) / math.ceil(len(images) / most))
    leaf = w.detach().requires_grad_(w.requires_grad)
    inputs = [tensor for tensor in (leaf, *trained) if tensor.requires_grad]
    sums, all_logits = None, []
    for some, truth in zip(images.split(size), labels.split(size), strict=True):
        *means, logits = losses(some, truth, leaf)
        sums = sums or [_Sum(inputs) for _ in means]
        for number, (mean, one) in enumerate(zip(means, sums, strict=True), start=1):
            one.add(mean * (len(some) / len(images)), scaled, keep_graph=number < len(means))
        all_logits.append(logits.detach())
    scale = scaled(w.new_ones((), dtype=torch.float32))
    known = [w if tensor is leaf else tensor for tensor in inputs]
    return *(one.loss(known, scale) for one in sums), torch.cat(all_logits)


class _Sum:
    """A loss and its gradients, as far as they are added up."""

    def __init__(self, inputs: list[Tensor]):
        self.inputs, self.value, self.gradients = inputs, 0.0, [None] * len(inputs)

    def add(self, part: Tensor, scaled: Callable[[Tensor], Tensor], keep_graph: bool) -> None:
        """Take a part of the loss back, in the precision of its forward pass."""
        self.value = self.value + part.detach()
        if not torch.is_grad_enabled():
            return
        with torch.autocast(part.device.type, enabled=False):
            gradients = torch.autograd.grad(
                scaled(part), self.inputs, retain_graph=keep_graph, allow_unused=True
            )
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                before = self.gradients[number]
                self.gradients[number] = gradient if before is None else before + gradient

    def loss(self, inputs: list[Tensor], scale: Tensor) -> Tensor:
        """The loss as a function of the tensors that its parts have read."""
        if not torch.is_grad_enabled():
            return self.value
        read = [
            (tensor, gradient)
            for tensor, gradient in zip(inputs, self.gradients, strict=True)
            if gradient is not None
        ]
        tensors, gradients = zip(*read, strict=True)
        return _Known.apply(self.value, [gradient / scale for gradient in gradients], *tensors)


class _Known(torch.autograd.Function):
    """A loss of tensors whose gradients have been computed already."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: list[Tensor], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, factor: Tensor) -> tuple:
        return None, None, *(factor * gradient for gradient in ctx.gradients)
