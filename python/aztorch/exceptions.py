"""The exceptions of aztorch.

Every failure of the storage service is an :class:`AZStorageTorchError`. Where the package ``azure-core`` is installed,
it also has the type that Azure's own packages raise, so that code written for them still catches it. It also has the
type of Python's own that fits::

    try:
        aztorch.open(url, "rb").read()
    except FileNotFoundError:                          # or azure.core.exceptions.ResourceNotFoundError
        ...

Wrong arguments are ``TypeError`` and ``ValueError``, operations that a mode does not have are
``io.UnsupportedOperation``, as for Python's own files.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any


class AZStorageTorchError(Exception):
    """Base class of the exceptions of aztorch. The name is the same as in ``azstoragetorch``."""


class StorageError(AZStorageTorchError):
    """A request to the storage service failed.

    :ivar status_code: the HTTP status of the response, or None if there was none.
    :ivar error_code: the service's own code, such as ``"BlobNotFound"``, or None.
    :ivar request_id: the service's request ID, which Azure's support asks for, or None.
    :ivar retryable: whether the same call may succeed later. The library has already retried it.
    """

    status_code: int | None = None
    error_code: str | None = None
    request_id: str | None = None
    retryable: bool = False

    def __init__(self, message: str = "", *_: object) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # azure-core's exceptions refer to a traceback, which cannot be pickled.
        state = {name: getattr(self, name) for name in ("status_code", "error_code", "request_id", "retryable")}
        return type(self), (self.message,), state


class FatalBlobIOWriteError(AZStorageTorchError):
    """A write to a blob failed. Nothing that was written is published, and the writer cannot be used any more.

    To try again, open a new writer and write everything again. ``__cause__`` is the reason.

    :param underlying_exception: the reason.
    """

    _MSG_FORMAT = (
        "Fatal error occurred while writing data. No data written using this BlobIO instance will be committed to blob. "
        "Encountered exception:\n{underlying_exception}"
    )
    _OUTCOME_UNKNOWN = "Fatal error occurred while committing the blob. Encountered exception:\n{underlying_exception}"

    def __init__(self, underlying_exception: BaseException | str) -> None:
        text = str(underlying_exception) or type(underlying_exception).__name__
        # If the response to the commit was lost, the blob may be the new one. The message of the library contains this.
        form = self._OUTCOME_UNKNOWN if "outcome is unknown" in text else self._MSG_FORMAT
        # A worker of a DataLoader makes the exception anew from its whole message.
        already = text.startswith("Fatal error occurred") or "\nFatal error occurred" in text
        super().__init__(text if already else form.format(underlying_exception=text))


class BlobExistsWriteError(FatalBlobIOWriteError, FileExistsError):
    """The blob of a writer in mode ``"xb"`` exists already."""


class BlobModifiedWriteError(FatalBlobIOWriteError):
    """The blob does not have the version of ``if_match``, or another writer published first."""


class ClientRequestIdMismatchError(AZStorageTorchError):
    """Never raised. It exists because code written for ``azstoragetorch`` may name it.

    There, a connection that was shared by a fork could deliver the response to another request. Here, a forked process
    opens connections of its own.
    """


class OperationCancelledError(AZStorageTorchError):
    """The operation was cancelled."""


class InternalError(AZStorageTorchError, RuntimeError):
    """The library has a bug. Please report it."""


if TYPE_CHECKING:

    class BlobNotFoundError(StorageError, FileNotFoundError):
        """The blob or the container does not exist."""

    class BlobExistsError(StorageError, FileExistsError):
        """The blob or the container exists already."""

    class BlobModifiedError(StorageError):
        """The blob was replaced while it was read, or another writer published first."""

    class AuthenticationError(StorageError, PermissionError):
        """There is no credential, or the service does not accept it (HTTP 401, 403 AuthenticationFailed)."""

    class PermissionDeniedError(StorageError, PermissionError):
        """The credential does not permit the operation (HTTP 403)."""

    class RequestRejectedError(StorageError):
        """The service refused the request with another HTTP 4xx status."""

    class ThrottledError(StorageError):
        """The service still asked the client to slow down (HTTP 429, 503) after all retries."""

    class ServiceUnavailableError(StorageError, ConnectionError):
        """The service answered with HTTP 408 or 5xx after all retries."""

    class ServiceConnectionError(StorageError, ConnectionError):
        """No connection could be made, or it broke, after all retries."""

    class CallTimeoutError(StorageError, TimeoutError):
        """No response arrived before the deadline."""

    class CorruptDataError(StorageError):
        """Received data has a wrong length or checksum, or an archive or a manifest is damaged."""


# The failures of the service: the type of Python's own and the types of azure-core that each also has. Of the latter it
# is the first that the installed version knows.
_KINDS: dict[str, tuple[type[Exception] | None, tuple[str, ...], str]] = {
    "BlobNotFoundError": (FileNotFoundError, ("ResourceNotFoundError",), "The blob or the container does not exist."),
    "BlobExistsError": (FileExistsError, ("ResourceExistsError",), "The blob or the container exists already."),
    "BlobModifiedError": (
        None,
        ("ResourceModifiedError",),
        "The blob was replaced while it was read, or another writer published first.",
    ),
    "AuthenticationError": (
        PermissionError,
        ("ClientAuthenticationError",),
        "There is no credential, or the service does not accept it (HTTP 401, or 403 with the code AuthenticationFailed).",
    ),
    "PermissionDeniedError": (
        PermissionError,
        ("HttpResponseError",),
        "The credential does not permit the operation (HTTP 403).",
    ),
    "RequestRejectedError": (
        None,
        ("HttpResponseError",),
        "The service refused the request with another HTTP 4xx status.",
    ),
    "ThrottledError": (
        None,
        ("HttpResponseError",),
        "The service still asked the client to slow down (HTTP 429, 503) after all retries.",
    ),
    "ServiceUnavailableError": (
        ConnectionError,
        ("HttpResponseError",),
        "The service answered with HTTP 408 or 5xx after all retries.",
    ),
    "ServiceConnectionError": (
        ConnectionError,
        ("ServiceRequestError",),
        "No connection could be made, or it broke, after all retries.",
    ),
    "CallTimeoutError": (
        TimeoutError,
        ("ServiceResponseTimeoutError", "ServiceResponseError"),
        "No response arrived before the deadline.",
    ),
    "CorruptDataError": (
        None,
        ("IncompleteReadError", "HttpResponseError"),
        "Received data has a wrong length or checksum, or an archive or a manifest is damaged.",
    ),
}


def __getattr__(name: str) -> Any:
    # Made when needed, since importing azure-core takes longer than all of this package.
    if name not in _KINDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    own, azure_names, documentation = _KINDS[name]
    bases: list[type] = [StorageError]
    azure = _azure_exceptions()
    bases += [getattr(azure, found) for found in azure_names if hasattr(azure, found)][:1]
    bases += [own] if own is not None else []
    made = type(name, tuple(bases), {"__module__": __name__, "__doc__": documentation})
    # Another thread may have made it meanwhile.
    return globals().setdefault(name, made)


def _azure_exceptions() -> object:
    try:
        from azure.core import exceptions
    except ImportError:
        return None
    return exceptions


def __dir__() -> list[str]:
    return sorted({*globals(), *_KINDS})


# The names of the statuses of the C API, without AZT_STATUS_.
_OF_SERVICE = {
    "NOT_FOUND": "BlobNotFoundError",
    "ALREADY_EXISTS": "BlobExistsError",
    "MODIFIED": "BlobModifiedError",
    "UNAUTHENTICATED": "AuthenticationError",
    "PERMISSION_DENIED": "PermissionDeniedError",
    "REJECTED": "RequestRejectedError",
    "THROTTLED": "ThrottledError",
    "UNAVAILABLE": "ServiceUnavailableError",
    "TIMEOUT": "CallTimeoutError",
    "CORRUPT": "CorruptDataError",
}
_OTHERS: dict[str, type[Exception]] = {
    "INVALID_ARGUMENT": ValueError,
    "UNSUPPORTED": io.UnsupportedOperation,
    "OUT_OF_MEMORY": MemoryError,
    "LOCAL_IO": OSError,
    # A range past the end of its blob. No IndexError, which would end `for sample in dataset` silently.
    "OUT_OF_RANGE": ValueError,
    "BUFFER_TOO_SMALL": BufferError,
    "CANCELLED": OperationCancelledError,
    "FORKED": OperationCancelledError,
}


def from_status(
    status: str,
    message: str,
    *,
    http_status: int | None,
    error_code: str | None,
    request_id: str | None,
    retryable: bool,
) -> BaseException:
    """Return the exception for an error of the library. `status` is the C API's name without ``AZT_STATUS_``."""
    name = _OF_SERVICE.get(status)
    if name is None:
        return _OTHERS.get(status, InternalError)(message)
    if name == "PermissionDeniedError" and error_code in ("AuthenticationFailed", "InvalidAuthenticationInfo"):
        name = "AuthenticationError"
    if name == "ServiceUnavailableError" and http_status is None:
        name = "ServiceConnectionError"
    kind: type[StorageError] = globals().get(name) or __getattr__(name)
    exception = kind(message)
    exception.status_code = http_status
    exception.error_code = error_code
    exception.request_id = request_id
    exception.retryable = retryable
    return exception


def for_writer(cause: BaseException) -> BaseException:
    """Return the exception by which a writer reports that it failed."""
    if isinstance(cause, FatalBlobIOWriteError):
        return cause
    kind = FatalBlobIOWriteError
    if isinstance(cause, FileExistsError):
        kind = BlobExistsWriteError
    elif type(cause).__name__ == "BlobModifiedError":
        kind = BlobModifiedWriteError
    error = kind(cause)
    error.__cause__ = cause
    return error
