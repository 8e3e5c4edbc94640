"""Downloads and deletes blobs through the C ABI of libaztorch, with ctypes: demo_blob.py delete URL..."""

import ctypes
import os
import sys

NOT_FOUND = 10

_library = ctypes.CDLL(os.environ.get("AZTORCH_LIBRARY", "libaztorch.so.0"))
for _name, _arguments in {"azt_blob_download": 2, "azt_blob_delete": 1}.items():
    _function = getattr(_library, _name)
    _function.restype = ctypes.c_int32
    _function.argtypes = [
        ctypes.c_void_p,
        *[ctypes.c_char_p] * _arguments,
        ctypes.POINTER(ctypes.c_void_p),
    ]
_library.azt_error_message.restype = ctypes.c_char_p
_library.azt_error_message.argtypes = [ctypes.c_void_p]
_library.azt_error_free.restype = None
_library.azt_error_free.argtypes = [ctypes.c_void_p]


class BlobError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def _call(function, *texts):
    error = ctypes.c_void_p()
    # None is the process-wide default client, which uses the SAS of the URL.
    status = function(None, *(text.encode() for text in texts), ctypes.byref(error))
    if status != 0:
        message = _library.azt_error_message(error).decode()
        _library.azt_error_free(error)
        raise BlobError(status, message)


def download(url, path):
    _call(_library.azt_blob_download, url, path)


def delete(url):
    """Deletes a blob. A missing blob is no error."""
    try:
        _call(_library.azt_blob_delete, url)
    except BlobError as error:
        if error.status != NOT_FOUND:
            raise


def main():
    if len(sys.argv) < 3 or sys.argv[1] != "delete":
        sys.exit(__doc__)
    for url in sys.argv[2:]:
        delete(url)


if __name__ == "__main__":
    try:
        main()
    except BlobError as error:
        sys.exit(f"demo_blob.py: {error}")
