"""Operations on a blob by its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aztorch._arguments import complete_url
from aztorch._client import check_credential, client_for
from aztorch._library import lib, new

if TYPE_CHECKING:
    from aztorch._client import Credential


def exists(url: str, *, credential: Credential = None) -> bool:
    """Return whether a blob exists. Thread-safe. Blocks.

    :param url: the URL of the blob, as for :class:`aztorch.io.BlobIO`.
    :param credential: as for :class:`aztorch.io.BlobIO`.
    :raises aztorch.exceptions.BlobNotFoundError: if the container does not exist.
    :raises aztorch.exceptions.StorageError: if the service refuses the request or cannot be reached.
    :raises ValueError: for a bad URL.
    :raises TypeError: for a credential of no supported kind.
    """
    check_credential(credential)
    client = client_for(credential)
    found = new("bool *")
    client.check(lib.azt_blob_exists, client.handle, complete_url(url).encode(), found)
    return bool(found[0])


def remove(url: str, *, credential: Credential = None) -> None:
    """Delete a blob, or only the snapshot or version that the URL names. Thread-safe. Blocks.

    :param url: the URL of the blob, as for :class:`aztorch.io.BlobIO`.
    :param credential: as for :class:`aztorch.io.BlobIO`.
    :raises aztorch.exceptions.BlobNotFoundError: if it does not exist.
    :raises aztorch.exceptions.RequestRejectedError: if it has snapshots.
    :raises aztorch.exceptions.StorageError: if the service refuses the request or cannot be reached.
    :raises ValueError: for a bad URL.
    :raises TypeError: for a credential of no supported kind.
    """
    check_credential(credential)
    client = client_for(credential)
    client.check(lib.azt_blob_delete, client.handle, complete_url(url).encode())
