"""What the datasets are made of: a container, URLs, ranges, tar archives or a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aztorch._arguments import as_integer, complete_url
from aztorch._client import check_no_nul, client_for
from aztorch._entry import entry_url
from aztorch._library import check, ffi, lib, new

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aztorch._client import Client


class Source:
    """Makes the dataset or the stream of the library, and knows the SAS of each blob."""

    def make_dataset(self, client: Client) -> Any:
        """Return a new `azt_dataset *`, which may list the container."""
        raise NotImplementedError

    def make_stream(self, client: Client, shard: int, shards: int) -> Any:
        """Return a new `azt_stream *`. Nothing is sent."""
        raise NotImplementedError

    def locate(self, url: str, index: int | None) -> str | None:
        """Return the URL of one of the blobs with its query.

        :param url: without the query.
        :param index: of the entry, where it is known.
        :returns: None where it is unknown, or if the entries are parts of blobs.
        """
        raise NotImplementedError


class ContainerSource(Source):
    """The blobs of a container whose names begin with a prefix."""

    def __init__(self, container_url: str, prefix: str | None) -> None:
        self._url = complete_url(container_url)
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"prefix must be a string, not: {type(prefix)}")
        check_no_nul("prefix", prefix or "")
        self._prefix = ffi.NULL if prefix is None else prefix.encode()

    def make_dataset(self, client: Client) -> Any:
        return _dataset(client, lib.azt_dataset_list, self._url.encode(), self._prefix)

    def make_stream(self, client: Client, shard: int, shards: int) -> Any:
        return _stream(client, lib.azt_stream_list, self._url.encode(), self._prefix, shard, shards)

    def locate(self, url: str, index: int | None) -> str | None:
        _, mark, query = self._url.partition("?")
        return url + mark + query

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._url, "prefix": None if self._prefix == ffi.NULL else self._prefix}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._url, prefix = state["url"], state["prefix"]
        self._prefix = ffi.NULL if prefix is None else prefix


class UrlsSource(Source):
    """Blobs by their URLs."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.urls = [complete_url(url) for url in urls]
        self._located: dict[str, str | None] | None = None

    def make_dataset(self, client: Client) -> Any:
        return _dataset(client, lib.azt_dataset_from_urls, *_strings(self.urls))

    def make_stream(self, client: Client, shard: int, shards: int) -> Any:
        return _stream(client, lib.azt_stream_from_urls, *_strings(self.urls), shard, shards)

    def locate(self, url: str, index: int | None) -> str | None:
        if index is not None:
            return self.urls[index]
        if self._located is None:
            located: dict[str, str | None] = {}
            # The library's form of each URL, which may differ from the caller's.
            dataset = self.make_dataset(client_for(False))
            for number, known in enumerate(self.urls):
                name = entry_url(dataset, number)
                # Two versions of one blob cannot be told apart by this name.
                located[name] = known if located.get(name, known) == known else None
            self._located = located
        return self._located.get(url)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle needs."""
        return {**self.__dict__, "_located": None}


class ListedSource(Source):
    """Entries that only a dataset of the library can list: ranges, tar archives, a manifest."""

    def __init__(self, function: str, *arguments: Any) -> None:
        self._function = function
        self._arguments = arguments

    def make_dataset(self, client: Client) -> Any:
        arguments = [item for argument in self._arguments for item in _c_argument(argument)]
        return _dataset(client, getattr(lib, self._function), *arguments)

    def make_stream(self, client: Client, shard: int, shards: int) -> Any:
        return stream_of(self.make_dataset(client), shard, shards)

    def locate(self, url: str, index: int | None) -> str | None:
        return None


def ranges_source(urls: Sequence[str], offsets: Sequence[int], lengths: Sequence[int]) -> ListedSource:
    """Return the source of parts of blobs."""
    if isinstance(urls, (str, bytes)):
        raise TypeError(f"blob_urls must be a sequence of strings, not: {type(urls)}")
    if not len(urls) == len(offsets) == len(lengths):
        raise ValueError(
            f"urls, offsets and lengths must have the same length, not {len(urls)}, {len(offsets)} and {len(lengths)}"
        )
    names = [complete_url(url) for url in urls]
    for what, numbers in (("offset", offsets), ("length", lengths)):
        for index, number in enumerate(numbers):
            if not 0 <= as_integer(what, number) < 2**64:
                raise ValueError(f"{what} {index} is {number}, and must be from 0 to 2**64 - 1")
    return ListedSource("azt_dataset_from_ranges", names, _Numbers(offsets), _Numbers(lengths), len(names))


def tars_source(urls: Iterable[str]) -> ListedSource:
    """Return the source of the files in tar archives."""
    names = [complete_url(url) for url in urls]
    return ListedSource("azt_dataset_from_tars", names, len(names))


def manifest_source(url: str) -> ListedSource:
    """Return the source of the entries of a manifest."""
    return ListedSource("azt_dataset_from_manifest", complete_url(url))


def stream_of(dataset: Any, shard: int, shards: int) -> Any:
    """Return a stream of the library over a dataset of the library."""
    stream = new("azt_stream **")
    check(lib.azt_stream_from_dataset, dataset, shard, shards, stream)
    return ffi.gc(stream[0], lib.azt_stream_free)


def urls_of(blob_urls: str | Iterable[str]) -> Iterable[str]:
    """Return the URLs of an argument that may also be one URL."""
    if isinstance(blob_urls, str):
        return [blob_urls]
    if isinstance(blob_urls, (bytes, bytearray)):
        raise TypeError(f"blob_urls must be a string or an iterable of strings, not: {type(blob_urls)}")
    iter(blob_urls)
    return blob_urls


class _Numbers(tuple):  # type: ignore[type-arg]
    """An array of `uint64_t`."""

    __slots__ = ()


def _c_argument(argument: Any) -> list[Any]:
    if isinstance(argument, str):
        return [argument.encode()]
    if isinstance(argument, list):
        return [_strings(argument)[0]]
    if isinstance(argument, _Numbers):
        return [new("uint64_t[]", list(argument))]
    return [argument]


def _strings(values: list[str]) -> tuple[Any, int]:
    strings = [new("char[]", value.encode()) for value in values]
    array = new("char *[]", strings)
    # The destructor refers to the strings, which thus live as long as the array.
    return ffi.gc(array, lambda _array, strings=strings: None), len(values)


def _dataset(client: Client, function: Any, *arguments: Any) -> Any:
    dataset = new("azt_dataset **")
    client.check(function, client.handle, *arguments, dataset)
    return ffi.gc(dataset[0], lib.azt_dataset_free)


def _stream(client: Client, function: Any, *arguments: Any) -> Any:
    stream = new("azt_stream **")
    client.check(function, client.handle, *arguments, stream)
    return ffi.gc(stream[0], lib.azt_stream_free)
