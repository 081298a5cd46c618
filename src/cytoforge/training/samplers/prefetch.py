"""Batches made in the background while a GPU computes."""

from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch

from cytoforge.training.samplers.items import Batch, Sampler


class Prefetched(Sampler):
    """A sampler that makes the next steps' batches in threads, one in each, bit for bit those that it would make then.

    The progress of later steps is not known yet where the budget is a time; if the plan of one turns out otherwise than
    expected, its batch is made anew.
    """

    def __init__(self, sampler: Sampler, threads: int = 1) -> None:
        self.sampler, self.threads = sampler, threads
        alone = partial(torch.set_num_threads, 1)  # a thread computes an item by itself
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch", initializer=alone)
        self._ahead: dict[int, tuple[Hashable, Future[Batch]]] = {}

    def plan(self, step: int, progress: float) -> Hashable:
        """Return the plan of the sampler."""
        return self.sampler.plan(step, progress)

    def cut(self, step: int, plan: Hashable) -> Batch:
        """Return the batch of a step, made ahead if it was foreseen."""
        foreseen, made = self._ahead.pop(step, (None, None))
        return made.result() if made is not None and foreseen == plan else self.sampler.cut(step, plan)

    def __call__(self, step: int, progress: float = 0.0) -> Batch:
        """Return the batch of a step, and begin with those of the next."""
        batch = self.cut(step, self.plan(step, progress))
        following = range(step + 1, step + 1 + self.threads)
        self._ahead = {later: made for later, made in self._ahead.items() if later in following}
        for later in following:
            if later not in self._ahead:
                plan = self.plan(later, progress)
                self._ahead[later] = plan, self._pool.submit(self.sampler.cut, later, plan)
        return batch
