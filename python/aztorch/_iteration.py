"""How an iterable dataset is read: iterators over the library's streams, which can be left and resumed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, cast

from aztorch._blob import Blob
from aztorch._entry import SampleEntry, quote_url
from aztorch._library import UNKNOWN_SIZE, check, ffi, fill_buffer, lib, new, text
from aztorch._memory import own_sample, view_sample
from aztorch._source import ContainerSource, Source, UrlsSource, stream_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self

    from aztorch._client import Client
    from aztorch._entry import Habit

Sample_co = TypeVar("Sample_co", covariant=True)


class LazyUrls:
    """URLs of an iterator, which are taken while the dataset is read."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.urls = urls


# An odd number near 2**64 divided by the golden ratio, so that the seeds of epochs are far apart (Steele et al., "Fast
# splittable pseudorandom number generators", 2014).
_SEED_STEP = 0x9E3779B97F4A7C15


class Place:
    """Which part of which epoch, in which order."""

    def __init__(self, epoch: int, seed: int | None, shard: int, shards: int, buffer_size: int | None) -> None:
        self.epoch = epoch
        self.seed = seed
        self.shard = shard
        self.shards = shards
        self.buffer_size = buffer_size

    @property
    def stream_seed(self) -> int:
        """The seed of the library's stream, another one for each epoch."""
        return ((self.seed or 0) + self.epoch * _SEED_STEP) % 2**64


# Enough for the cursor of a container that is not shuffled.
_CURSOR_CAPACITY = 1024


class Iteration(Generic[Sample_co]):
    """An iterator over a stream of the library."""

    def __init__(
        self,
        source: Source,
        client: Client,
        place: Place,
        transform: Callable[[Blob], Sample_co] | None,
        habit: Habit,
    ) -> None:
        self._source = source
        self._client = client
        self._place = place
        self._transform = transform
        self._habit = habit
        # A transform that does not read its blobs as a whole gets them without their bytes.
        self._lazy = transform is not None and not habit.reads_whole
        self._dataset: Any = None
        self._stream: Any = None
        self._cursor: bytes | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sample_co:
        sample = self._next_sample()
        if sample is None:
            raise StopIteration
        if self._transform is None:
            url = quote_url(text(lib.azt_sample_url(sample)))
            return cast("Sample_co", {"url": url, "data": bytes(view_sample(sample))})
        entry = SampleEntry(self._source, self._client, sample, has_bytes=not self._lazy, habit=self._habit)
        self._habit.before()
        try:
            value = self._transform(Blob(entry))
        except StopIteration as error:
            # It would end the iteration silently.
            raise RuntimeError("the transform raised StopIteration") from error
        self._habit.after()
        if self._lazy and self._habit.reads_whole:
            # From here on the samples come with their bytes, fetched ahead.
            self._cursor = self._take_cursor()
            self._lazy = False
            self._stream = None
        return value

    def _next_sample(self) -> Any:
        if self._stream is None:
            self._open()
        sample = new("azt_sample **")
        self._client.check(lib.azt_stream_next, self._stream, sample)
        return None if sample[0] == ffi.NULL else own_sample(sample[0])

    def _open(self) -> None:
        place = self._place
        stream = self._make_stream()
        if place.buffer_size is not None:
            check(lib.azt_stream_set_shuffle, stream, place.buffer_size, place.stream_seed)
        if self._lazy:
            check(lib.azt_stream_set_lazy, stream)
        if self._cursor is not None:
            check(lib.azt_stream_resume, stream, self._cursor)
        self._stream = stream

    def _make_stream(self) -> Any:
        place = self._place
        if isinstance(self._source, (ContainerSource, UrlsSource)):
            return self._source.make_stream(self._client, place.shard, place.shards)
        if self._dataset is None:
            self._dataset = self._source.make_dataset(self._client)
        return stream_of(self._dataset, place.shard, place.shards)

    def _take_cursor(self) -> bytes | None:
        if self._stream is None:
            return self._cursor
        cursor = fill_buffer(lib.azt_stream_cursor, self._stream, UNKNOWN_SIZE, capacity=_CURSOR_CAPACITY)
        return cursor[:-1]

    def resume(self, cursor: str | None) -> None:
        self._cursor = None if cursor is None else cursor.encode()
        self._open()

    def state(self) -> dict[str, Any]:
        cursor = self._take_cursor()
        return {
            "version": 1,
            "epoch": self._place.epoch,
            "seed": self._place.seed,
            "cursor": None if cursor is None else cursor.decode(),
        }


# How many URLs are taken from an iterator at a time: few at first, so that the first sample comes soon, and enough then
# to keep all connections busy.
_FIRST_URLS, _MOST_URLS = 16, 1024


class LazyIteration(Generic[Sample_co]):
    """An iterator over the blobs whose URLs come from an iterator."""

    def __init__(
        self,
        source: LazyUrls,
        client: Client,
        place: Place,
        transform: Callable[[Blob], Sample_co] | None,
        habit: Habit,
    ) -> None:
        self._urls = source.urls
        self._client = client
        self._place = place
        self._transform = transform
        self._habit = habit
        # How many samples of this part were returned, or have failed for good.
        self._passed = 0
        self._own: Iterator[str] | None = None
        self._part: Iteration[Sample_co] | None = None
        self._parts = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sample_co:
        while True:
            part = self._part or self._next_part()
            try:
                sample = next(part)
            except StopIteration:
                self._part = None
                continue
            except Exception as error:
                # A temporary failure is tried again, like that of a list of URLs.
                if not getattr(error, "retryable", False):
                    self._passed += 1
                raise
            self._passed += 1
            return sample

    def _next_part(self) -> Iteration[Sample_co]:
        place = self._place
        if self._own is None:
            own = itertools.islice(self._urls, place.shard, None, place.shards)
            self._own = itertools.islice(own, self._passed, None)
        # Few URLs at first, so that the first sample comes soon. Shuffling needs many of them.
        count = min(_FIRST_URLS << min(self._parts, 10), _MOST_URLS)
        urls = list(itertools.islice(self._own, max(count, place.buffer_size or 0)))
        if not urls:
            raise StopIteration
        # Another seed for each part, or all would have the same permutation.
        seed = None if place.seed is None else place.seed + self._parts
        part = Place(place.epoch, seed, 0, 1, place.buffer_size)
        self._parts += 1
        self._part = Iteration(UrlsSource(urls), self._client, part, self._transform, self._habit)
        return self._part

    def resume(self, cursor: str | None) -> None:
        if self._place.buffer_size is not None and cursor is not None:
            raise ValueError("a shuffled iterator of URLs cannot be resumed: pass a list of URLs")
        if cursor is not None:
            number, shard, shards = (int(part) for part in cursor.split("/"))
            if (shard, shards) != (self._place.shard, self._place.shards):
                raise ValueError(
                    f"the state is of part {shard} of {shards}, not {self._place.shard} of {self._place.shards}"
                )
            self._passed = number

    def state(self) -> dict[str, Any]:
        place = self._place
        if place.buffer_size is not None:
            raise ValueError("the place in a shuffled iterator of URLs cannot be saved: pass a list of URLs")
        cursor = f"{self._passed}/{place.shard}/{place.shards}"
        return {"version": 1, "epoch": place.epoch, "seed": place.seed, "cursor": cursor}
