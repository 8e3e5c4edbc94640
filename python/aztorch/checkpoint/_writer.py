"""Saving distributed checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import threading
import uuid
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.planner import WriteItemType
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from aztorch import exceptions
from aztorch._library import ffi, lib
from aztorch.checkpoint import _threads
from aztorch.checkpoint._folder import Folder, is_folder_url, logger
from aztorch.checkpoint._format import ALIGNMENT, DATA_FILE, METADATA, RANK_METADATA, StorageMeta
from aztorch.io import BlobIO

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem

    from aztorch._client import Credential

# A file has at least this size, where a rank has so much: smaller ones cost a request each and send nothing faster.
_LEAST_FILE_SIZE = 16 * 1024 * 1024
_PADDING = bytes(ALIGNMENT)


class BlobStorageWriter(StorageWriter):
    """Writes distributed checkpoints to blobs, for ``torch.distributed.checkpoint.save`` and ``async_save``.

    Each rank writes data files of its own, straight from the memory of the tensors. When all ranks are done, the
    coordinator publishes ``.metadata``, as a whole. Until then the checkpoint does not exist.

    **Saving to the same URL again** replaces the checkpoint when ``.metadata`` is published. The new data files have new
    names, so if a rank is killed before, the previous checkpoint is still there and loads. Then the previous data files
    are deleted, and the files of saves that were killed. If they cannot be deleted, the logger ``aztorch.checkpoint``
    warns. If another save to the same URL publishes first, this one fails.

    A writer may be used for many saves, one at a time, and pickles, as saves in another process need it
    (``AsyncCheckpointerType.PROCESS``).

    :param url: the URL of the checkpoint, ``https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX``. Its query may
        have a SAS, which takes the place of `credential` and needs the permissions to read, write, create, delete and
        list. torch stores and logs the URL without its query.
    :param credential: as for :class:`aztorch.BlobIO`. All ranks use their own.
    :param thread_count: how many files a rank writes at the same time. Each has at least 16 MiB of data, so a rank that
        has less writes fewer files.
    :param overwrite: whether to replace an existing checkpoint. If False, a save raises an error that says that it
        exists; inside of the ``CheckpointException`` of DCP it is a ``FileExistsError``.
    :raises ValueError: for a bad URL, or if `thread_count` is less than 1.
    :raises TypeError: for a credential of no supported kind.
    """

    def __init__(
        self,
        url: str,
        *,
        credential: Credential = None,
        thread_count: int = 4,
        overwrite: bool = True,
    ) -> None:
        super().__init__()
        if thread_count < 1:
            raise ValueError(f"thread_count must be at least 1, not: {thread_count}")
        self._folder = Folder(url, credential)
        self._thread_count = thread_count
        self._overwrite = overwrite
        self._save_id = uuid.uuid4().hex
        self._rank: int | None = None
        self._uses_collectives = True
        self._replaced_etag: str | None = None
        self._old_names: list[str] = []

    @property
    def checkpoint_id(self) -> str:
        """The URL of the checkpoint without its query. torch stores and logs it."""
        return self._folder.url

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return whether `checkpoint_id` is the URL of a folder of blobs. Nothing is sent."""
        return is_folder_url(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin a new save.

        :param checkpoint_id: the URL of the checkpoint, if it is another one. If it has no query and the same host,
            the SAS of the previous URL is used.
        """
        if checkpoint_id is not None:
            self._folder = self._folder.at(checkpoint_id)
        self._save_id = uuid.uuid4().hex

    def storage_meta(self) -> Any:
        """Return what torch stores about the storage: the URL without its query, and a new number for each save."""
        return None if StorageMeta is None else StorageMeta(checkpoint_id=self.checkpoint_id, save_id=self._save_id)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Do what DCP demands at the start of a save, on all ranks."""
        self._rank = kwargs.get("rank")
        self._uses_collectives = kwargs.get("use_collectives", True)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan of this rank."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Look at what is there already, on the coordinator.

        :raises aztorch.exceptions.BlobExistsError: if there is a checkpoint, and `overwrite` is False.
        """
        self._replaced_etag = self._folder.etag(self._metadata_name)
        if self._replaced_etag is not None and not self._overwrite:
            raise exceptions.BlobExistsError(f"{self._folder.url}: there is a checkpoint, and overwrite is False")
        self._old_names = self._find_old_names()
        return [dataclasses.replace(plan, storage_data=number) for number, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write the data files of this rank, in parallel.

        :raises aztorch.exceptions.FatalBlobIOWriteError: if a file could not be written.
        """
        # Not from the coordinator: a planner that caches plans returns the one of an earlier save.
        token = uuid.uuid4().hex
        number = self._rank if self._rank is not None else plan.storage_data
        buckets = _split(plan.items, self._thread_count)
        writing = _Writing(self._folder, planner)
        tasks = [
            (0, functools.partial(writing.write_file, f"__{number}_{index}.{token}.distcp", items))
            for index, items in enumerate(buckets)
        ]
        results: list[WriteResult] = []
        for written in _threads.run(tasks, thread_count=self._thread_count, cancel=writing.cancel):
            results += written
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Publish the checkpoint, on the coordinator: write ``.metadata``, then delete what it replaces.

        :raises aztorch.exceptions.FatalBlobIOWriteError: if it could not be published. If there was a checkpoint, it is
            still there, unless the message says that the outcome is unknown.
        """
        metadata.storage_data = {result.index: result.storage_data for written in results for result in written}
        if hasattr(metadata, "version"):
            metadata.version = getattr(filesystem, "CURRENT_DCP_VERSION", None)
        if StorageMeta is not None:
            metadata.storage_meta = self.storage_meta()
        # A save that ran at the same time may have deleted the data files of this one, and has published before.
        with BlobIO(
            self._folder.blob_url(self._metadata_name),
            "xb" if self._replaced_etag is None else "wb",
            credential=self._folder.credential,
            if_match=self._replaced_etag,
        ) as blob:
            blob.write(pickle.dumps(metadata))
        self._delete_old()
        self._save_id = uuid.uuid4().hex

    @property
    def _metadata_name(self) -> str:
        # Without collectives each rank publishes its own part, as DCP's own writer does.
        return METADATA if self._uses_collectives else f"__{self._rank}{METADATA}"

    def _find_old_names(self) -> list[str]:
        """Return the files that are obsolete as soon as this save is published."""
        try:
            names = self._folder.names()
        except exceptions.StorageError as error:
            logger.warning("%s: files of earlier saves cannot be found, and stay: %s", self._folder.url, error)
            return []
        if self._uses_collectives:
            return [name for name in names if DATA_FILE.fullmatch(name) or RANK_METADATA.fullmatch(name)]
        # The metadata of a save with collectives as well: it would name files that are deleted, and is read first.
        matches = ((DATA_FILE.fullmatch(name), name) for name in names)
        return [name for match, name in matches if name == METADATA or (match and int(match[1]) == self._rank)]

    def _delete_old(self) -> None:
        try:
            # What names other files first, so that a checkpoint is never there in part.
            self._folder.delete_all(name for name in self._old_names if name.endswith(METADATA))
            self._folder.delete_all(name for name in self._old_names if not name.endswith(METADATA))
        except exceptions.StorageError as error:
            logger.warning("%s: files of earlier saves cannot be deleted: %s", self._folder.url, error)
        self._old_names = []


class _Writing:
    """The data files that one rank writes in one save."""

    def __init__(self, folder: Folder, planner: SavePlanner) -> None:
        self._folder = folder
        self._planner = planner
        self._lock = threading.Lock()
        self._open: list[BlobIO] = []
        self._cancelled = False

    def cancel(self) -> None:
        """End the writes of all files. Nothing is published. Thread-safe."""
        with self._lock:
            self._cancelled = True
            for blob in self._open:
                lib.azt_blob_cancel(blob._handle or ffi.NULL)  # noqa: SLF001

    def write_file(self, name: str, items: Sequence[WriteItem]) -> list[WriteResult]:
        with BlobIO(self._folder.blob_url(name), "wb", credential=self._folder.credential) as blob:
            with self._lock:
                self._open.append(blob)
            stream = _ItemStream(blob)
            results = []
            for item in items:
                if self._cancelled:
                    raise exceptions.OperationCancelledError("another file of the checkpoint could not be written")
                results.append(self._write_item(stream, name, item))
        return results

    def _write_item(self, stream: _ItemStream, name: str, item: WriteItem) -> WriteResult:
        data = self._planner.resolve_data(item)
        stream.pad()
        start = stream.position
        if item.type == WriteItemType.BYTE_IO:
            stream.write(data.getbuffer())  # type: ignore[union-attr]
        else:
            torch.save(_compact(data), stream)  # type: ignore[arg-type]
        stream.raise_failure()
        length = stream.position - start
        info = filesystem._StorageInfo(name, start, length)  # noqa: SLF001 # DCP's own reader demands it
        return WriteResult(index=item.index, size_in_bytes=length, storage_data=info)


class _ItemStream:
    """The file that torch.save() writes one item of a data file to."""

    def __init__(self, blob: BlobIO) -> None:
        self._blob = blob
        self._failure: BaseException | None = None
        self.position = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._failure is None:
            try:
                self._blob.write(data)
            except BaseException as error:  # noqa: BLE001 # torch ends the process if a write raises
                self._failure = error
        self.position += size
        return size

    def flush(self) -> None:
        """Do nothing. torch.save() calls it after each item, and a flush of a blob waits until all has arrived."""

    def pad(self) -> None:
        self.write(_PADDING[: -self.position % ALIGNMENT])

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the CPU whose storage has nothing else."""
    tensor = tensor.detach().cpu()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _split(items: Sequence[WriteItem], most: int) -> list[list[WriteItem]]:
    """Distribute items over at most `most` files of about the same size. Within a file they keep their order."""
    sizes = [_size(item) for item in items]
    count = min(most, max(1, sum(sizes) // _LEAST_FILE_SIZE), len(items))
    buckets: list[list[int]] = [[] for _ in range(count)]
    filled = [0] * count
    for index in sorted(range(len(items)), key=lambda index: -sizes[index]):
        smallest = filled.index(min(filled))
        buckets[smallest].append(index)
        filled[smallest] += sizes[index]
    return [[items[index] for index in sorted(bucket)] for bucket in buckets if bucket]


def _size(item: WriteItem) -> int:
    data = item.tensor_data
    # Of other objects nothing is known before they are pickled; they are small.
    return 1024 if data is None else data.chunk.sizes.numel() * data.properties.dtype.itemsize
