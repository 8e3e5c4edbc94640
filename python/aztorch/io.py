"""File-like objects over blobs.

:class:`BlobIO` is a binary file. :func:`open` also has text modes.
"""

from __future__ import annotations

import io
import os
import time
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Literal, Union, overload

from aztorch import exceptions
from aztorch._arguments import as_integer, caller, check_blob_url, complete_url, has_buffer, has_sas, memory_of
from aztorch._client import Client, check_credential, check_no_nul, client_for, is_token
from aztorch._library import check, failure, ffi, lib, new, raise_noted, text
from aztorch._memory import finish_bytes, new_bytes
from aztorch._progress import ProgressReport
from aztorch._reader import AT_ONCE, Reader
from aztorch._text_file import TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Buffer, Self, TypeAlias

    from aztorch._client import Credential
    from aztorch._entry import Entry

__all__ = ["BlobIO", "open"]

Progress: TypeAlias = Union[bool, "Callable[[int, int | None], object]", None]

_MODES = {"rb": lib.AZT_BLOB_MODE_READ, "wb": lib.AZT_BLOB_MODE_WRITE, "xb": lib.AZT_BLOB_MODE_CREATE}
# How many bytes readline() takes from the library at a time. The library itself reads further ahead. 256 KiB stay in
# the processor's cache.
_LINES_SIZE = 256 * 1024
# The modules of torch that write archives by its writer in C++, which ends the process when a write raises.
_ARCHIVE_MODULES = ("torch.serialization", "torch.export.", "torch.package.")
_LONGEST_MODE = 20
_BUFFER_TYPES = (bytes, bytearray, memoryview)


if TYPE_CHECKING:

    class _BinaryFile(io.BufferedIOBase, BinaryIO):
        """So that a type checker takes a BlobIO for what ``torch.save`` and others ask for."""

else:
    _BinaryFile = io.BufferedIOBase


class _HiddenFromOldFormat:
    """Hides readinto() from torch's reader of its old format, which then calls read().

    That reader is in C++. When readinto() raises, it calls into Python with the exception still set, which hides the
    exception or crashes the process. When read() raises, it does not.
    """

    def __init__(self, function: Any) -> None:
        self._function = function

    def __get__(self, instance: Any, owner: type) -> Any:
        # C++ has no frame of its own.
        frame = caller(1)
        if (
            frame is not None
            and frame.f_code.co_name == "_legacy_load"
            and frame.f_globals.get("__name__") == "torch.serialization"
        ):
            raise AttributeError("readinto")
        return self._function.__get__(instance, owner)


class BlobIO(_BinaryFile):
    """A blob as a binary file, for reading or for writing: for ``torch.save``, ``torch.load`` and whatever takes a file.

    Opening sends nothing. A blob that does not exist is reported by the first read or seek.

    **Reading.** The first read pins the version: if the blob is replaced later, reads raise
    :class:`~aztorch.exceptions.BlobModifiedError`, and never mix two versions. Large reads are received in parallel,
    straight into the memory that is returned. A reader can be pickled, and works in a forked process.

    **Writing.** Data is sent in the background. :meth:`close` publishes the blob as a whole: before, nothing can be
    seen, and an existing blob stays. If the ``with`` block ends by an exception, or the object is garbage-collected
    without :meth:`close`, everything is discarded (with a ``ResourceWarning`` in the latter case).

    One thread at a time, as for other files. No call holds the GIL while it waits, and Ctrl-C ends it.

    :param blob_url: the URL of the blob, ``https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB``. Its query may have a
        SAS, ``snapshot=`` and ``versionid=``, which are honoured. A SAS takes the place of `credential`.
    :param mode: ``"rb"`` to read, ``"wb"`` to write or replace, ``"xb"`` to write a new blob (if it exists,
        :meth:`write`, :meth:`flush` or :meth:`close` raises an error that is also a ``FileExistsError``).
    :param credential: None for a credential from the environment, False for anonymous access, an
        ``azure.core.credentials.AzureSasCredential``, or any object that has ``get_token``, such as those of
        azure-identity. Tokens are only sent over https.
    :param if_match: an ETag. A reader raises :class:`~aztorch.exceptions.BlobModifiedError` if the blob has another one;
        a writer publishes only if the blob still has it.
    :param progress: True to show a bar if tqdm is installed, or a function that is called with the bytes done and their
        total (None while it is not known), about ten times a second, on the thread that reads or writes.
    :raises ValueError: for a bad URL or mode.
    :raises TypeError: for a credential of no supported kind.
    """

    _closed = True  # until __init__ has succeeded

    def __init__(
        self,
        blob_url: str,
        mode: Literal["rb", "wb", "xb"],
        *,
        credential: Credential = None,
        if_match: str | None = None,
        progress: Progress = None,
    ) -> None:
        if not isinstance(mode, str) or mode not in _MODES:
            # A longer one may be a URL with a SAS, in the wrong place.
            shown = mode if not isinstance(mode, str) or len(mode) <= _LONGEST_MODE else "…"
            raise ValueError(f"Unsupported mode: {shown}. It is one of: {', '.join(_MODES)}")
        check_credential(credential)
        url = complete_url(blob_url)
        if if_match is not None:
            if not isinstance(if_match, str):
                raise TypeError(f"if_match must be a string, not: {type(if_match)}")
            check_no_nul("if_match", if_match)
            if not if_match:
                raise ValueError("if_match must be an ETag, and is empty")
        if mode == "xb" and if_match is not None:
            raise ValueError('if_match is for blobs that exist, and mode "xb" is for new ones')
        check_blob_url(url, reads=mode == "rb")
        if has_sas(url):
            credential = False
        elif is_token(credential) and url.lower().startswith("http:"):
            raise ValueError("Token credential is only supported with HTTPS.")
        self._set_up(url, mode, credential, if_match, progress, None)

    def _set_up(
        self,
        url: str,
        mode: str,
        credential: Credential,
        if_match: str | None,
        progress: Progress,
        entry: Entry | None,
    ) -> None:
        self._url = url
        self._mode = mode
        self._reads = mode == "rb"
        self._credential = credential
        self._if_match = if_match
        self._entry = entry
        self._reader: Reader | None = None
        # These belong to a writer.
        self._client: Client | None = None
        self._handle: Any = None
        self._position = 0
        self._etag = ""
        # Buffered for readline(), and how much of it has been returned.
        self._lines = b""
        self._lines_used = 0
        # The whole content of an entry of a dataset.
        self._content = b""
        self._has_content = False
        self._error: BaseException | None = None
        self._error_was_raised = True
        self._progress = ProgressReport(progress) if progress else None
        self._process = os.getpid()
        self._closed = False

    @classmethod
    def _of_entry(cls, entry: Entry) -> Self:
        """Return a reader of an entry of a dataset."""
        made = cls.__new__(cls)
        made._set_up(entry.url, "rb", None, None, None, entry)  # noqa: SLF001
        return made

    # ---- state ----

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._closed

    @property
    def mode(self) -> str:
        """``"rb"``, ``"wb"`` or ``"xb"``."""
        return self._mode

    @property
    def name(self) -> str:
        """The URL of the blob without its query, and so without a SAS."""
        return self._entry.url if self._entry is not None else self._url.partition("?")[0]

    @property
    def etag(self) -> str | None:
        """The version: of a reader the one that it reads, of a writer the one that :meth:`close` published.

        A string in quotes, as the service gives it. None before the first read, or before :meth:`close`; also for a blob
        of a dataset that was fetched as a whole.
        """
        return self._etag or None

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<{type(self).__module__}.{type(self).__qualname__} {self.name!r} mode={self._mode!r}{state}>"

    def readable(self) -> bool:
        """Return whether the file can be read.

        :raises ValueError: if it is closed and was open for reading.
        """
        if self._reads:
            self._check_open()
        return self._reads

    def writable(self) -> bool:
        """Return whether the file can be written to.

        :raises ValueError: if it is closed and was open for writing.
        """
        if not self._reads:
            self._check_open()
        return not self._reads

    def seekable(self) -> bool:
        """Return whether :meth:`seek` works: for readers.

        :raises ValueError: if it is closed and was open for reading.
        """
        return self.readable()

    def fileno(self) -> int:
        """Raise ``io.UnsupportedOperation``: a blob has no file descriptor."""
        raise io.UnsupportedOperation("BlobIO object has no fileno")

    def detach(self) -> io.RawIOBase:
        """Raise ``io.UnsupportedOperation``: there is no raw stream below."""
        raise io.UnsupportedOperation("detach")

    def tell(self) -> int:
        """Return the position in bytes; of a writer, how many bytes were written."""
        self._check_open()
        return self._position

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file")

    def _check_reads(self, operation: str) -> None:
        if not self._reads:
            raise io.UnsupportedOperation(operation)
        if self._closed:
            raise ValueError("I/O operation on closed file")

    # ---- reading ----

    def read(self, size: int | None = -1, /) -> bytes:
        """Read and return up to `size` bytes.

        :param size: how many. None and -1 mean everything that is left.
        :returns: the bytes; fewer than `size` only at the end of the blob, and ``b""`` there.
        :raises TypeError: if `size` is no integer.
        :raises ValueError: if `size` is less than -1, or the file is closed.
        :raises io.UnsupportedOperation: in a writer.
        :raises aztorch.exceptions.StorageError: if the service cannot be read from.
        """
        wanted = -1 if size is None else as_integer("size", size)
        if wanted < -1:
            raise ValueError("size must be greater than or equal to -1")
        self._check_reads("read")
        if wanted == 0:
            return b""
        reader = self._open_reader(takes_all=wanted == -1 and self._position == 0)
        if reader is None:
            return self._take_content(wanted)
        if self._lines:
            left = len(self._lines) - self._lines_used
            if 0 <= wanted <= left:
                reader.confirm(wanted)
                return self._take_lines(wanted)
            self._drop_lines()
        return self._fetch(reader, wanted)

    def read1(self, size: int | None = -1, /) -> bytes:
        """Read and return up to `size` bytes; by default at most 256 KiB. Otherwise like :meth:`read`."""
        wanted = -1 if size is None else as_integer("size", size)
        return self.read(wanted if wanted >= 0 else _LINES_SIZE)

    def readall(self) -> bytes:
        """Read and return everything that is left."""
        return self.read(-1)

    def readinto(self, buffer: Buffer, /) -> int:
        """Read into `buffer`, straight from the network, and return how many bytes were read.

        :param buffer: a writable object with contiguous memory: a bytearray, a memoryview, a NumPy array.
        :returns: the size of `buffer` in bytes, or less at the end of the blob.
        """
        if not has_buffer(buffer) or memoryview(buffer).readonly:
            raise TypeError(f"readinto() needs a writable bytes-like object, not {type(buffer)}")
        target = memory_of(buffer)
        try:
            return self._read_into(target)
        finally:
            # A traceback may refer to this frame for longer than the memory exists: torch's is not its memoryview's.
            ffi.release(target)

    def _read_into(self, target: Any) -> int:
        self._check_reads("read")
        wanted = len(target)
        if wanted == 0:
            return 0
        reader = self._open_reader()
        left = len(self._lines) - self._lines_used
        if reader is None or wanted <= left:
            data = self.read(wanted)
            ffi.memmove(target, data, len(data))
            return len(data)
        self._drop_lines()
        count = min(wanted, reader.size - self._position)
        if count <= 0:
            return 0
        reader.receive(self._position, target, count)
        self._position += count
        return count

    if not TYPE_CHECKING:
        readinto = _HiddenFromOldFormat(readinto)

    def readinto1(self, buffer: Buffer, /) -> int:
        """Do the same as :meth:`readinto`."""
        return self.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        r"""Read and return one line, with its ``b"\n"``; the last one may have none.

        :param size: the most bytes to return. None and negative numbers mean no limit.
        :returns: the line; ``b""`` at the end of the blob.
        """
        limit = -1 if size is None else as_integer("size", size)
        self._check_reads("read")
        if limit == 0:
            return b""
        reader = self._open_reader()
        if reader is None:
            return self._take_content(_line_length(self._content, self._position, limit))
        start = self._position
        parts: list[bytes] = []
        taken = 0
        try:
            while True:
                used = self._lines_used
                end = self._lines.find(b"\n", used, len(self._lines) if limit < 0 else used + limit - taken) + 1
                if not end:
                    end = len(self._lines) if limit < 0 else min(len(self._lines), used + limit - taken)
                part = self._take_lines(end - used)
                taken += len(part)
                if part.endswith(b"\n") or taken == limit:
                    return part if not parts else b"".join([*parts, part])
                parts.append(part)
                self._drop_lines()
                lines = self._fetch(reader, _LINES_SIZE)
                if not lines:
                    return b"".join(parts)
                self._position -= len(lines)
                self._lines, self._lines_used = lines, 0
        except BaseException:
            self._drop_lines()
            self._position = start
            raise

    def __iter__(self) -> Iterator[bytes]:
        """Return the file itself, as an iterator over its lines."""
        self._check_open()
        return self

    def __next__(self) -> bytes:
        """Return the next line."""
        used = self._lines_used
        end = self._lines.find(b"\n", used) + 1
        if end:
            self._lines_used = end
            self._position += end - used
            return self._lines[used:end]
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position, and return it. A position past the end is allowed: reads there return ``b""``.

        :param offset: in bytes, from the place that `whence` names.
        :param whence: ``os.SEEK_SET`` (the start), ``os.SEEK_CUR`` (the position) or ``os.SEEK_END`` (the end).
        :raises ValueError: for a position before the start, and for another `whence`. The position does not change.
        :raises io.UnsupportedOperation: in a writer.
        """
        offset = as_integer("offset", offset)
        whence = as_integer("whence", whence)
        self._check_reads("seek")
        reader = self._open_reader()
        size = len(self._content) if reader is None else reader.size
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}.get(whence)
        if base is None:
            raise ValueError(f"Unsupported whence: {whence}")
        position = base + offset
        if position < 0:
            raise ValueError("Cannot seek to negative position")
        moved = self._lines_used + position - self._position
        # Lines that were fetched earlier are fetched again, which confirms the version.
        if reader is not None and 0 <= moved <= len(self._lines) and time.monotonic() - reader.last_read < AT_ONCE:
            self._lines_used = moved
        else:
            self._drop_lines()
        self._position = position
        return position

    def _take_lines(self, count: int) -> bytes:
        used = self._lines_used
        self._lines_used = used + count
        self._position += count
        return self._lines[used : used + count]

    def _drop_lines(self) -> None:
        self._lines, self._lines_used = b"", 0

    def _take_content(self, wanted: int) -> bytes:
        end = len(self._content) if wanted < 0 else self._position + wanted
        data = self._content[self._position : end]
        self._position += len(data)
        return data

    def _fetch(self, reader: Reader, wanted: int) -> bytes:
        left = reader.size - self._position
        count = left if wanted < 0 or wanted > left else wanted
        if count <= 0:
            return b""
        data, memory = new_bytes(count)
        reader.receive(self._position, memory, count)
        self._position += count
        return finish_bytes(data, memory)

    def _open_reader(self, *, takes_all: bool = False) -> Reader | None:
        """Open the blob, unless it is open: from here on the version is pinned.

        An entry of a dataset that has been fetched ahead, or is read as a whole, is fetched as a whole.

        :returns: None if there is the whole content.
        """
        if self._reader is not None or self._has_content:
            return self._reader
        entry = self._entry
        if entry is not None and not self._etag and (takes_all or entry.is_at_hand()):
            self._content, self._has_content = entry.fetch(), True
            return None
        wanted = self._etag or self._if_match or ""
        self._reader = Reader(self._url, self._credential, entry, wanted, self._progress)
        self._etag = self._reader.etag
        return self._reader

    # ---- writing ----

    def write(self, b: Buffer, /) -> int:
        """Write all of `b`, and return its size in bytes.

        Small writes are copied and sent in the background. A failure in the background is raised by a later call.

        :param b: bytes, bytearray, memoryview or another object with contiguous memory. Items of a memoryview count by
            their size in bytes.
        :raises TypeError: for other objects.
        :raises BufferError: for memory that is not contiguous.
        :raises io.UnsupportedOperation: in a reader.
        :raises ValueError: if the file is closed.
        :raises aztorch.exceptions.FatalBlobIOWriteError: if a write failed, from then on by every call. Nothing is
            published. While ``torch.save`` writes an archive, its :meth:`flush` at the end raises it instead, since
            torch ends the process when a write raises.
        """
        if not (isinstance(b, _BUFFER_TYPES) or has_buffer(b)):
            names = ", ".join(kind.__name__ for kind in _BUFFER_TYPES)
            raise TypeError(f"Unsupported type for write: {type(b)}. Supported types: {names} and other buffers")
        if self._reads:
            raise io.UnsupportedOperation("write")
        if self._closed:
            raise ValueError("I/O operation on closed file")
        memory = memory_of(b)
        size = len(memory)
        try:
            if self._error is not None:
                raise self._error
            self._call_writer(lib.azt_blob_write, memory, size)
        except BaseException as error:
            if not _is_torch_archive(caller(1)):
                self._error_was_raised = True
                raise
            self._error = error
            self._error_was_raised = False
        finally:
            # So that a bytearray can be resized again, even while a traceback refers to this frame.
            ffi.release(memory)
        self._position += size
        return size

    def flush(self) -> None:
        """Wait until everything that was written has arrived at the service. Nothing is published. For a reader, it does nothing.

        :raises ValueError: if the file is closed.
        :raises aztorch.exceptions.FatalBlobIOWriteError: if a write failed.
        """
        self._check_open()
        if self._reads:
            return
        if self._error is not None:
            self._error_was_raised = True
            raise self._error
        if self._handle is not None:
            self._call_writer(lib.azt_blob_flush)

    def close(self) -> None:
        """Close the file. A writer publishes what was written, as a whole; without a write, it publishes an empty blob.

        A later call does nothing, also after a failure.

        :raises aztorch.exceptions.FatalBlobIOWriteError: if the blob could not be published. The old one is still there,
            unless the message says that the outcome is unknown.
        """
        if self._closed:
            return
        try:
            if self._reads:
                return
            if self._error is not None:
                raise self._error
            self._call_writer(lib.azt_blob_close)
            self._etag = text(lib.azt_blob_etag(self._handle))
            raise_noted()
        finally:
            self._release()

    def discard(self) -> None:
        """Close the file, and publish nothing that was written. It never raises, and may be called again."""
        self._release()

    def __enter__(self) -> Self:
        """Return the file itself."""
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file. If the block ended by an exception, a writer discards what was written."""
        if kind is not None and not self._reads:
            self.discard()
        else:
            self.close()

    def __del__(self) -> None:
        """Discard what a writer has not published."""
        self._discard_unclosed(stacklevel=3)

    def _discard_unclosed(self, stacklevel: int) -> None:
        if self._closed:
            return
        if not self._reads and self._process == os.getpid():
            message = f"unclosed {self!r}: what was written is discarded"
            if self._error is not None and not self._error_was_raised:
                message += f", and a write had failed: {self._error}"
            warnings.warn(message, ResourceWarning, stacklevel=stacklevel, source=self)
        self._release()

    def _release(self) -> None:
        self._closed = True
        self._drop_lines()
        self._content = b""
        # Freed with the last reference: another thread may still be inside a call.
        self._handle = self._reader = None
        if self._progress is not None:
            self._progress.close()

    def _call_writer(self, function: Any, *arguments: Any) -> None:
        error = new("azt_error **")
        try:
            if self._process != os.getpid():
                raise exceptions.OperationCancelledError(f"{self.name}: the writer was opened before a fork")
            if self._handle is None:
                self._open_writer()
            if function(self._handle, *arguments, error):
                raise failure(error, None if self._client is None else self._client.cause())
            # What is published by close() has not failed.
            if function is not lib.azt_blob_close:
                raise_noted()
        except BaseException as cause:
            self._error = exceptions.for_writer(cause)
            if not isinstance(cause, Exception):
                # KeyboardInterrupt: later calls raise the error.
                raise
            raise self._error from cause

    def _open_writer(self) -> None:
        self._client = client_for(self._credential)
        opened = new("azt_blob **")
        check(lib.azt_blob_open, self._client.handle, self._url.encode(), _MODES[self._mode], opened)
        handle = ffi.gc(opened[0], lib.azt_blob_free)
        if self._if_match is not None:
            check(lib.azt_blob_set_if_match, handle, self._if_match.encode())
        self._handle = handle
        if self._progress is not None:
            self._progress.attach(handle, self.name)

    # ---- pickling ----

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a reader with its position. It reads the same version then, or raises."""
        if not self._reads:
            raise TypeError("cannot pickle a BlobIO that writes")
        self._check_open()
        if self._entry is not None:
            content = self._content if self._has_content else None
            return _reader_of_entry, (type(self), self._entry, self._position, self._etag, content)
        state = (type(self), self._url, self._credential, self._if_match, self._position, self._etag)
        return _reader, state

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        """Pickle it the same way with every protocol."""
        return self.__reduce__()


def _reader(
    kind: type[BlobIO], url: str, credential: Credential, if_match: str | None, position: int, etag: str
) -> BlobIO:
    made = kind.__new__(kind)
    made._set_up(url, "rb", credential, if_match, None, None)  # noqa: SLF001
    made._position, made._etag = position, etag  # noqa: SLF001
    return made


def _reader_of_entry(kind: type[BlobIO], entry: Entry, position: int, etag: str, content: bytes | None) -> BlobIO:
    made = kind._of_entry(entry)  # noqa: SLF001
    made._position, made._etag = position, etag  # noqa: SLF001
    if content is not None:
        made._content, made._has_content = content, True  # noqa: SLF001
    return made


def _line_length(content: bytes, start: int, limit: int) -> int:
    end = content.find(b"\n", start, len(content) if limit < 0 else start + limit) + 1
    if end:
        return end - start
    left = max(len(content) - start, 0)
    return left if limit < 0 else min(left, limit)


def _is_torch_archive(frame: Any) -> bool:
    # torch's writer of archives is in C++ and has no frame of its own, so the caller is the module that drives it.
    return frame is not None and str(frame.f_globals.get("__name__")).startswith(_ARCHIVE_MODULES)


@overload
def open(
    url: str,
    mode: Literal["rb", "wb", "xb"],
    *,
    credential: Credential = None,
    if_match: str | None = None,
    progress: Progress = None,
) -> BlobIO: ...
@overload
def open(
    url: str,
    mode: Literal["r", "rt", "w", "wt", "x", "xt"] = "r",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    credential: Credential = None,
    if_match: str | None = None,
    progress: Progress = None,
) -> io.TextIOWrapper: ...
def open(
    url: str,
    mode: str = "r",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    credential: Credential = None,
    if_match: str | None = None,
    progress: Progress = None,
) -> BlobIO | io.TextIOWrapper:
    """Open a blob like a file.

    :param url: the URL of the blob, as for :class:`BlobIO`.
    :param mode: ``"r"``, ``"w"`` or ``"x"`` (create only) for text; with ``"b"`` for bytes, and with ``"t"`` also text.
    :param encoding: of text modes; UTF-8 by default, on every machine.
    :param errors: of text modes, as for Python's ``open``.
    :param newline: of text modes, as for Python's ``open``.
    :param credential: as for :class:`BlobIO`.
    :param if_match: as for :class:`BlobIO`.
    :param progress: as for :class:`BlobIO`.
    :returns: a :class:`BlobIO` in binary modes, otherwise an ``io.TextIOWrapper`` over one. Both publish nothing if a
        ``with`` block ends by an exception.
    :raises ValueError: for a bad URL or mode.
    """
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a string, not: {type(mode)}")
    if len(mode) > _LONGEST_MODE:
        raise ValueError("Unsupported mode. It is r, w or x, and b for bytes")
    binary = "b" in mode
    kind = mode.replace("b", "", 1).replace("t", "", 1)
    if kind not in ("r", "w", "x") or ("b" in mode and "t" in mode):
        raise ValueError(f"Unsupported mode: {mode}. It is r, w or x, and b for bytes")
    if binary and not (encoding is errors is newline is None):
        raise ValueError("encoding, errors and newline are for text modes")
    blob = BlobIO(url, f"{kind}b", credential=credential, if_match=if_match, progress=progress)  # type: ignore[arg-type]
    if binary:
        return blob
    try:
        return TextFile(blob, encoding=encoding or "utf-8", errors=errors, newline=newline, chunk_size=_LINES_SIZE)
    except BaseException:
        blob.discard()
        raise
