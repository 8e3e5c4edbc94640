"""What a checkpoint of DCP consists of: names of files, and classes that older versions of torch do not have."""

from __future__ import annotations

import re
from typing import Any

try:
    # Since torch 2.3.
    from torch.distributed.checkpoint.metadata import StorageMeta as _StorageMeta
except ImportError:
    _StorageMeta = None  # type: ignore[assignment,misc]

StorageMeta: Any = _StorageMeta

METADATA = ".metadata"
# The number is that of the rank.
DATA_FILE = re.compile(r"__([0-9]+)_[0-9]+(\.[0-9a-f]+)?\.distcp")
# Saved without collectives.
RANK_METADATA = re.compile(r"__([0-9]+)\.metadata")

# Of the items in a file, in bytes. torch aligns tensors so within their archives. So they are aligned in the memory that
# a range of the file is read into.
ALIGNMENT = 64
