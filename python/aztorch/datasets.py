"""Datasets of torch over blobs: :class:`BlobDataset` by index, :class:`IterableBlobDataset` one after the other.

By default a sample is a dict ``{"url": str, "data": bytes}``. A ``transform`` gets a :class:`Blob` and returns another
sample.
"""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, Callable, TypedDict, cast

import torch.utils.data

from aztorch import _lookahead
from aztorch._arguments import as_integer, complete_url
from aztorch._blob import Blob
from aztorch._client import check_credential, client_for, signature_of
from aztorch._entry import (
    DatasetEntry,
    Habit,
    deserialize_entries,
    entry_url,
    fetch_entries,
    fetch_entry,
    serialize_entries,
)
from aztorch._iteration import Iteration, LazyIteration, LazyUrls, Place
from aztorch._library import lib, new
from aztorch._source import ContainerSource, Source, UrlsSource, manifest_source, ranges_source, tars_source, urls_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from aztorch._client import Credential

_STATE_KEYS = {"version", "epoch", "seed", "cursor"}

__all__ = ["Blob", "BlobDataset", "IterableBlobDataset"]


class DefaultSample(TypedDict):
    """The sample of a dataset without a transform."""

    #: The URL of the blob, without a query.
    url: str
    #: The content of the blob.
    data: bytes


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: Of a dataset without a transform, it is :class:`DefaultSample`.
    Sample_co = TypeVar("Sample_co", covariant=True, default=DefaultSample)
else:
    from typing import TypeVar

    Sample_co = TypeVar("Sample_co", covariant=True)


class _Blobs:
    """What a dataset is made of: the argument of the datasets' constructors."""

    def __init__(self, source: Source | LazyUrls, credential: Credential) -> None:
        check_credential(credential)
        self.source = source
        self.credential = credential


class BlobDataset(torch.utils.data.Dataset[Sample_co]):
    """A map-style dataset: blobs by index, for any sampler of torch.

    The blobs are listed when the dataset is made, and stay the same. Their content is read anew in each epoch.

    A batch of a ``DataLoader`` is fetched at once, in parallel; without workers, the batches that its sampler will ask
    for next are fetched ahead. The dataset works in workers of any start method, and can be pickled before and after
    use: it is not listed again. A pickle contains the SAS of the URLs.

    Thread-safe. No call holds the GIL while it waits.

    Make one with :meth:`from_container_url`, :meth:`from_blob_urls`, :meth:`from_ranges`, :meth:`from_tars` or
    :meth:`from_manifest`, not with the constructor.
    """

    def __init__(self, blobs: _Blobs, transform: Callable[[Blob], Sample_co] | None = None) -> None:
        _check_arguments(self, blobs, transform)
        source = blobs.source
        self._source = source if isinstance(source, Source) else UrlsSource(source.urls)
        self._credential = blobs.credential
        self._client = client_for(blobs.credential)
        self._signature = signature_of(blobs.credential)
        self._handle = self._source.make_dataset(self._client)
        self._transform = transform
        self._habit = Habit()

    @classmethod
    def from_blob_urls(
        cls,
        blob_urls: str | Iterable[str],
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of the blobs at these URLs, in this order. Nothing is sent.

        :param blob_urls: one URL, or any number of them, of one or several containers. Each may have a SAS of its own,
            ``snapshot=`` and ``versionid=``.
        :param credential: as for :class:`aztorch.io.BlobIO`.
        :param transform: makes a sample from a :class:`Blob`. By default samples are ``{"url": str, "data": bytes}``.
        :raises ValueError: for a bad URL.
        """
        return cls(_Blobs(UrlsSource(urls_of(blob_urls)), credential), transform=transform)

    @classmethod
    def from_container_url(
        cls,
        container_url: str,
        *,
        prefix: str | None = None,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of the blobs of a container, which is listed now.

        :param container_url: the URL of the container. A SAS in it is used for the blobs, too.
        :param prefix: how the names of the blobs begin. By default all blobs are taken.
        :param credential: as for :class:`aztorch.io.BlobIO`.
        :param transform: makes a sample from a :class:`Blob`. By default samples are ``{"url": str, "data": bytes}``.
        :raises aztorch.exceptions.BlobNotFoundError: if the container does not exist.
        """
        return cls(_Blobs(ContainerSource(container_url, prefix), credential), transform=transform)

    @classmethod
    def from_ranges(
        cls,
        blob_urls: Sequence[str],
        offsets: Sequence[int],
        lengths: Sequence[int],
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of parts of blobs, for samples that are packed into large blobs. Nothing is sent.

        :param blob_urls: the URL of each part's blob.
        :param offsets: where each part begins, in bytes.
        :param lengths: the size of each part, in bytes.
        :param credential: as for :class:`aztorch.io.BlobIO`.
        :param transform: makes a sample from a :class:`Blob`. By default samples are ``{"url": str, "data": bytes}``.
        :raises ValueError: for a bad URL, or if the three lengths differ; and when a part is read that is past the end of
            its blob.
        """
        return cls(_Blobs(ranges_source(blob_urls, offsets, lengths), credential), transform=transform)

    @classmethod
    def from_tars(
        cls,
        blob_urls: str | Iterable[str],
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of the files in tar archives, which are indexed now by ranged reads.

        :param blob_urls: the URLs of the archives (not compressed ones).
        :param credential: as for :class:`aztorch.io.BlobIO`.
        :param transform: makes a sample from a :class:`Blob`. By default samples are ``{"url": str, "data": bytes}``,
            where the URL is that of the archive.
        :raises aztorch.exceptions.CorruptDataError: for a damaged or compressed archive.
        """
        return cls(_Blobs(tars_source(urls_of(blob_urls)), credential), transform=transform)

    @classmethod
    def from_manifest(
        cls,
        manifest_url: str,
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset from a manifest that :meth:`save_manifest` saved: the same entries at the same indices.

        :param manifest_url: the URL of the manifest. A SAS in it is also used for the entries.
        :param credential: as for :class:`aztorch.io.BlobIO`.
        :param transform: makes a sample from a :class:`Blob`. By default samples are ``{"url": str, "data": bytes}``.
        :raises aztorch.exceptions.CorruptDataError: for a damaged manifest.
        """
        return cls(_Blobs(manifest_source(manifest_url), credential), transform=transform)

    def save_manifest(self, manifest_url: str) -> None:
        """Save the entries as one blob, so that other processes share this listing. It contains no SAS.

        :param manifest_url: the URL of the manifest. A blob there is replaced as a whole.
        """
        self._check(lib.azt_dataset_save_manifest, complete_url(manifest_url).encode())

    def prefetch(self, indices: Iterable[int]) -> None:
        """Announce the indices that will be read next, in this order, so that they are fetched ahead.

        A hint: it returns at once, and a failure shows when the entry is read. A whole epoch may be announced. No
        indices withdraw earlier announcements.

        :raises IndexError: for an index that the dataset does not have.
        """
        self._follow_credential()
        numbers = [self._position(index) for index in indices]
        self._check(lib.azt_dataset_prefetch, new("size_t[]", numbers), len(numbers))

    def __len__(self) -> int:
        """Return the number of blobs."""
        return int(lib.azt_dataset_len(self._handle))

    def __getitem__(self, index: int) -> Sample_co:
        """Fetch one blob, and return its sample. Negative indices count from the end.

        :raises IndexError: for an index that the dataset does not have.
        """
        self._follow_credential()
        position = self._position(index)
        if self._fetches_ahead():
            _lookahead.follow_loader(self)
        if self._transform is None:
            data = fetch_entry(self._client, self._handle, position)
            return cast("Sample_co", {"url": entry_url(self._handle, position), "data": data})
        return self._apply(position)

    def __getitems__(self, indices: list[int]) -> list[Sample_co]:
        """Fetch several blobs at once, and return their samples: torch's ``DataLoader`` calls this for a batch."""
        if self._is_renumbered():
            return [self[index] for index in indices]
        self._follow_credential()
        positions = [self._position(index) for index in indices]
        announced = self._fetches_ahead() and _lookahead.follow_loader(self)
        if self._transform is None:
            contents = fetch_entries(self._client, self._handle, positions)
            return [
                cast("Sample_co", {"url": entry_url(self._handle, position), "data": data})
                for position, data in zip(positions, contents)
            ]
        samples = []
        for number, position in enumerate(positions):
            # The first transform shows whether the blobs are read as a whole.
            if self._habit.reads_whole and not announced:
                self.prefetch(positions[number:])
                announced = True
            samples.append(self._apply(position))
        return samples

    def _follow_credential(self) -> None:
        """Use the SAS that the credential has now: AzureSasCredential.update() replaces it in long jobs."""
        if self._signature is None or self._signature == signature_of(self._credential):
            return
        self._signature = signature_of(self._credential)
        self._client = client_for(self._credential)
        self._handle = deserialize_entries(self._client, serialize_entries(self._handle))

    def _apply(self, position: int) -> Sample_co:
        transform = cast("Callable[[Blob], Sample_co]", self._transform)
        self._habit.before()
        sample = transform(Blob(DatasetEntry(self._source, self._client, self._handle, position, self._habit)))
        self._habit.after()
        return sample

    def _fetches_ahead(self) -> bool:
        return not self._is_renumbered() and (self._transform is None or self._habit.reads_whole)

    def _is_renumbered(self) -> bool:
        """Whether a subclass may number its samples in another way."""
        return type(self).__getitem__ is not BlobDataset.__getitem__

    def _position(self, index: Any) -> int:
        position = operator.index(index)
        length = int(lib.azt_dataset_len(self._handle))
        if position < 0:
            position += length
        if not 0 <= position < length:
            raise IndexError(f"index {index} is out of range: the dataset has {length} blobs")
        return position

    def _check(self, function: Any, *arguments: Any) -> None:
        self._client.check(function, self._handle, *arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} of {len(self)} blobs>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle needs, with the listing, its SAS and the credential."""
        state = self.__dict__.copy()
        for name in ("_handle", "_client", "_habit"):
            del state[name]
        state["_entries"] = serialize_entries(self._handle)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled dataset. Nothing is sent."""
        entries = state.pop("_entries")
        self.__dict__.update(state)
        self._client = client_for(self._credential)
        self._signature = signature_of(self._credential)
        self._habit = Habit()
        self._handle = deserialize_entries(self._client, entries)


class IterableBlobDataset(torch.utils.data.IterableDataset[Sample_co]):
    """An iterable-style dataset: blobs one after the other, listed and fetched ahead while it is read.

    Workers and ranks share the blobs by themselves: with R ranks of W workers each, blob ``i`` goes to rank ``i % R``,
    and there to worker ``i // R % W``. The rank comes from ``torch.distributed``, or from ``RANK`` and ``WORLD_SIZE``,
    which torchrun sets; :meth:`shard` sets it by hand. The order within a rank is that of the listing.

    It can be pickled, and works in workers of any start method. :meth:`state_dict` and :meth:`load_state_dict` continue
    an epoch where it was left, as torchdata's ``StatefulDataLoader`` does by itself.

    Several threads may have an iterator each; an iterator is for one thread at a time. No call holds the GIL while it
    waits.

    Make one with :meth:`from_container_url`, :meth:`from_blob_urls`, :meth:`from_ranges`, :meth:`from_tars` or
    :meth:`from_manifest`, not with the constructor.
    """

    def __init__(self, blobs: _Blobs, transform: Callable[[Blob], Sample_co] | None = None) -> None:
        _check_arguments(self, blobs, transform)
        self._source = blobs.source
        if isinstance(self._source, (ContainerSource, UrlsSource)):
            # Raises for a bad URL. Nothing is sent.
            self._source.make_stream(client_for(False), 0, 1)
        self._credential = blobs.credential
        self._transform = transform
        self._habit = Habit()
        self._shuffle: tuple[int, int | None] | None = None
        self._shard: tuple[int, int] | None = None
        # The rank of the process that has pickled it, for a worker, which is in no process group.
        self._inherited: tuple[int, int] | None = None
        self._epoch = 0
        self._loaded: dict[str, Any] | None = None
        self._current: Iteration[Sample_co] | LazyIteration[Sample_co] | None = None

    @classmethod
    def from_blob_urls(
        cls,
        blob_urls: str | Iterable[str],
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of the blobs at these URLs, in this order.

        :param blob_urls: one URL, or any number of them, as for :meth:`BlobDataset.from_blob_urls`. An iterator, such as
            a generator, is read while the dataset is, and so serves one epoch.
        :param credential: as for :class:`aztorch.io.BlobIO`.
        :param transform: makes a sample from a :class:`Blob`. By default samples are ``{"url": str, "data": bytes}``.
        :raises ValueError: for a bad URL; for one of an iterator, when it is reached.
        """
        urls = urls_of(blob_urls)
        source = UrlsSource(urls) if isinstance(urls, (list, tuple)) else LazyUrls(urls)
        return cls(_Blobs(source, credential), transform=transform)

    @classmethod
    def from_container_url(
        cls,
        container_url: str,
        *,
        prefix: str | None = None,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of the blobs of a container, which is listed in each epoch, while it is read.

        The parameters are those of :meth:`BlobDataset.from_container_url`. A container that does not exist is reported
        when the dataset is read.
        """
        return cls(_Blobs(ContainerSource(container_url, prefix), credential), transform=transform)

    @classmethod
    def from_ranges(
        cls,
        blob_urls: Sequence[str],
        offsets: Sequence[int],
        lengths: Sequence[int],
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of parts of blobs. The parameters are those of :meth:`BlobDataset.from_ranges`."""
        return cls(_Blobs(ranges_source(blob_urls, offsets, lengths), credential), transform=transform)

    @classmethod
    def from_tars(
        cls,
        blob_urls: str | Iterable[str],
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset of the files in tar archives, indexed in each epoch. See :meth:`BlobDataset.from_tars`."""
        return cls(_Blobs(tars_source(urls_of(blob_urls)), credential), transform=transform)

    @classmethod
    def from_manifest(
        cls,
        manifest_url: str,
        *,
        credential: Credential = None,
        transform: Callable[[Blob], Sample_co] | None = None,
    ) -> Self:
        """Make a dataset from a manifest that :meth:`BlobDataset.save_manifest` saved: one listing for all processes."""
        return cls(_Blobs(manifest_source(manifest_url), credential), transform=transform)

    def shuffle(self, buffer_size: int, seed: int | None = None) -> Self:
        """Return a copy of this dataset that shuffles the names of the blobs.

        After sharding, `buffer_size` names are drawn ahead; one of them is taken at random, and the next name takes its
        place. A buffer for all names of a shard gives a full shuffle. Only names are held, no content.

        :param buffer_size: the number of names, at least 1.
        :param seed: gives the same order each time, with another order for each epoch (see :meth:`set_epoch`). By default
            the seed comes from torch's random state, so that each epoch has another order.
        """
        buffer_size = as_integer("buffer_size", buffer_size)
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be at least 1, not: {buffer_size}")
        return self._copy(_shuffle=(buffer_size, None if seed is None else int(seed) % 2**64))

    def shard(self, index: int, count: int) -> Self:
        """Return a copy of this dataset that yields part `index` of `count` parts, in place of the part of its rank.

        ``shard(0, 1)`` yields all blobs on each rank. Workers share the part as always.

        :raises ValueError: unless 0 <= index < count.
        """
        if not 0 <= index < count:
            raise ValueError(f"index must be from 0 to count - 1, not {index} of {count}")
        return self._copy(_shard=(int(index), int(count)))

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, which changes the order of ``shuffle(…, seed)``.

        Each iteration adds one by itself. Workers of a ``DataLoader`` copy the number when they start. If they end with
        the epoch, call ``set_epoch`` before each epoch.

        :raises ValueError: for a negative number.
        """
        epoch = as_integer("epoch", epoch)
        if epoch < 0:
            raise ValueError(f"epoch must not be negative, and is {epoch}")
        self._epoch = epoch

    def _copy(self, **changes: Any) -> Self:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.__dict__.update(changes, _loaded=None, _current=None, _epoch=0, _habit=Habit())
        return made

    def __iter__(self) -> Iterator[Sample_co]:
        """Return an iterator over the samples of this worker and rank, in their order.

        A blob that cannot be read raises. A further ``next()`` continues after it, or tries it again if the failure was
        temporary.
        """
        shard, shards = self._find_shard()
        loaded = self._loaded
        epoch = self._epoch if loaded is None else loaded["epoch"]
        seed = loaded["seed"] if loaded is not None and loaded["cursor"] is not None else self._draw_seed()
        place = Place(epoch, seed, shard, shards, None if self._shuffle is None else self._shuffle[0])
        client = client_for(self._credential)
        current: Iteration[Sample_co] | LazyIteration[Sample_co]
        if isinstance(self._source, Source):
            current = Iteration(self._source, client, place, self._transform, self._habit)
        else:
            current = LazyIteration(self._source, client, place, self._transform, self._habit)
        if loaded is not None:
            current.resume(loaded["cursor"])
        # Only now, so that the state is kept if it cannot be resumed yet.
        self._loaded = None
        self._current = current
        self._epoch = epoch + 1
        return current

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last sample that the newest iterator returned: a dict of numbers and strings.

        At the end of an epoch, it is the place after the last sample: the next iterator then returns nothing.
        """
        if self._current is not None:
            return self._current.state()
        if self._loaded is not None:
            return dict(self._loaded)
        return {"version": 1, "epoch": self._epoch, "seed": None, "cursor": None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the place of a :meth:`state_dict`, with the next iterator.

        :raises ValueError: if it is no such dict. The next iterator raises it if the state is of another listing, of
            other URLs, or of another number of workers or ranks.
        """
        if not isinstance(state_dict, dict) or state_dict.get("version") != 1 or _STATE_KEYS - state_dict.keys():
            raise ValueError("this is no state of an IterableBlobDataset")
        self._loaded = dict(state_dict)
        self._current = None

    def _find_shard(self) -> tuple[int, int]:
        rank, ranks = self._shard or self._find_rank()
        worker = torch.utils.data.get_worker_info()
        if worker is None:
            return rank, ranks
        return rank + ranks * worker.id, ranks * worker.num_workers

    def _find_rank(self) -> tuple[int, int]:
        if self._inherited is not None and not _is_distributed():
            return self._inherited
        return _distributed_rank()

    def _draw_seed(self) -> int | None:
        if self._shuffle is None or self._shuffle[1] is not None:
            return None if self._shuffle is None else self._shuffle[1]
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            return int(worker.seed) % 2**64
        return int(torch.empty((), dtype=torch.int64).random_().item())

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle needs. The rank of this process travels with it, since a spawned worker has none."""
        state = self.__dict__.copy()
        state["_current"] = None
        state["_loaded"] = self._loaded if self._current is None else None
        state["_habit"] = None
        state["_inherited"] = _distributed_rank() if _is_distributed() else self._inherited
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled dataset. Nothing is sent."""
        self.__dict__.update(state, _habit=Habit())


def _check_arguments(dataset: object, blobs: object, transform: object) -> None:
    if not isinstance(blobs, _Blobs):
        raise TypeError(f"{type(dataset).__name__} is made with from_container_url(), from_blob_urls() and others")
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be callable, not: {type(transform)}")


def _is_distributed() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized()


def _distributed_rank() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks."""
    if _is_distributed():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    rank, ranks = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank.isdigit() and ranks.isdigit() and int(rank) < int(ranks):
        return int(rank), int(ranks)
    return 0, 1
