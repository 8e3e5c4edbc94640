"""One version of a blob, open for reading."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aztorch import exceptions
from aztorch._client import client_for
from aztorch._library import FORKED, check, failure, ffi, lib, new, raise_noted, text

if TYPE_CHECKING:
    from aztorch._client import Client, Credential
    from aztorch._entry import Entry
    from aztorch._progress import ProgressReport

# Larger reads are more than the library has read ahead.
_MOST_READ_AHEAD = 16 * 1024 * 1024
# Nobody replaces a blob within this time in seconds, after a program has seen a read return.
AT_ONCE = 0.001


class Reader:
    """One version of a blob, open for reading. In a forked process it opens the same version anew.

    :param url: with its query; not used for an entry of a dataset.
    :param wanted: the ETag that the blob must have, or "" for any.
    """

    def __init__(
        self,
        url: str,
        credential: Credential,
        entry: Entry | None,
        wanted: str,
        progress: ProgressReport | None,
    ) -> None:
        self._name = url.partition("?")[0] if entry is None else entry.url
        self._url = url
        self._entry = entry
        self._client: Client = client_for(credential) if entry is None else entry.client
        self._progress = progress
        self._received = 0
        self._next_confirmation = 0.0
        self._handle: Any = None
        # The position of the handle.
        self._position = 0
        self.size = 0
        self.etag = wanted
        self.last_read = 0.0
        self._open()

    def _open(self) -> None:
        opened, error = new("azt_blob **"), new("azt_error **")
        if self._entry is not None:
            status = self._entry.open(opened, error)
        else:
            status = lib.azt_blob_open(self._client.handle, self._url.encode(), lib.AZT_BLOB_MODE_READ, opened, error)
        if status:
            raise failure(error, self._client.cause())
        raise_noted()
        handle = ffi.gc(opened[0], lib.azt_blob_free)
        etag = text(lib.azt_blob_etag(handle))
        if self.etag:
            self._require(etag)
        size = new("uint64_t *")
        check(lib.azt_blob_size, handle, size)
        self._handle, self._position, self.size, self.etag = handle, 0, size[0], etag
        self.last_read = time.monotonic()
        if self._progress is not None:
            self._progress.attach(handle, self._name)

    def _require(self, etag: str) -> None:
        if etag.strip('"') != self.etag.strip('"'):
            message = f"{self._name}: the blob has the version {etag} and no longer {self.etag}"
            raise exceptions.BlobModifiedError(message)

    def receive(self, position: int, memory: Any, count: int) -> None:
        """Fill `memory` with the `count` bytes at a position, which must be there."""
        self.confirm(count)
        read = new("size_t *")
        while True:
            if self._position != position and not self._call(lib.azt_blob_seek, position, lib.AZT_SEEK_SET, ffi.NULL):
                continue
            # The position is unknown if a progress function raises.
            self._position = -1
            if self._call(lib.azt_blob_read, memory, count, read):
                break
        if read[0] != count:
            raise exceptions.InternalError(f"{self._name}: {read[0]} bytes were read in place of {count}")
        self._position = position + count
        if self._entry is not None:
            self._received += count
            self._entry.habit.note(self._received, self.size)
        self.last_read = time.monotonic()

    def confirm(self, count: int) -> None:
        """Raise if the blob was replaced since the last read, also where the library has the bytes already.

        A request finds out. Reads that follow each other at once need none, nor do large reads, which send requests
        anyway; and the requests take a twentieth of the time at most.

        :param count: how many bytes will be read.
        """
        start = time.monotonic()
        if count > _MOST_READ_AHEAD or start - self.last_read < AT_ONCE or start < self._next_confirmation:
            return
        url = self._url if self._entry is None else self._entry.locate()
        if url is None:
            return
        opened = new("azt_blob **")
        # No body is sent, and `opened` stays NULL, if the version is the same.
        self._client.check(lib.azt_blob_open_if_changed, self._client.handle, url.encode(), self.etag.encode(), opened)
        if opened[0] != ffi.NULL:
            etag = text(lib.azt_blob_etag(opened[0]))
            lib.azt_blob_free(opened[0])
            self._require(etag)
        now = time.monotonic()
        self._next_confirmation = now + 20 * (now - start)

    def _call(self, function: Any, *arguments: Any) -> bool:
        """Call a function of the handle. In a forked process, open it anew and return False."""
        error = new("azt_error **")
        status = function(self._handle, *arguments, error)
        if status:
            raised = failure(error, self._client.cause())
            if status != FORKED:
                raise raised
            self._open()
            return False
        raise_noted()
        return True
