"""Batches made in the background while a GPU computes."""

from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor

from cytoforge.training.samplers.items import Batch, Sampler


class Prefetched(Sampler):
    """A sampler that makes the next step's batch in a thread of its own, bit for bit that which it would make then.

    The progress of the next step is not known yet where the budget is a time; if its plan turns out otherwise than
    expected, the batch is made anew.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: tuple[tuple[int, Hashable], Future[Batch]] | None = None

    def plan(self, step: int, progress: float) -> Hashable:
        """Return the plan of the sampler."""
        return self.sampler.plan(step, progress)

    def cut(self, step: int, plan: Hashable) -> Batch:
        """Return the batch of a step, made ahead if it was foreseen."""
        if self._ahead is not None and self._ahead[0] == (step, plan):
            return self._ahead[1].result()
        if self._ahead is not None:
            self._ahead[1].exception()  # the sampler serves one thread at a time
        return self.sampler.cut(step, plan)

    def __call__(self, step: int, progress: float = 0.0) -> Batch:
        """Return the batch of a step, and begin with that of the next."""
        batch = self.cut(step, self.plan(step, progress))
        following = self.plan(step + 1, progress)
        self._ahead = (step + 1, following), self._thread.submit(self.sampler.cut, step + 1, following)
        return batch
