"""Text files over blobs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from types import TracebackType

    from aztorch.io import BlobIO


class TextFile(io.TextIOWrapper):
    """A text file over a `BlobIO`. Like it, it publishes nothing after an exception or without close()."""

    _blob: BlobIO | None = None

    def __init__(
        self, blob: BlobIO, *, encoding: str, errors: str | None, newline: str | None, chunk_size: int
    ) -> None:
        super().__init__(blob, encoding=encoding, errors=errors, newline=newline)
        self._CHUNK_SIZE = chunk_size
        self._blob = blob

    def detach(self) -> BinaryIO:
        """Return the `BlobIO`, which is no longer closed or discarded with this file."""
        super().detach()
        blob, self._blob = self._blob, None
        return cast("BinaryIO", blob)

    def close(self) -> None:
        """Close the blob. If text cannot be written, nothing is published."""
        blob = self._blob
        if blob is not None and blob.mode != "rb" and not blob.closed:
            try:
                self.flush()
            except BaseException:
                # TextIOWrapper would close the blob nevertheless, and so publish it without this text.
                blob.discard()
                raise
        super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self._blob is not None and self._blob.mode != "rb":
            self._blob.discard()
        else:
            self.close()

    def __del__(self) -> None:
        # Without this, TextIOWrapper would close the blob, and so publish it.
        if self._blob is not None:
            self._blob._discard_unclosed(stacklevel=3)  # noqa: SLF001
