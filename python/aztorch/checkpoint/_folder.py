"""A folder of blobs: the blobs whose names begin with a prefix and a slash."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from aztorch import exceptions
from aztorch._arguments import check_blob_url, complete_url
from aztorch._client import check_credential, client_for
from aztorch._entry import entry_url
from aztorch._library import lib, text
from aztorch._operations import remove
from aztorch._source import ContainerSource, UrlsSource
from aztorch.checkpoint import _threads
from aztorch.checkpoint._format import METADATA
from aztorch.io import BlobIO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aztorch._client import Credential

logger = logging.getLogger("aztorch.checkpoint")

_SCHEMES = ("https", "http", "abfss", "abfs", "wasbs", "wasb")
# Characters that need no quoting in the path of a URL.
_SAFE = "/~=,+@:"
# Requests of a deletion at once: enough to hide their latency, and few beside the client's 64.
_DELETIONS = 16


class Folder:
    """A folder by its URL, which may have a SAS in its query.

    :ivar url: without the query, and so without a SAS: for messages, and for what torch stores and logs.
    """

    def __init__(self, url: object, credential: Credential) -> None:
        check_credential(credential)
        if isinstance(url, os.PathLike):
            raise TypeError(f"a checkpoint on Blob Storage has a URL, and not a path such as {url!r}")
        path, _, self._query = complete_url(url).partition("?")
        self.url = path.rstrip("/")
        self.credential = credential
        check_blob_url(self.blob_url(METADATA), reads=False)

    def at(self, url: object) -> Folder:
        """Return the folder of another URL. Where it has no query, that of this folder is used for the same host."""
        other = Folder(url, self.credential)
        if not other._query and _host_of(other.url) == _host_of(self.url):
            other._query = self._query
        return other

    def child(self, name: str) -> Folder:
        """Return the folder below this one that has the given name."""
        return Folder(self.blob_url(name), self.credential)

    def blob_url(self, name: str) -> str:
        """Return the URL of a blob, with the query, by its name below the folder."""
        return self._with_query(f"{self.url}/{quote(name, safe=_SAFE)}")

    @property
    def full_url(self) -> str:
        """The URL with the query."""
        return self._with_query(self.url)

    def _with_query(self, url: str) -> str:
        return f"{url}?{self._query}" if self._query else url

    def open_to_read(self, name: str) -> BlobIO:
        """Open a blob for reading."""
        return BlobIO(self.blob_url(name), "rb", credential=self.credential)

    def etag(self, name: str) -> str | None:
        """Return the version of a blob, or None if it does not exist."""
        with self.open_to_read(name) as blob:
            try:
                blob.seek(0)
            except exceptions.BlobNotFoundError:
                return None
            return blob.etag

    def names(self) -> list[str]:
        """Return the names of all blobs below the folder, without the name of the folder, in the service's order."""
        container_url, prefix = self._container()
        dataset = ContainerSource(container_url, prefix).make_dataset(client_for(self.credential))
        count = lib.azt_dataset_len(dataset)
        return [text(lib.azt_dataset_blob_name(dataset, index))[len(prefix) :] for index in range(count)]

    def _container(self) -> tuple[str, str]:
        """Return the URL of the container with the query, and what the names of the folder's blobs begin with."""
        dataset = UrlsSource([self.blob_url(METADATA)]).make_dataset(client_for(False))
        name = text(lib.azt_dataset_blob_name(dataset, 0))
        container_url = entry_url(dataset, 0).rsplit("/", name.count("/") + 1)[0]
        return self._with_query(container_url), name[: -len(METADATA)]

    def delete(self, name: str) -> None:
        """Delete a blob by its name below the folder. If it does not exist, do nothing."""
        with contextlib.suppress(exceptions.BlobNotFoundError):
            remove(self.blob_url(name), credential=self.credential)

    def delete_all(self, names: Iterable[str]) -> None:
        """Delete blobs, several at once. The first failure ends it."""
        tasks = [(0, functools.partial(self.delete, name)) for name in names]
        for _ in _threads.run(tasks, thread_count=_DELETIONS):
            pass


def is_folder_url(url: object) -> bool:
    """Whether a URL, with its scheme, names a folder of blobs. Nothing is sent."""
    if not isinstance(url, str) or url.partition("://")[0].lower() not in _SCHEMES:
        return False
    try:
        Folder(url, False)
    except ValueError:
        return False
    return True


def _host_of(url: str) -> str:
    scheme, _, rest = url.partition("://")
    # Of abfss://CONTAINER@HOST and the like, the host.
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}".lower()
