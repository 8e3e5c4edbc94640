"""Fetches ahead what the sampler of a DataLoader without workers will ask for.

torch asks a map-style dataset for one batch at a time. Without workers, each batch would be fetched while the training
loop waits. torch has no interface by which a dataset sees its sampler, so this module finds torch's iterator among the
callers of the dataset, and puts an iterator in front of its sampler that takes batches earlier and announces them. If
torch changes, nothing is fetched ahead, and a test fails.

With workers there is no need: torch itself asks each worker for several batches ahead (``prefetch_factor``), and a worker
fetches a batch at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from aztorch._arguments import caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aztorch.datasets import BlobDataset

# Batches are taken from the sampler until so many samples are ahead, but at least two batches. This is what the
# library's connections fetch at a time.
_SAMPLES = 64
_FEWEST_BATCHES = 2
# The dataset, torch's fetcher (with a comprehension, before torch 2), and torch's iterator.
_MOST_FRAMES = 4


def follow_loader(dataset: BlobDataset[Any]) -> bool:
    """Fetch ahead for the DataLoader that has called the dataset, if it has no workers. Return whether that is done."""
    frame = caller(2)
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return False
        if frame.f_code.co_name == "_next_data":
            break
        frame = frame.f_back
    else:
        return False
    loader = frame.f_locals.get("self")
    kind = type(loader)
    # Not torchdata's: it saves the state of the sampler, which would then be ahead.
    if kind.__name__ != "_SingleProcessDataLoaderIter" or kind.__module__ != "torch.utils.data.dataloader":
        return False
    if getattr(loader, "_dataset", None) is not dataset:
        return False
    if not _is_of_torch(getattr(loader, "_index_sampler", None)):
        return False
    batches = getattr(loader, "_sampler_iter", None)
    if batches is None:
        return False
    if not isinstance(batches, _Lookahead):
        loader._sampler_iter = _Lookahead(batches, dataset)  # noqa: SLF001
        loader._sampler_iter.fill()  # noqa: SLF001
        # The batch that is read now was not announced.
        return False
    return True


def _is_of_torch(sampler: Any) -> bool:
    # Another sampler may count what it has given, and would then be ahead of the loop.
    inner = getattr(sampler, "sampler", sampler)
    return all(type(one).__module__.startswith("torch.utils.data.") for one in (sampler, inner))


class _Lookahead:
    """An iterator over a sampler's batches (or indices) that announces them to the dataset before it returns them."""

    def __init__(self, batches: Iterator[Any], dataset: BlobDataset[Any]) -> None:
        self._batches = batches
        self._dataset = dataset
        self._ahead: deque[Any] = deque()
        self._samples = 0
        self._error: BaseException | None = None

    def __iter__(self) -> _Lookahead:
        return self

    def __next__(self) -> Any:
        self.fill()
        if not self._ahead:
            raise self._error or StopIteration
        batch = self._ahead.popleft()
        self._samples -= _count(batch)
        return batch

    def fill(self) -> None:
        """Take batches from the sampler, and announce them."""
        taken: list[Any] = []
        while self._error is None and (len(self._ahead) < _FEWEST_BATCHES or self._samples < _SAMPLES):
            try:
                batch = next(self._batches)
            except Exception as error:  # noqa: BLE001 # it is raised when its place is reached
                self._error = error
                break
            self._ahead.append(batch)
            self._samples += _count(batch)
            taken += batch if isinstance(batch, list) else [batch]
        if taken:
            try:
                self._dataset.prefetch(taken)
            except (IndexError, TypeError, AttributeError):
                # A bad index is reported when it is read.
                return


def _count(batch: Any) -> int:
    # An empty batch counts too, or a sampler that gives nothing else would be read without end.
    return max(1, len(batch)) if isinstance(batch, list) else 1
