"""Checkpoints of Lightning on blobs. Works with the packages ``lightning`` and ``pytorch_lightning``, version 2.

::

    from aztorch.lightning import BlobCheckpointIO

    plugin = BlobCheckpointIO("checkpoints", "https://ACCOUNT.blob.core.windows.net/CONTAINER/run")
    trainer = Trainer(plugins=[plugin], callbacks=[ModelCheckpoint(dirpath="checkpoints", save_last=True)])
    trainer.fit(model)
    trainer.fit(model, ckpt_path="checkpoints/last.ckpt")
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any, cast

import torch

from aztorch import exceptions
from aztorch._arguments import check_blob_url
from aztorch._client import check_credential
from aztorch._operations import remove
from aztorch.checkpoint._folder import Folder
from aztorch.io import BlobIO

if TYPE_CHECKING:
    from aztorch._client import Credential

__all__ = ["BlobCheckpointIO"]


# The packages, and where they have their plugins. `pip install lightning` installs both.
_PACKAGES = {"lightning": "lightning.pytorch.plugins.io", "pytorch_lightning": "pytorch_lightning.plugins.io"}


def _find_base() -> Any:
    """Return Lightning's own plugin: that of the package which the program has imported, or else of an installed one."""
    for name in sorted(_PACKAGES, key=lambda name: name not in sys.modules):
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(_PACKAGES[name]).TorchCheckpointIO
    raise ImportError("aztorch.lightning needs Lightning 2: pip install lightning")


_Base = _find_base()


class BlobCheckpointIO(_Base):  # type: ignore[misc,valid-type]
    """Saves and loads the checkpoints of a ``Trainer`` on blobs.

    A checkpoint is sent while it is pickled, without a copy of it in memory, and published as a whole at the end: if
    the process is killed, the previous checkpoint is still there.

    The path of a checkpoint may be the URL of a blob, in ``Trainer.save_checkpoint()`` and as ``ckpt_path`` of
    ``Trainer.fit()`` and the like. ``ModelCheckpoint`` demands a directory in place of a URL, since it looks into it.
    For this, name a directory and the URL that stands for it: paths below this directory then are blobs, and nothing is
    written to the directory. Other paths are files, as without the plugin.

    :param directory: the `dirpath` of ``ModelCheckpoint``. It need not exist.
    :param url: the URL of the folder of blobs that stands for `directory`. Its query may have a SAS, which takes the
        place of `credential`, and is not stored in checkpoints.
    :param credential: as for :class:`aztorch.BlobIO`.
    :raises ValueError: for a bad URL, or if only one of `directory` and `url` is given.
    :raises TypeError: for a credential of no supported kind.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        url: str | None = None,
        *,
        credential: Credential = None,
    ) -> None:
        super().__init__()
        check_credential(credential)
        if (directory is None) != (url is None):
            raise ValueError("directory and url belong together: give both or none")
        self._credential = credential
        self._directory = None if directory is None else os.path.realpath(os.path.expanduser(directory))
        self._folder = None if url is None else Folder(url, credential)
        # The program may use the other package, and has imported it meanwhile. Each has a class of its own, and its
        # Trainer demands an instance of that.
        for name, module in _PACKAGES.items():
            if name in sys.modules:
                importlib.import_module(module).CheckpointIO.register(type(self))

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,
    ) -> None:
        """Save a checkpoint with ``torch.save``.

        :param checkpoint: what to save.
        :param path: of the checkpoint, or the URL of its blob. An existing one is replaced.
        :param storage_options: must be None, as for Lightning's own plugin.
        :raises aztorch.exceptions.FatalBlobIOWriteError: if it could not be saved. An existing checkpoint is still
            there, unless the message says that the outcome is unknown.
        """
        url = self._blob_url(path)
        if url is None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        if storage_options is not None:
            raise TypeError("BlobCheckpointIO has no storage_options")
        with BlobIO(url, "wb", credential=self._credential) as blob:
            torch.save(checkpoint, blob)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Load a checkpoint with ``torch.load``.

        :param path: of the checkpoint, or the URL of its blob.
        :param map_location: as for ``torch.load``.
        :param weights_only: as for ``torch.load``; None means torch's default.
        :returns: what was saved.
        :raises aztorch.exceptions.BlobNotFoundError: if there is no checkpoint. It is a ``FileNotFoundError``.
        """
        url = self._blob_url(path)
        # Lightning before 2.6 has no such argument.
        options = {} if weights_only is None else {"weights_only": weights_only}
        if url is None:
            return cast("dict[str, Any]", super().load_checkpoint(path, map_location, **options))
        with BlobIO(url, "rb", credential=self._credential) as blob:
            # So that a failure is raised as it is. torch.load() makes other exceptions of those inside of it.
            blob.seek(0)
            return cast("dict[str, Any]", torch.load(blob, map_location=map_location, **options))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint, if it exists.

        :param path: of the checkpoint, or the URL of its blob.
        :raises aztorch.exceptions.StorageError: if it cannot be deleted.
        """
        url = self._blob_url(path)
        if url is None:
            super().remove_checkpoint(path)
            return
        with contextlib.suppress(exceptions.BlobNotFoundError):
            remove(url, credential=self._credential)

    def _blob_url(self, path: str | os.PathLike[str]) -> str | None:
        """Return the URL of a checkpoint, or None if it is a file."""
        name = os.fspath(path)
        if "://" in name:
            if name.partition("?")[2].endswith(".ckpt"):
                raise ValueError(
                    "the name of a checkpoint was appended to a URL with a query: give ModelCheckpoint a directory, "
                    "and BlobCheckpointIO this directory and the URL"
                )
            return name if _is_blob_url(name) else None
        if self._directory is None or self._folder is None:
            return None
        below = os.path.relpath(os.path.realpath(name), self._directory)
        return None if below.split(os.sep)[0] in (os.pardir, os.curdir) else self._folder.blob_url(below)


def _is_blob_url(url: str) -> bool:
    try:
        check_blob_url(url, reads=True)
    except ValueError:
        return False
    return True
