"""Where the bytes of a sample come from: an entry of a dataset, or a sample of a stream."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from aztorch._library import (
    BUFFER_TOO_SMALL,
    UNKNOWN_SIZE,
    check,
    failure,
    ffi,
    fill_buffer,
    lib,
    new,
    raise_noted,
    text,
)
from aztorch._memory import finish_bytes, new_bytes, own_sample, view_sample
from aztorch._reader import Reader

if TYPE_CHECKING:
    from aztorch._client import Client
    from aztorch._source import Source

# A path that Azure's packages quote the same way as this library.
_PLAIN = re.compile(r"[A-Za-z]+://[^/]*/[\w.~/-]*", re.ASCII)
_URL_CAPACITY = 512
_ENTRIES_CAPACITY = 4096


def quote_url(url: str) -> str:
    """Return a URL with its path quoted as azure-storage-blob quotes it: only letters, digits and ``_.-~/`` stay."""
    if _PLAIN.fullmatch(url):
        return url
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{quote(unquote(path), safe='~/')}"


# Larger blobs are not fetched ahead for a transform, which may read them piece by piece to save memory.
_MOST_AHEAD = 256 * 1024 * 1024


class Habit:
    """Whether the transform of a dataset reads its blobs as a whole. If so, they are fetched ahead."""

    def __init__(self) -> None:
        self.reads_whole = False
        self._has_read = False

    def before(self) -> None:
        """Note that the transform is called."""
        self._has_read = False

    def after(self) -> None:
        """Note that the transform has returned."""
        self.reads_whole = self._has_read

    def note(self, received: int, size: int) -> None:
        """Note that so many bytes of a blob of `size` bytes were read."""
        # Readers of archives and images leave out some bytes.
        if 2 * received >= size and size <= _MOST_AHEAD:
            self._has_read = True


class Entry:
    """One blob, or one part of a blob. `Blob` and `BlobIO` read it."""

    client: Client
    habit: Habit
    source: Source

    @property
    def url(self) -> str:
        """The URL without a query."""
        raise NotImplementedError

    @property
    def blob_name(self) -> str:
        """The name of the blob; of a file in a tar archive, its path there."""
        raise NotImplementedError

    @property
    def container_name(self) -> str:
        """The name of the container."""
        raise NotImplementedError

    @property
    def size(self) -> int | None:
        """The size in bytes, or None where only a read can tell."""
        raise NotImplementedError

    def open(self, opened: Any, error: Any) -> int:
        """Open the blob as the C API's functions do, and return their status."""
        raise NotImplementedError

    def is_at_hand(self) -> bool:
        """Whether the content is likely to have been fetched already, so that a reader should take it as a whole."""
        raise NotImplementedError

    def fetch(self) -> bytes:
        """Fetch the whole entry."""
        raise NotImplementedError

    def view(self) -> memoryview:
        """Fetch the whole entry, without a copy."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the URL, with its SAS, and the credential."""
        url = self.locate()
        if url is None:
            raise TypeError(
                f"cannot pickle {self.blob_name!r} of {self.url}, which is a part or a version: read it first"
            )
        return reopen_entry, (url, self.client.credential)

    def locate(self) -> str | None:
        """Return the URL of the blob with its query, or None where it is unknown, as for a part of a blob."""
        return self.source.locate(self.url, None)


class DatasetEntry(Entry):
    """An entry of a map-style dataset."""

    def __init__(self, source: Source, client: Client, handle: Any, index: int, habit: Habit) -> None:
        self.source = source
        self.client = client
        self.habit = habit
        self._handle = handle
        self._index = index

    @property
    def url(self) -> str:
        return entry_url(self._handle, self._index)

    @property
    def blob_name(self) -> str:
        return text(lib.azt_dataset_blob_name(self._handle, self._index))

    @property
    def container_name(self) -> str:
        return text(lib.azt_dataset_container_name(self._handle, self._index))

    @property
    def size(self) -> int | None:
        return entry_size(self._handle, self._index)

    def locate(self) -> str | None:
        return self.source.locate(self.url, self._index)

    def open(self, opened: Any, error: Any) -> int:
        return int(lib.azt_dataset_open(self._handle, self._index, opened, error))

    def is_at_hand(self) -> bool:
        return self.habit.reads_whole and (self.size or _MOST_AHEAD) < _MOST_AHEAD

    def fetch(self) -> bytes:
        content = fetch_entry(self.client, self._handle, self._index)
        self.habit.note(len(content), len(content))
        return content

    def view(self) -> memoryview:
        content = view_sample(fetch_sample(self.client, self._handle, self._index))
        self.habit.note(len(content), len(content))
        return content


class SampleEntry(Entry):
    """A sample of a stream, with or without its bytes."""

    def __init__(self, source: Source, client: Client, sample: Any, *, has_bytes: bool, habit: Habit) -> None:
        self.source = source
        self.client = client
        self.habit = habit
        self._sample = sample
        # The memory of a sample is given away once, since its owner may write to it.
        self._has_bytes = has_bytes

    @property
    def url(self) -> str:
        return quote_url(text(lib.azt_sample_url(self._sample)))

    @property
    def blob_name(self) -> str:
        return text(lib.azt_sample_blob_name(self._sample))

    @property
    def container_name(self) -> str:
        return text(lib.azt_sample_container_name(self._sample))

    @property
    def size(self) -> int | None:
        size = lib.azt_sample_blob_size(self._sample)
        return None if size == UNKNOWN_SIZE else int(size)

    def open(self, opened: Any, error: Any) -> int:
        return int(lib.azt_sample_open(self._sample, opened, error))

    def is_at_hand(self) -> bool:
        return self._has_bytes

    def fetch(self) -> bytes:
        content = bytes(view_sample(self._sample)) if self._has_bytes else self._read()
        self.habit.note(len(content), len(content))
        return content

    def view(self) -> memoryview:
        content = view_sample(self._sample) if self._has_bytes else memoryview(bytearray(self._read()))
        self._has_bytes = False
        self.habit.note(len(content), len(content))
        return content

    def _read(self) -> bytes:
        reader = Reader("", None, self, "", None)
        if reader.size == 0:
            return b""
        data, memory = new_bytes(reader.size)
        reader.receive(0, memory, reader.size)
        return finish_bytes(data, memory)


def reopen_entry(url: str, credential: Any) -> Entry:
    """Return the entry of a blob's URL, for pickle."""
    from aztorch._client import client_for
    from aztorch._source import UrlsSource

    source = UrlsSource([url])
    client = client_for(credential)
    return DatasetEntry(source, client, source.make_dataset(client), 0, Habit())


def entry_url(handle: Any, index: int) -> str:
    """Return the URL of a dataset's entry, without a query."""
    url = fill_buffer(lib.azt_dataset_url, handle, index, capacity=_URL_CAPACITY)
    return quote_url(url[:-1].decode())


def entry_size(handle: Any, index: int) -> int | None:
    """Return the size of a dataset's entry in bytes, or None where only a read can tell."""
    size = new("uint64_t *")
    check(lib.azt_dataset_blob_size, handle, index, size)
    return None if size[0] == UNKNOWN_SIZE else int(size[0])


def fetch_sample(client: Client, handle: Any, index: int) -> Any:
    """Fetch an entry of a dataset as an `azt_sample *`."""
    sample = new("azt_sample **")
    client.check(lib.azt_dataset_get, handle, index, sample)
    return own_sample(sample[0])


def fetch_entry(client: Client, handle: Any, index: int) -> bytes:
    """Fetch an entry of a dataset as `bytes`, straight into their memory where the size is known."""
    expected = entry_size(handle, index)
    if expected:
        data, memory = new_bytes(expected)
        size, error = new("size_t *"), new("azt_error **")
        status = lib.azt_dataset_get_into(handle, index, memory, expected, size, error)
        if status == 0:
            raise_noted()
            whole = finish_bytes(data, memory)
            return whole if size[0] == expected else whole[: size[0]]
        if status != BUFFER_TOO_SMALL:
            raise failure(error, client.cause())
        # The blob has grown since it was listed.
        lib.azt_error_free(error[0])
    return bytes(view_sample(fetch_sample(client, handle, index)))


def fetch_entries(client: Client, handle: Any, indices: list[int]) -> list[bytes]:
    """Fetch entries of a dataset as `bytes`, all at once; like :func:`fetch_entry`."""
    count = len(indices)
    expected = [entry_size(handle, index) for index in indices]
    error = new("azt_error **")
    numbers = new("size_t[]", indices)
    if all(expected):
        made = [new_bytes(size or 0) for size in expected]
        buffers, sizes = new("void *[]", [memory for _, memory in made]), new("size_t[]", count)
        status = lib.azt_dataset_get_batch_into(
            handle, numbers, count, buffers, new("size_t[]", expected), sizes, error
        )
        if status == 0:
            raise_noted()
            whole = [finish_bytes(data, memory) for data, memory in made]
            return [data if size == len(data) else data[:size] for data, size in zip(whole, sizes)]
        if status != BUFFER_TOO_SMALL:
            raise failure(error, client.cause())
        lib.azt_error_free(error[0])
    samples = new("azt_sample *[]", count)
    client.check(lib.azt_dataset_get_batch, handle, numbers, count, samples)
    return [bytes(view_sample(sample)) for sample in [own_sample(samples[number]) for number in range(count)]]


def serialize_entries(handle: Any) -> bytes:
    """Return the entries of an `azt_dataset *`, for another process."""
    return fill_buffer(lib.azt_dataset_serialize, handle, capacity=_ENTRIES_CAPACITY)


def deserialize_entries(client: Client, entries: bytes) -> Any:
    """Return the `azt_dataset *` of what :func:`serialize_entries` returned. Nothing is sent."""
    handle = new("azt_dataset **")
    check(lib.azt_dataset_deserialize, client.handle, entries, len(entries), handle)
    return ffi.gc(handle[0], lib.azt_dataset_free)
