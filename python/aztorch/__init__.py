"""Azure Blob Storage for PyTorch.

- :mod:`aztorch.io`: blobs as files, for ``torch.save``, ``torch.load`` and others
- :mod:`aztorch.datasets`: datasets over containers (needs torch)
- :mod:`aztorch.checkpoint`: distributed checkpoints on blobs (needs torch 2)
- :mod:`aztorch.lightning`: the same for Lightning (needs lightning)
- :mod:`aztorch.exceptions`: what is raised
"""

from aztorch._client import stats
from aztorch._library import lib as _lib
from aztorch._library import text as _text
from aztorch._operations import exists, remove
from aztorch.io import BlobIO, open

__all__ = ["BlobIO", "__version__", "exists", "open", "remove", "stats"]

#: The version of the package and of the library in it.
__version__: str = _text(_lib.azt_version())
