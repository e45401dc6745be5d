"""What the ranks of a run (ranks.py) exchange in a step: gradients, features of classes, loss summaries.

In a run of one process everything is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Number

import torch
from torch import Tensor
from torch import distributed as dist

from dassl.utils import ranks

_passes = 0  # backward passes whose gradients were summed over the ranks


def backward(loss: Tensor, what_trains: Callable[[], Sequence[Tensor]], retain_graph: bool = False) -> None:
    """Add the gradients of the whole batch's loss to those of the parameters.

    Args: loss, of this rank's part of the batch; what_trains, gives all parameters that train, the same on
          every rank; a run of one process does not ask
    """
    global _passes
    if ranks.size() == 1:
        loss.backward(retain_graph=retain_graph)
        return
    parameters = what_trains()
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    (loss * ranks.weight()).backward(retain_graph=retain_graph)
    add_up([parameter.grad for parameter in parameters if parameter.grad is not None])
    for parameter, old in zip(parameters, before, strict=True):
        if old is not None:
            parameter.grad = old if parameter.grad is None else old + parameter.grad
    _passes += 1


def passes() -> int:
    """How many backward passes have been shared so far."""
    return _passes


class GatherRows(torch.autograd.Function):
    """All rows (count, ...) of which each rank has computed its `part`, on every rank.

    A row's gradients are those of the ranks' losses, which are weighted. They are added up on the rank that
    computed the row, so that the sum over the ranks of a parameter's gradients counts each of them once.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, count: int) -> Tensor:
        ctx.own = own = ranks.part(count)
        every = rows.new_zeros(count, *rows.shape[1:])
        every[own.start : own.stop] = rows
        add_up([every])
        return every

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        add_up([gradient])
        return gradient[ctx.own.start : ctx.own.stop], None


def means(summary: Mapping | None, number: int = 0) -> tuple[Mapping | None, int]:
    """The loss summary of the whole batch from those of the ranks, and the largest of their numbers (from 0).

    What is neither a number nor a tensor in a summary stays.
    """
    if ranks.size() == 1:
        return summary, number
    found = summary if isinstance(summary, Mapping) else {}
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    numbers = {name: float(value) for name, value in found.items() if isinstance(value, Number)}
    largest = torch.zeros(ranks.size(), dtype=torch.float64)
    largest[ranks.rank()] = number
    message = torch.cat([ranks.weight() * torch.tensor([*numbers.values()], dtype=torch.float64), largest])
    of_tensors = [ranks.weight() * value.detach().double() for value in tensors.values()]
    add_up([message, *of_tensors])
    of_numbers, largest = message.split([len(numbers), len(largest)])
    of_batch = {
        **found,
        **dict(zip(numbers, of_numbers.tolist(), strict=True)),
        **dict(zip(tensors, of_tensors, strict=True)),
    }
    return (of_batch if isinstance(summary, Mapping) else summary), int(largest.max())


def rows_of_all(parts: Sequence[tuple[Tensor, ranks.Share | None]]) -> Tensor:
    """All rows (N, ...) of some batches, of each of which this rank has a part.

    Args: parts, rows (n, ...) of each batch, and which part of it they are: None in a run of one process
    """
    if ranks.size() == 1:
        return torch.cat([rows for rows, _ in parts])
    every = []
    for rows, own in parts:
        batch = rows.new_zeros(own.count, *rows.shape[1:])
        holders = len(rows) / (own.count * own.weight)  # where pictures are fewer than ranks, some share one
        batch[own.start : own.stop] = rows / holders
        every.append(batch)
    every = torch.cat(every)
    add_up([every])
    return every


def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors with those of rank 0."""
    if ranks.size() == 1:
        return
    ranks.check(count=len(tensors))
    with ranks.none_lost(), torch.no_grad():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


@torch.no_grad()
def add_up(tensors: Sequence[Tensor]) -> None:
    """Let every rank have the sums over the ranks, in place; one message for each kind of tensor."""
    ranks.check(count=len(tensors))
    kinds: dict[tuple, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    with ranks.none_lost():
        for some in kinds.values():
            flat = torch.cat([one.reshape(-1) for one in some])
            dist.all_reduce(flat)
            for one, values in zip(some, flat.split([one.numel() for one in some]), strict=True):
                one.copy_(values.view_as(one))
