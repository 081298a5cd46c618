"""Batches in parts, for GPUs with little memory: gradients of the whole batch, activations of one part at a time."""

import contextlib
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cytoforge.training.recipes.painting import frozen_statistics

CALLED = ("forward", "activations")  # what recipes call of a network


def compute_in_parts(network: nn.Module, parts: int) -> None:
    """Let a network compute every batch in so many parts, and each part again when gradients pass it.

    Losses see the outputs of the whole batch, so their gradients are those of the whole, of several updates in a step,
    too. Only batch norm, which normalises each part by its own statistics, and dropout differ.
    """
    for each in network if isinstance(network, nn.ModuleList) else (network,):
        for name in CALLED:
            if (call := getattr(each, name, None)) is not None:
                setattr(each, name, partial(_in_parts, each, call, parts))


def _in_parts(network: nn.Module, call: Callable[..., Any], parts: int, *inputs: Tensor) -> Any:
    pieces = zip(*(one.chunk(parts) for one in inputs), strict=True)
    if not torch.is_grad_enabled():
        return _joined([call(*piece) for piece in pieces])

    def again() -> Callable[..., Any]:
        """Return `call` for one part, of which batch norm notes the statistics only the first time."""
        times = count()

        def compute(*piece: Tensor) -> Any:
            with frozen_statistics(network) if next(times) else contextlib.nullcontext():
                return call(*piece)

        return compute

    return _joined([checkpoint(again(), *piece, use_reentrant=False) for piece in pieces])


def _joined(outputs: list[Any]) -> Any:
    """Join the outputs of parts: tensors (B, ...), or lists or named tuples of such."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    joined = [_joined(list(each)) for each in zip(*outputs, strict=True)]
    return joined if isinstance(first, list) else type(first)(*joined)
