"""A batch in shares: what depends on all of its items is the same for any number of processes.

Every process computes the losses of its own items, and the mean over the processes is what is learned from. That is
the loss of the whole batch if each has as many items and if whatever is computed over several of them is computed over
all: batch norm's statistics, and the sums of the segmentation losses (`Batch.total`). Process k of n has the items k,
k + n, k + 2n ... of a batch.
"""

from typing import Any, cast

import torch
from torch import Tensor


class _Everywhere(torch.autograd.Function):
    """Gathers a tensor from all processes; its gradient is the sum of what all of them made of it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, own.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> Tensor:
        total = gradients.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total[torch.distributed.get_rank()]


def everywhere(own: Tensor) -> Tensor:
    """Return the tensors (processes, ...) that all processes call this with, in the order of their ranks."""
    return cast(Tensor, _Everywhere.apply(own))  # type: ignore[no-untyped-call]
