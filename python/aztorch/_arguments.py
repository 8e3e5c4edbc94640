"""Checks of arguments: URLs, numbers, memory."""

from __future__ import annotations

import operator
import sys
from typing import Any

from aztorch._client import check_no_nul, client_for
from aztorch._library import failure, ffi, lib, new

# What names a version in the query of a URL.
_VERSIONS = ("snapshot", "versionid")


class _UrlTypeError(TypeError, ValueError):
    """A URL that is no string: a TypeError in Python, and a ValueError in azstoragetorch."""


def complete_url(url: object) -> str:
    """Return a URL with its scheme, which is https unless it is given."""
    if not isinstance(url, str):
        raise _UrlTypeError(f"a URL must be a string, not: {type(url)}")
    check_no_nul("a URL", url)
    return url if "://" in url else f"https://{url}"


def check_blob_url(url: str, *, reads: bool = False) -> None:
    """Raise ValueError if a blob's URL is malformed. Nothing is sent."""
    opened = new("azt_blob **")
    error = new("azt_error **")
    if reads:
        # It is opened for writing below, where versions are refused.
        path, question_mark, query = url.partition("?")
        parts = query.split("&")
        url = path + question_mark + "&".join(part for part in parts if part.partition("=")[0] not in _VERSIONS)
    # A writer sends nothing before its first block.
    if lib.azt_blob_open(client_for(False).handle, url.encode(), lib.AZT_BLOB_MODE_WRITE, opened, error):
        raise failure(error)
    lib.azt_blob_free(opened[0])


def has_sas(url: str) -> bool:
    """Whether a URL has a SAS, which then takes the place of the credential."""
    return any(part.partition("=")[0] == "sig" for part in url.partition("?")[2].split("&"))


def as_integer(name: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, not: {type(value)}") from None


def has_buffer(data: object) -> bool:
    try:
        memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


class _StridedError(BufferError, TypeError):
    """Memory with gaps: a BufferError in Python, and a TypeError in azstoragetorch."""


def memory_of(data: object) -> Any:
    if not memoryview(data).c_contiguous:  # type: ignore[arg-type]
        raise _StridedError("memory that is not contiguous cannot be read or written")
    return ffi.from_buffer(data)


def caller(depth: int) -> Any:
    """Return the frame `depth` calls above the function that calls this, or None if there is none.

    Threads that were started in C have no frame below the first function of Python.
    """
    frame: Any = sys._getframe(1)  # noqa: SLF001
    for _ in range(depth):
        if frame is None:
            return None
        frame = frame.f_back
    return frame
