"""The shared library: its functions (`lib`), its types (`ffi`), and how its errors become exceptions.

Loading it has no side effects; its threads start with the first request.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from aztorch._native import abi

if TYPE_CHECKING:
    from collections.abc import Callable

ffi: Any = abi.ffi
lib: Any = ffi.dlopen(os.path.join(os.path.dirname(__file__), "_native", "libaztorch.so"))
new: Callable[..., Any] = ffi.new

CANCELLED: int = lib.AZT_STATUS_CANCELLED
FORKED: int = lib.AZT_STATUS_FORKED
BUFFER_TOO_SMALL: int = lib.AZT_STATUS_BUFFER_TOO_SMALL
UNKNOWN_SIZE = 2**64 - 1


def text(pointer: Any) -> str:
    """Return a C string of the library as `str`; "" for NULL."""
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode()


def failure(error: Any, cause: BaseException | None = None) -> BaseException:
    """Return the exception for an error of the library, which it frees. `error` is an `azt_error **`.

    Where a signal handler or a callback of Python raised an exception during the call, that exception is returned.
    `cause` is what the credential raised last; it is the cause if the call has failed for lack of a token.
    """
    from aztorch import exceptions

    handle = error[0]
    error[0] = ffi.NULL
    try:
        status = lib.azt_error_status(handle)
        interrupted = take_exception()
        if interrupted is not None and status == CANCELLED:
            return interrupted
        exception = exceptions.from_status(
            text(lib.azt_status_name(status))[len("AZT_STATUS_") :],
            text(lib.azt_error_message(handle)),
            http_status=lib.azt_error_http_status(handle) or None,
            error_code=text(lib.azt_error_service_code(handle)) or None,
            request_id=text(lib.azt_error_request_id(handle)) or None,
            retryable=bool(lib.azt_error_is_retryable(handle)),
        )
    finally:
        lib.azt_error_free(handle)
    if interrupted is not None:
        interrupted.__context__ = exception
        return interrupted
    if status == lib.AZT_STATUS_UNAUTHENTICATED:
        exception.__cause__ = cause
    return exception


def check(function: Any, *arguments: Any) -> None:
    """Call a function of the library that can fail, and raise its error."""
    error = new("azt_error **")
    if function(*arguments, error):
        raise failure(error)
    raise_noted()


def fill_buffer(function: Any, *arguments: Any, capacity: int) -> bytes:
    """Call a function of the library that fills a buffer, with a larger one if it asks for that.

    The function's last parameters are the buffer, its capacity and the size that was filled.
    """
    while True:
        buffer, size, error = new("char[]", capacity), new("size_t *"), new("azt_error **")
        status = function(*arguments, buffer, capacity, size, error)
        if not status:
            return bytes(ffi.buffer(buffer, size[0]))
        if status != BUFFER_TOO_SMALL:
            raise failure(error)
        lib.azt_error_free(error[0])
        # What is filled in may grow until the next call.
        capacity = size[0] + 64


class _OfThread(threading.local):
    """What a callback raised on this thread, inside of a call of the library, through which it cannot pass."""

    raised: BaseException | None = None


_of_thread = _OfThread()


def note_exception(_kind: type, exception: BaseException, _traceback: object) -> None:
    """Keep the exception of a callback: the `onerror` of cffi. The running call is ended soon, if it is interruptible."""
    _of_thread.raised = exception


def take_exception() -> BaseException | None:
    """Return what a callback raised on this thread since the last time."""
    raised = _of_thread.raised
    if raised is not None:
        _of_thread.raised = None
    return raised


def raise_noted() -> None:
    """Raise what a callback raised on this thread during a call that has succeeded nevertheless."""
    if _of_thread.raised is not None:
        raise take_exception() or SystemError


class _Interrupt:
    """Lets signal handlers run while the main thread is inside a call of the library.

    Python runs them only between bytecodes. The library calls `_ask` every few milliseconds while it waits, and so Python
    runs them there. If one raises (KeyboardInterrupt), the library ends the call.
    """

    def __init__(self) -> None:
        self._thread: int | None = None
        self._callback = ffi.callback("bool(void *)", self._ask, error=True, onerror=note_exception)
        os.register_at_fork(after_in_child=self._forget)
        self.install()

    def _ask(self, _user_data: Any) -> bool:
        # Signal handlers run while this is interpreted. Another callback may have raised, too.
        return _of_thread.raised is not None

    def install(self) -> None:
        """Set the callback of this thread, if it is the main thread: signal handlers run on no other."""
        thread = threading.get_ident()
        if thread == self._thread or threading.current_thread() is not threading.main_thread():
            return
        check(lib.azt_thread_set_interrupt_callback, self._callback, ffi.NULL)
        self._thread = thread

    def _forget(self) -> None:
        # The thread that forked is the main thread of the child.
        self._thread = None


install_interrupt = _Interrupt().install
