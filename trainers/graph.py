"""TRAIN.CUDA_GRAPH: the forward and backward pass of a step as one launch.

A CUDA graph repeats the very kernels of one recorded pass on the tensors of that pass. Each batch is copied
into the recorded one; the gradients of the pass become those of the parameters, and optimizer, gradient
scaler and schedule do their part as ever. A batch of another shape, such as the last one of an epoch, takes
the step without the graph. The recipe is that of PyTorch's notes on CUDA graphs. No GPU has run this yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clipfit.modules.low_rank import draws
from dassl.engine import TrainerX
from dassl.utils import ranks

WARM_UP = 3  # passes before one is recorded, in which libraries make what they keep


class RecordedPass(NamedTuple):
    """What a pass leaves, in tensors that every repetition fills anew."""

    summary: dict[str, Tensor]
    losses: list[Tensor]  # to be found finite
    gradients: list[Tensor | None]  # of the trained parameters


def record(work: Callable[[], RecordedPass]) -> tuple[RecordedPass, Callable[[], None]]:
    """Record what `work` launches. Returns: what it leaves, and how to repeat it"""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # The loader's thread pins memory meanwhile, which concerns no tensor of the graph.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        left = work()
    return left, graph.replay


class GraphedStep:
    """Takes the steps of a CLIPTrainer, by a graph for batches of the shape that was seen twice first."""

    def __init__(self, trainer: TrainerX):
        self._trainer = trainer
        self._seen: set[tuple] = set()
        self._shape: tuple | None = None  # of the recorded batch

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One optimizer step, as `CLIPTrainer.step`."""
        trainer, shape = self._trainer, (images.shape, labels.shape)
        if self._shape is None and shape in self._seen:
            self._record(images, labels)
        if shape != self._shape:
            self._seen.add(shape)
            return trainer.step(images, labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._repeat()
        for parameter, gradient in zip(self._parameters, self._left.gradients, strict=True):
            parameter.grad = gradient
        for loss in self._left.losses:
            trainer.detect_anomaly(loss)
        trainer.model_update()
        return self._left.summary

    def _record(self, images: Tensor, labels: Tensor) -> None:
        self._parameters = list(self._trainer.trained_parameters().values())
        self._images, self._labels = images.clone(), labels.clone()
        self._left, self._repeat = record(self._pass)
        self._shape = images.shape, labels.shape

    def _pass(self) -> RecordedPass:
        """Forward and backward, without the optimizer's part."""
        for parameter in self._parameters:
            parameter.grad = None  # so that the backward pass makes gradients of its own
        with self._trainer.without_update() as losses:
            summary = self._trainer.step(self._images, self._labels)
        return RecordedPass(summary, losses, [parameter.grad for parameter in self._parameters])


def why_no_graph(trainer: TrainerX, plain: type[TrainerX]) -> str:
    """Why the steps of a trainer are no graph; empty if they can be one. Args: plain, CLIPTrainer"""
    for method in ("forward_backward", "model_update"):
        if getattr(type(trainer), method) is not getattr(plain, method):
            return f"takes its steps in a way of its own ({method})"
    if not trainer.static_steps:
        return "does not compute the same in every step"
    if draws(trainer.model):
        return "draws random numbers in its steps"
    if trainer.cfg.FEATURES.STORE:
        return "looks up image features on the host (FEATURES.STORE)"
    if ranks.size() > 1:
        return "shares its batches with other ranks"
    if trainer.device.type != "cuda":
        return f"runs on a {trainer.device.type.upper()}, and graphs are for GPUs"
    return ""
