"""Distributed checkpoints on blobs: storage for ``torch.distributed.checkpoint`` (DCP).

::

    import torch.distributed.checkpoint as dcp
    from aztorch.checkpoint import BlobStorageReader, BlobStorageWriter, keep_last, latest

    dcp.save(state, storage_writer=BlobStorageWriter(f"{run}/step-100"))
    dcp.load(state, storage_reader=BlobStorageReader(latest(run)))
    keep_last(run, 3)

A checkpoint is a folder of blobs, as DCP's own ``FileSystemWriter`` makes it of files: data files ``*.distcp``, and
``.metadata``, which is published last and as a whole. A folder without ``.metadata`` is no complete checkpoint. A
checkpoint that was copied between blobs and files loads from either.
"""

from __future__ import annotations

try:
    import torch
except ImportError as error:
    raise ImportError("aztorch.checkpoint needs PyTorch 2.1 or later: pip install torch") from error

if torch.__version__ < "2.1":
    raise ImportError(f"aztorch.checkpoint needs PyTorch 2.1 or later, and {torch.__version__} is installed")

from aztorch.checkpoint._reader import BlobStorageReader
from aztorch.checkpoint._runs import keep_last, latest
from aztorch.checkpoint._writer import BlobStorageWriter

__all__ = ["BlobStorageReader", "BlobStorageWriter", "keep_last", "latest"]
