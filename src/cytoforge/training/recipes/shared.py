"""Layers of networks that compute a share of a batch as they would compute the whole (`samplers.shares`)."""

from typing import cast

import torch
from torch import Tensor, nn

from cytoforge.training.samplers.shares import everywhere


def share(network: nn.Module) -> None:
    """Let batch norm and dropout of a network do to this process's items what they would do in the whole batch."""
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SharedBatchNorm
        elif type(layer) is nn.Dropout:
            layer.__class__ = SharedDropout


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the whole batch; torch's `SyncBatchNorm` is faster, but computes on GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        found = everywhere(torch.stack(torch.var_mean(values, dim=(0, 2, 3), correction=0)))
        variances, means = found.unbind(dim=1)
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        with torch.no_grad():
            number, momentum = len(means) * values[:, 0].numel(), cast(float, self.momentum)
            cast(Tensor, self.running_mean).lerp_(mean, momentum)
            cast(Tensor, self.running_var).lerp_(variance * number / (number - 1), momentum)
            cast(Tensor, self.num_batches_tracked).add_(1)
        gain = self.weight * (variance + self.eps).rsqrt()
        normed = (values - mean[:, None, None]) * gain[:, None, None] + self.bias[:, None, None]
        return normed.to(x.dtype)


class SharedDropout(nn.Dropout):
    """Dropout by the draws of the whole batch, which all processes make alike from torch's global generator."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop a share p of the elements of (B, ...), and divide the others by 1 - p."""
        if not self.training:
            return x
        rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        kept = x.new_empty((processes * len(x), *x.shape[1:])).bernoulli_(1 - self.p)
        return x * kept[rank::processes].div_(1 - self.p)
