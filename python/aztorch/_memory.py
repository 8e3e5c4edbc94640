"""New `bytes` objects that the library fills, and the memory of its samples, without copies."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from aztorch._library import ffi, lib

if sys.implementation.name == "cpython":
    # C extensions fill a new `bytes` like this, before anything else can see it:
    # https://docs.python.org/3/c-api/bytes.html#c.PyBytes_FromStringAndSize
    _uninitialised = ctypes.pythonapi.PyBytes_FromStringAndSize
    _uninitialised.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t)
    _uninitialised.restype = ctypes.py_object

    def new_bytes(size: int) -> tuple[bytes, Any]:
        """Return a new `bytes` of unknown content, and its memory for the library to fill. `size` is at least 1."""
        made: bytes = _uninitialised(None, size)
        return made, ffi.from_buffer(made)

    def finish_bytes(made: bytes, memory: Any) -> bytes:  # noqa: ARG001
        """Return the `bytes` of `new_bytes`, once it is filled."""
        return made

else:

    def new_bytes(size: int) -> tuple[bytes, Any]:
        """Return nothing yet, and memory for the library to fill. `size` is at least 1."""
        return b"", ffi.new("char[]", size)

    def finish_bytes(made: bytes, memory: Any) -> bytes:  # noqa: ARG001
        """Return a copy of the filled memory as `bytes`."""
        return bytes(ffi.buffer(memory))


def own_sample(sample: Any) -> Any:
    """Return an `azt_sample *` that frees itself."""
    return ffi.gc(sample, lib.azt_sample_free)


def view_sample(sample: Any) -> memoryview:
    """Return the bytes of a sample, writable and without a copy. They live as long as the view."""
    size = lib.azt_sample_size(sample)
    if size == 0:
        return memoryview(bytearray())
    # The destructor refers to `sample`, which thus lives as long as the pointer, which lives as long as the view.
    pointer = ffi.gc(lib.azt_sample_data(sample), lambda _pointer, sample=sample: None)
    return memoryview(ffi.buffer(pointer, size))
