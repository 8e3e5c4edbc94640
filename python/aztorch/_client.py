"""Clients of the library, one for each credential, and the credentials of Python."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, Protocol, Union

from aztorch._library import check, failure, ffi, install_interrupt, lib, new, raise_noted, text

if TYPE_CHECKING:
    from typing_extensions import TypeAlias


class _AccessToken(Protocol):
    @property
    def token(self) -> str: ...
    @property
    def expires_on(self) -> int: ...


class TokenCredential(Protocol):
    """Any object that has ``get_token``, such as those of the package azure-identity."""

    def get_token(self, *scopes: str, **kwargs: Any) -> _AccessToken:
        """Return a token for the scopes: an object with ``token`` (str) and ``expires_on`` (Unix time, seconds)."""


class SasCredential(Protocol):
    """Any object that has a shared access signature, such as ``azure.core.credentials.AzureSasCredential``."""

    @property
    def signature(self) -> str:
        """The shared access signature (SAS), with or without its leading ``?``."""


Credential: TypeAlias = Union[TokenCredential, SasCredential, Literal[False], None]

# How many clients stay open that nothing uses any more, so that a loop that opens one blob after the other keeps its
# connections and its token. Azure's credentials of one program are few.
_KEPT = 8
_USER_AGENT = f"python/{sys.version_info.major}.{sys.version_info.minor}".encode()
# At exit, Python waits at most this long for token callbacks that still run.
_EXIT_SECONDS = 10.0


def check_credential(credential: object) -> None:
    """Raise TypeError if `credential` is of no supported kind."""
    if credential is None or credential is False or has_signature(credential):
        return
    if isinstance(credential, type) or not callable(getattr(credential, "get_token", None)):
        raise TypeError(
            f"Unsupported credential: {type(credential)}. Supported are None (found in the environment), False "
            "(anonymous), an AzureSasCredential, and objects that have get_token()"
        )


def check_no_nul(what: str, value: str) -> None:
    """Raise ValueError if a text has a NUL, where the library would end it."""
    if "\0" in value:
        raise ValueError(f"{what} must not contain a NUL character")


def has_signature(credential: object) -> bool:
    """Whether a credential is a SAS credential."""
    return not isinstance(credential, type) and isinstance(getattr(credential, "signature", None), str)


def is_token(credential: object) -> bool:
    """Whether a credential that was checked makes tokens, which are sent over https only."""
    return credential is not None and credential is not False and not has_signature(credential)


def signature_of(credential: object) -> str | None:
    """Return the SAS that a credential has now, or None if it is of another kind."""
    return str(credential.signature) if has_signature(credential) else None  # type: ignore[attr-defined]


class Client:
    """A client of the library (`azt_client`), and the Python objects that it needs."""

    def __init__(self, credential: Credential) -> None:
        options = ffi.gc(lib.azt_client_options_new(), lib.azt_client_options_free)
        self.credential = credential
        self.tokens: _TokenSource | None = None
        check(lib.azt_client_options_set_user_agent, options, _USER_AGENT)
        if credential is False:
            check(lib.azt_client_options_set_anonymous, options)
        elif (signature := signature_of(credential)) is not None:
            check_no_nul("a SAS", signature)
            check(lib.azt_client_options_set_sas_token, options, signature.encode())
        elif credential is not None:
            _stop_callbacks_at_exit()
            self.tokens = _TokenSource(credential)  # type: ignore[arg-type]
            check(
                lib.azt_client_options_set_token_callback,
                options,
                _TOKEN_CALLBACK,
                self.tokens.user_data,
                ffi.NULL,
            )
        created = new("azt_client **")
        check(lib.azt_client_new, options, created)
        self.handle: Any = ffi.gc(created[0], lib.azt_client_free)
        if self.tokens is not None:
            self.tokens.client = self.handle
        with _lock:
            _all.add(self)

    def cause(self) -> BaseException | None:
        """Return the exception that the credential raised in place of its last token."""
        return None if self.tokens is None else self.tokens.last_error()

    def check(self, function: Any, *arguments: Any) -> None:
        """Call a function of the library that can fail, and raise its error."""
        error = new("azt_error **")
        if function(*arguments, error):
            raise failure(error, self.cause())
        raise_noted()

    def stats(self) -> dict[str, int]:
        """Return the counters of this client."""
        counters = new("azt_stats *")
        # It cannot fail. Without check(), since __del__ must not raise what a callback raised.
        lib.azt_client_stats(self.handle, counters, ffi.sizeof("azt_stats"), ffi.NULL)
        return {name: getattr(counters, name) for name in _COUNTERS}

    def __del__(self) -> None:
        # Its counters stay in the sum of stats().
        if lib is None or not hasattr(self, "handle"):
            return
        _add_counters(_past, {**self.stats(), **dict.fromkeys(_MOMENTARY, 0)})


_COUNTERS = tuple(name for name, _ in ffi.typeof("azt_stats").fields)
_MOMENTARY = ("requests_in_flight", "memory_in_use")

_lock = threading.Lock()
_all: weakref.WeakSet[Client] = weakref.WeakSet()
_past = dict.fromkeys(_COUNTERS, 0)
# The clients that were used last, by credential. A client keeps its credential alive, so no other object gets its id.
_recent: OrderedDict[object, Client] = OrderedDict()
_of_credential: weakref.WeakValueDictionary[object, Client] = weakref.WeakValueDictionary()


def client_for(credential: Credential) -> Client:
    """Return the client for a credential, the same one for the same credential."""
    # Imported here, since it takes a quarter of the time of `import aztorch`.
    from aztorch import _logging

    install_interrupt()
    _logging.follow()
    key: object = credential
    if credential is not None and credential is not False:
        signature = signature_of(credential)
        key = ("token", id(credential)) if signature is None else ("sas", signature)
    with _lock:
        client = _of_credential.get(key)
    if client is None:
        check_credential(credential)
        client = Client(credential)
    with _lock:
        client = _of_credential.setdefault(key, client)
        _recent[key] = client
        _recent.move_to_end(key)
        dropped = [_recent.popitem(last=False) for _ in range(len(_recent) - _KEPT)]
    del dropped
    return client


def _add_counters(total: dict[str, int], counters: dict[str, int]) -> None:
    for name, value in counters.items():
        total[name] = max(total[name], value) if name == "memory_peak" else total[name] + value


def stats() -> dict[str, int]:
    """Return the counters of this process: requests, retries, bytes and more, over all credentials.

    The keys are the fields of ``azt_stats`` of the C API: ``requests``, ``retries``, ``throttled``, ``bytes_received``,
    ``bytes_sent``, ``token_requests``, ``connections_opened`` (numbers since the process began), ``requests_in_flight``,
    ``memory_in_use``, ``memory_peak`` (bytes) and ``caller_wait_microseconds``.

    In a forked process they begin at 0. Thread-safe.
    """
    with _lock:
        clients = list(_all)
        total = dict(_past)
    for client in clients:
        _add_counters(total, client.stats())
    return total


class _TokenSource:
    """The credential object of a client, as `user_data` of its token callback."""

    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential
        # Of the last call of get_token(). All calls that wait for this token have the same cause.
        self._error: BaseException | None = None
        self.client: Any = None
        number = next(_numbers)
        _sources[number] = self
        # A number and no pointer: a late callback, for a client that is gone, then finds nothing.
        self.user_data = ffi.cast("void *", number)

    def last_error(self) -> BaseException | None:
        return self._error

    def fetch(self, scope: str, tenant: str, token: Any) -> int:
        try:
            options = {"tenant_id": tenant} if tenant else {}
            access = self._credential.get_token(scope, **options)
            if hasattr(access, "__await__"):
                # A coroutine that is neither awaited nor closed makes Python warn later, at another place.
                getattr(access, "close", lambda: None)()
                raise TypeError(
                    f"{type(self._credential)} is asynchronous: pass the credential of azure.identity, not .aio"
                )
            value, expires = access.token, access.expires_on
            if not isinstance(value, str) or not value:
                raise TypeError(f"get_token() of {type(self._credential)} returned a token that is no text")
            if isinstance(expires, bool) or not isinstance(expires, (int, float)):
                raise TypeError(f"get_token() of {type(self._credential)} returned no time of expiry")
            if lib.azt_token_set(token, value.encode(), int(expires)):
                raise ValueError(f"get_token() of {type(self._credential)} returned a malformed token")
        except BaseException as error:  # noqa: BLE001 # it becomes the cause of the call's exception
            self._error = error
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            lib.azt_token_set_error(token, " ".join(reason.split()).encode(errors="replace"))
            return int(lib.AZT_STATUS_UNAUTHENTICATED)
        self._error = None
        return 0


_numbers = itertools.count(1)
_sources: weakref.WeakValueDictionary[int, _TokenSource] = weakref.WeakValueDictionary()
_running: set[int] = set()


def _on_token(user_data: Any, scope: Any, tenant: Any, token: Any) -> int:
    _running.add(threading.get_ident())
    try:
        source = _sources.get(int(ffi.cast("uintptr_t", user_data)))
        if source is None:
            return int(lib.AZT_STATUS_CANCELLED)
        return source.fetch(text(scope), text(tenant), token)
    finally:
        _running.discard(threading.get_ident())


_TOKEN_CALLBACK = ffi.callback("azt_token_callback", _on_token, error=lib.AZT_STATUS_INTERNAL)


@functools.cache
def _stop_callbacks_at_exit() -> None:
    # When the first callback is set, and not at import: handlers that are registered before then run later.
    atexit.register(_stop_callbacks)


def _stop_callbacks() -> None:
    """End the calls of the library into Python. Python hangs or crashes if one begins while the interpreter ends."""
    for source in list(_sources.values()):
        lib.azt_client_cancel(source.client or ffi.NULL)
    deadline = time.monotonic() + _EXIT_SECONDS
    while _running and time.monotonic() < deadline:
        time.sleep(0.01)


def _forget_parent() -> None:
    global _lock
    # Another thread may have held it at the fork.
    _lock = threading.Lock()
    _past.update(dict.fromkeys(_COUNTERS, 0))
    _running.clear()


os.register_at_fork(after_in_child=_forget_parent)
