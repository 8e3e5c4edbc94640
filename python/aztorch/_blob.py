"""The blob that a transform gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aztorch.io import BlobIO

if TYPE_CHECKING:
    from aztorch._entry import Entry


class Blob:
    """A blob of a dataset, which a ``transform`` gets.

    Nothing is fetched before it is read. If a dataset's transform reads the blobs as a whole, the following blobs are
    fetched ahead. It can be pickled, with its SAS and its credential. A part of a blob cannot be pickled.

    For one thread at a time.

    ::

        def decode(blob: Blob) -> torch.Tensor:
            return torch.frombuffer(blob.data, dtype=torch.float32)   # no copy

        dataset = BlobDataset.from_container_url(url, transform=decode)
    """

    __slots__ = ("_entry",)
    # Where users import it from.
    __module__ = "aztorch.datasets"

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    @property
    def url(self) -> str:
        """The URL of the blob, without its query, and so without a SAS. For a file in a tar archive, the archive's."""
        return self._entry.url

    @property
    def blob_name(self) -> str:
        """The name of the blob in its container; for a file in a tar archive, its path there."""
        return self._entry.blob_name

    @property
    def container_name(self) -> str:
        """The name of the blob's container."""
        return self._entry.container_name

    @property
    def size(self) -> int | None:
        """The size in bytes, without a request: None where only a read can tell, as for a URL."""
        return self._entry.size

    @property
    def data(self) -> memoryview:
        """The whole content, without a copy: a writable ``memoryview`` of bytes, aligned to 64 bytes.

        The memory belongs to the view alone, and lives as long as the view. Each access fetches the blob: keep the view.

        :raises aztorch.exceptions.StorageError: if the blob cannot be read.
        """
        return self._entry.view()

    def reader(self) -> BlobIO:
        """Return a new file over the content. A transform may open several, and read only parts."""
        return BlobIO._of_entry(self._entry)  # noqa: SLF001

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} {self.url!r}>"
