"""Loading distributed checkpoints."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch.distributed.checkpoint.planner import LoadItemType
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from aztorch import exceptions
from aztorch._client import client_for
from aztorch._library import failure, ffi, lib, new
from aztorch.checkpoint import _threads
from aztorch.checkpoint._folder import Folder, is_folder_url
from aztorch.checkpoint._format import ALIGNMENT, METADATA, StorageMeta

if TYPE_CHECKING:
    import os

    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem

    from aztorch._client import Client, Credential

# Items of a file are fetched together if no more bytes are between them: these take less time than another request.
_GAP = 1024 * 1024
# And up to this size together, so that loading begins before all is there.
_RANGE_SIZE = 64 * 1024 * 1024
# Ranges that are fetched, or wait for being loaded, at once. Large ones are received over several connections each.
_THREADS = 16
_MEMORY = 512 * 1024 * 1024
# From this size on, the copy that is saved takes longer than a second look at the archive.
_LARGE = 256 * 1024
_ARCHIVE = b"PK\3\4"


class BlobStorageReader(StorageReader):
    """Reads distributed checkpoints from blobs, for ``torch.distributed.checkpoint.load``.

    Only what a rank needs is fetched: of each data file the ranges of its items, neighbours in one request, ranges in
    parallel, with at most 512 MiB (or one item) of memory besides the tensors. A data file that is replaced while it is
    read raises an error, and two versions are never mixed.

    Also loads what DCP's own ``FileSystemWriter`` has written and was copied to blobs. Compressed checkpoints, and
    those with ``SerializationFormat.SAFETENSORS``, are refused.

    As with all of DCP, load only checkpoints that you trust: torch unpickles them.

    A reader may be used for many loads, one at a time, and pickles.

    :param url: the URL of the checkpoint, as for :class:`BlobStorageWriter`. A SAS needs the permission to read.
    :param credential: as for :class:`aztorch.BlobIO`. All ranks use their own.
    :raises ValueError: for a bad URL.
    :raises TypeError: for a credential of no supported kind.
    """

    def __init__(self, url: str, *, credential: Credential = None) -> None:
        super().__init__()
        self._folder = Folder(url, credential)
        self._load_id = uuid.uuid4().hex
        self._storage_data: dict[Any, Any] = {}

    @property
    def checkpoint_id(self) -> str:
        """The URL of the checkpoint without its query. torch logs it."""
        return self._folder.url

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return whether `checkpoint_id` is the URL of a folder of blobs. Nothing is sent."""
        return is_folder_url(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin a new load.

        :param checkpoint_id: the URL of the checkpoint, if it is another one. If it has no query and the same host,
            the SAS of the previous URL is used.
        """
        if checkpoint_id is not None:
            self._folder = self._folder.at(checkpoint_id)
        self._storage_data = {}
        self._load_id = uuid.uuid4().hex

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the metadata of the checkpoint.

        :param kwargs: `rank`, if it was saved without collectives: then each rank has its own.
        :raises aztorch.exceptions.BlobNotFoundError: if there is none, and so no complete checkpoint. It is a
            ``FileNotFoundError``.
        """
        rank = kwargs.get("rank")
        name = METADATA if rank is None else f"__{rank}{METADATA}"
        try:
            with self._folder.open_to_read(name) as blob:
                pickled = blob.read()
        except exceptions.BlobNotFoundError as error:
            message = f"{self._folder.url}: there is no complete checkpoint, since its last file, {name}, is missing"
            raise exceptions.BlobNotFoundError(f"{message} ({error})") from error
        metadata: Metadata = pickle.loads(pickled)  # so says the documentation of the class
        if StorageMeta is not None:
            about = getattr(metadata, "storage_meta", None) or StorageMeta()
            about.load_id = self._load_id
            metadata.storage_meta = about
        return metadata

    def set_up_storage_reader(
        self,
        metadata: Metadata,
        is_coordinator: bool,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Take the metadata, on all ranks."""
        if metadata.storage_data is None:
            raise exceptions.CorruptDataError(f"{self._folder.url}: the metadata names no data files")
        self._storage_data = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return the plan of this rank."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return the plans of all ranks."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fetch the items of the plan, and load them into the tensors of the planner.

        :raises aztorch.exceptions.StorageError: if data could not be read.
        :raises ValueError: if the data is compressed, or no archive of torch.
        """
        files: dict[str, _File] = {}
        for request in plan.items:
            info = self._storage_data[request.storage_index]
            if getattr(info, "transform_descriptors", None):
                raise ValueError(
                    f"{self._folder.url}: {request.storage_index.fqn} is compressed or encrypted "
                    f"({', '.join(info.transform_descriptors)}), which is not supported"
                )
            file = files.setdefault(info.relative_path, _File(self._folder, info.relative_path))
            file.add(info.offset, info.length, request)
        tasks: list[tuple[int, Callable[[], _Range]]] = [
            (found.size, found.fetch) for file in files.values() for found in file.ranges()
        ]

        def cancel() -> None:
            for file in files.values():
                file.cancel()

        with contextlib.closing(_threads.run(tasks, thread_count=_THREADS, limit=_MEMORY, cancel=cancel)) as ranges:
            for found in ranges:
                found.load(planner)
                found.free()
        future: Future[None] = Future()
        future.set_result(None)
        return future


class _File:
    """A data file, and what is wanted of it."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self.name = name
        # Resharding reads different parts of the same item.
        self._requests: dict[tuple[int, int], list[ReadItem]] = {}
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._handle: Any = None
        self._cancelled = False
        self._ranges_left = 0

    def add(self, offset: int, length: int, request: ReadItem) -> None:
        self._requests.setdefault((offset, length), []).append(request)

    def ranges(self) -> list[_Range]:
        """Return what to fetch: the items, neighbours together."""
        ranges: list[_Range] = []
        for (offset, length), requests in sorted(self._requests.items(), key=lambda entry: entry[0]):
            end = offset + length
            last = ranges[-1] if ranges else None
            if last is None or offset > last.end + _GAP or max(end, last.end) > last.start + _RANGE_SIZE:
                last = _Range(self, offset)
                ranges.append(last)
            last.end = max(last.end, end)
            last.items.append((offset, length, requests))
        self._ranges_left = len(ranges)
        return ranges

    def open(self) -> Any:
        """Return the open blob: all threads read the same version."""
        with self._lock:
            if self._handle is None:
                if self._cancelled:
                    raise exceptions.OperationCancelledError("another file of the checkpoint could not be read")
                client = self._client = client_for(self._folder.credential)
                url = self._folder.blob_url(self.name).encode()
                opened = new("azt_blob **")
                client.check(lib.azt_blob_open, client.handle, url, lib.AZT_BLOB_MODE_READ, opened)
                self._handle = ffi.gc(opened[0], lib.azt_blob_free)
                if self._cancelled:
                    lib.azt_blob_cancel(self._handle)
            return self._handle

    def call(self, function: Any, *arguments: Any) -> None:
        """Call a function of the open blob."""
        error = new("azt_error **")
        if function(self.open(), *arguments, error):
            raise failure(error, self._client.cause() if self._client is not None else None)

    def finish_range(self) -> None:
        """Close the blob after its last range, so that it frees what it has read ahead."""
        self._ranges_left -= 1
        if self._ranges_left == 0:
            self._handle = None

    def cancel(self) -> None:
        """End the reads of all threads."""
        self._cancelled = True
        lib.azt_blob_cancel(self._handle or ffi.NULL)

    def check(self, *, holds: bool, what: str) -> None:
        if not holds:
            raise exceptions.CorruptDataError(f"{self._folder.url}/{self.name}: {what}")


class _Range:
    """A range of a file, with the items in it and the memory that it is read into."""

    def __init__(self, file: _File, start: int) -> None:
        self._file = file
        self.start = start
        self.end = start
        self.items: list[tuple[int, int, list[ReadItem]]] = []
        self._memory = _empty(0)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.end - self.start

    def fetch(self) -> _Range:
        """Fetch the range, straight into its memory. For any thread."""
        # Aligned as in the file, so that tensors are aligned in it. At least one byte, since none would have no address.
        shift = self.start % ALIGNMENT
        self._memory = _empty(shift + max(1, self.size))[shift:]
        read = new("size_t *")
        self._file.call(lib.azt_blob_read_at, self.start, ffi.cast("char *", self._memory.data_ptr()), self.size, read)
        self._file.check(holds=read[0] == self.size, what="the file is too short")
        return self

    def load(self, planner: LoadPlanner) -> None:
        """Load the items. On the caller's thread, since planners need not be thread-safe."""
        view = memoryview(ffi.buffer(ffi.cast("char *", self._memory.data_ptr()), self._memory.numel()))
        for offset, length, requests in self.items:
            place = offset - self.start
            data = view[place : place + length]
            tensor = None
            for request in requests:
                if request.type == LoadItemType.BYTE_IO:
                    planner.load_bytes(request, io.BytesIO(data))
                    continue
                if tensor is None:
                    self._check_archive(data, request)
                    tensor = _load_tensor(data, self._memory, place)
                self._copy(tensor, request, planner)

    def _check_archive(self, data: memoryview, request: ReadItem) -> None:
        if data[: len(_ARCHIVE)] != _ARCHIVE:
            raise ValueError(
                f"{self._file.name}: {request.storage_index.fqn} is no archive of torch.save(). Checkpoints with "
                "SerializationFormat.SAFETENSORS are not supported"
            )

    def _copy(self, tensor: torch.Tensor, request: ReadItem, planner: LoadPlanner) -> None:
        for dimension, (start, length) in enumerate(zip(request.storage_offsets, request.lengths)):
            tensor = tensor.narrow(dimension, start, length)
        target = planner.resolve_tensor(request).detach()
        self._file.check(
            holds=target.size() == tensor.size(),
            what=f"{request.storage_index.fqn} has the size {tuple(tensor.size())}, not {tuple(target.size())}",
        )
        target.copy_(tensor)
        planner.commit_tensor(request, target)

    def free(self) -> None:
        """Free the memory of what is loaded."""
        self._memory = _empty(0)
        self._file.finish_range()


class _MemoryFile(io.RawIOBase):
    """Memory as a file, without a copy."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = (0, self._position, len(self._data))[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer).cast("B")
        found = self._data[self._position : self._position + len(target)]
        target[: len(found)] = found
        self._position += len(found)
        return len(found)


def _empty(size: int) -> torch.Tensor:
    # The default device may be another.
    return torch.empty(size, dtype=torch.uint8, device="cpu")


def _as_file(data: memoryview) -> Any:
    return _MemoryFile(data)


def _load_tensor(data: memoryview, memory: torch.Tensor, place: int) -> torch.Tensor:
    """Return the tensor of an archive, if possible without a copy: then it lies in the archive.

    :param data: the archive.
    :param memory: the bytes that have the archive.
    :param place: where in them it begins.
    """
    if len(data) >= _LARGE and _tells_offsets():
        tensor = _view_tensor(data, memory, place)
        if tensor is not None:
            return tensor
    loaded: torch.Tensor = torch.load(_as_file(data), map_location="cpu", weights_only=True)
    return loaded


def _view_tensor(data: memoryview, memory: torch.Tensor, place: int) -> torch.Tensor | None:
    # torch crashes if it is to swap the bytes of a tensor that has none.
    order = _byte_order(data)
    if order != sys.byteorder:
        return None
    shape = torch.load(_as_file(data), map_location="meta", weights_only=True)
    if type(shape) is not torch.Tensor or shape.layout is not torch.strided or shape.is_quantized:
        return None
    storage = shape.untyped_storage()
    start = place + int(storage._checkpoint_offset or 0)  # noqa: SLF001
    if shape.is_conj() or shape.is_neg() or (memory.data_ptr() + start) % shape.element_size():
        return None
    saved = memory[start : start + storage.nbytes()].view(shape.dtype)
    return saved.as_strided(shape.size(), shape.stride(), saved.storage_offset() + shape.storage_offset())


def _byte_order(data: memoryview) -> str:
    archive: Any = torch._C.PyTorchFileReader(_as_file(data))  # noqa: SLF001
    return str(archive.get_record("byteorder").decode()) if archive.has_record("byteorder") else ""


@functools.cache
def _tells_offsets() -> bool:
    """Whether this torch tells where in an archive the data of a tensor is."""
    archive = io.BytesIO()
    torch.save(_empty(1), archive)
    try:
        known = _byte_order(archive.getbuffer()) == sys.byteorder
    except (AttributeError, RuntimeError):
        return False
    loaded = torch.load(_as_file(archive.getbuffer()), map_location="meta", weights_only=True)
    return known and hasattr(loaded.untyped_storage(), "_checkpoint_offset")
