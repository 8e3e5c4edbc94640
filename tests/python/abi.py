"""The C API through ctypes. AZTORCH_LIBRARY is the path of the shared library, AZTORCH_TEST_CONTAINER_URL the URL of a
container with a SAS."""

import ctypes
import os
from ctypes import POINTER, byref, c_bool, c_char_p, c_int32, c_int64, c_size_t, c_uint16, c_uint64, c_void_p

OK, INVALID_ARGUMENT, UNSUPPORTED, NOT_FOUND, ALREADY_EXISTS, FORKED = 0, 1, 2, 10, 11, 50
READ, WRITE, CREATE = 0, 1, 2

library = ctypes.CDLL(os.environ["AZTORCH_LIBRARY"])
CONTAINER = os.environ["AZTORCH_TEST_CONTAINER_URL"].encode()


class AztorchError(Exception):
    def __init__(self, error):
        super().__init__(library.azt_error_message(error).decode())
        self.status = library.azt_error_status(error)
        self.http_status = library.azt_error_http_status(error)
        self.service_code = library.azt_error_service_code(error).decode()


def declare(name, result, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


def fallible(name, *arguments):
    """A function that returns a status and takes an error last, wrapped so that it raises AztorchError."""
    function = declare(name, c_int32, *arguments, POINTER(c_void_p))

    def call(*values):
        error = c_void_p()
        if function(*values, byref(error)) != OK:
            try:
                raise AztorchError(error)
            finally:
                library.azt_error_free(error)

    return call


declare("azt_error_status", c_int32, c_void_p)
declare("azt_error_message", c_char_p, c_void_p)
declare("azt_error_http_status", c_uint16, c_void_p)
declare("azt_error_service_code", c_char_p, c_void_p)
declare("azt_error_free", None, c_void_p)
status_name = declare("azt_status_name", c_char_p, c_int32)
version = declare("azt_version", c_char_p)
etag = declare("azt_blob_etag", c_char_p, c_void_p)
free = declare("azt_blob_free", None, c_void_p)
open_in = fallible("azt_blob_open_in", c_void_p, c_char_p, c_char_p, c_int32, POINTER(c_void_p))
read = fallible("azt_blob_read", c_void_p, c_void_p, c_size_t, POINTER(c_size_t))
read_at = fallible("azt_blob_read_at", c_void_p, c_uint64, c_void_p, c_size_t, POINTER(c_size_t))
seek = fallible("azt_blob_seek", c_void_p, c_int64, c_int32, POINTER(c_uint64))
tell = fallible("azt_blob_tell", c_void_p, POINTER(c_uint64))
size = fallible("azt_blob_size", c_void_p, POINTER(c_uint64))
write = fallible("azt_blob_write", c_void_p, c_void_p, c_size_t)
close = fallible("azt_blob_close", c_void_p)
exists = fallible("azt_blob_exists", c_void_p, c_char_p, POINTER(c_bool))
client_new = fallible("azt_client_new", c_void_p, POINTER(c_void_p))
client_free = declare("azt_client_free", None, c_void_p)
dataset_list = fallible("azt_dataset_list", c_void_p, c_char_p, c_char_p, POINTER(c_void_p))
dataset_len = declare("azt_dataset_len", c_size_t, c_void_p)
dataset_get = fallible("azt_dataset_get", c_void_p, c_size_t, POINTER(c_void_p))
dataset_free = declare("azt_dataset_free", None, c_void_p)
stream_from_dataset = fallible("azt_stream_from_dataset", c_void_p, c_size_t, c_size_t, POINTER(c_void_p))
stream_next = fallible("azt_stream_next", c_void_p, POINTER(c_void_p))
stream_free = declare("azt_stream_free", None, c_void_p)
sample_data = declare("azt_sample_data", c_void_p, c_void_p)
sample_size = declare("azt_sample_size", c_size_t, c_void_p)
sample_free = declare("azt_sample_free", None, c_void_p)


def opened(name, mode):
    """Opens a blob of the container; the caller frees it."""
    blob = c_void_p()
    open_in(None, CONTAINER, name.encode(), mode, byref(blob))
    return blob


def number(function, *values):
    """Calls a function whose last output is a uint64_t, and returns that."""
    value = c_uint64()
    function(*values, byref(value))
    return value.value


def read_bytes(blob, length):
    buffer, done = ctypes.create_string_buffer(max(length, 1)), c_size_t()
    read(blob, buffer, length, byref(done))
    return buffer.raw[: done.value]


def put(name, data, mode=WRITE):
    blob = opened(name, mode)
    try:
        write(blob, data, len(data))
        close(blob)
        return etag(blob)
    finally:
        free(blob)


def take_bytes(sample):
    """Copies a sample's bytes and frees the sample. None for NULL."""
    if not sample:
        return None
    try:
        return ctypes.string_at(sample_data(sample), sample_size(sample))
    finally:
        sample_free(sample)


def entry(dataset, index):
    """Fetches an entry of a dataset and returns its bytes."""
    sample = c_void_p()
    dataset_get(dataset, index, byref(sample))
    return take_bytes(sample)


def next_of(stream):
    """Fetches the next sample of a stream and returns its bytes; None at the end."""
    sample = c_void_p()
    stream_next(stream, byref(sample))
    return take_bytes(sample)
