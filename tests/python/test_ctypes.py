"""The C ABI from Python's standard library alone: AZTORCH_LIBRARY is the shared library, AZTORCH_TEST_CONTAINER_URL a
container's URL with a SAS."""

import ctypes
import os
import threading
import unittest
from ctypes import POINTER, byref, c_bool, c_char_p, c_int32, c_int64, c_size_t, c_uint16, c_uint64, c_void_p

OK, INVALID_ARGUMENT, UNSUPPORTED, NOT_FOUND, ALREADY_EXISTS = 0, 1, 2, 10, 11
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
    """A function that returns a status and takes an error last, as one that raises."""
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


def opened(name, mode):
    blob = c_void_p()
    open_in(None, CONTAINER, name.encode(), mode, byref(blob))
    return blob


def number(function, *values):
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


class CtypesTest(unittest.TestCase):
    def test_what_is_written_is_read(self):
        data = os.urandom(9_000_001)
        written = put("ctypes/large", data)
        blob = opened("ctypes/large", READ)
        self.addCleanup(free, blob)
        self.assertEqual(etag(blob), written)
        self.assertEqual(number(size, blob), len(data))
        self.assertTrue(read_bytes(blob, len(data) + 1) == data)
        self.assertEqual(read_bytes(blob, 1), b"")

    def test_seek_and_tell(self):
        put("ctypes/seek", b"0123456789")
        blob = opened("ctypes/seek", READ)
        self.addCleanup(free, blob)
        self.assertEqual(number(seek, blob, 4, os.SEEK_SET), 4)
        self.assertEqual(read_bytes(blob, 2), b"45")
        self.assertEqual(number(seek, blob, -1, os.SEEK_CUR), 5)
        self.assertEqual(number(seek, blob, -3, os.SEEK_END), 7)
        self.assertEqual(read_bytes(blob, 100), b"789")
        self.assertEqual(number(tell, blob), 10)
        with self.assertRaises(AztorchError) as refused:
            number(seek, blob, -11, os.SEEK_END)
        self.assertEqual(refused.exception.status, INVALID_ARGUMENT)
        self.assertEqual(number(tell, blob), 10)

    def test_errors_say_what_failed(self):
        with self.assertRaises(AztorchError) as absent:
            opened("ctypes/absent", READ)
        error = absent.exception
        self.assertEqual((error.status, error.http_status, error.service_code), (NOT_FOUND, 404, "BlobNotFound"))
        self.assertIn("ctypes/absent", str(error))
        self.assertNotIn("\n", str(error))
        self.assertEqual(status_name(error.status), b"AZT_STATUS_NOT_FOUND")
        self.assertRegex(version().decode(), r"^\d+\.\d+\.\d+$")

        put("ctypes/created", b"first")
        with self.assertRaises(AztorchError) as second:
            put("ctypes/created", b"second", CREATE)
        self.assertEqual(second.exception.status, ALREADY_EXISTS)

        blob = opened("ctypes/created", WRITE)
        self.addCleanup(free, blob)
        with self.assertRaises(AztorchError) as reading:
            read_bytes(blob, 1)
        self.assertEqual(reading.exception.status, UNSUPPORTED)

    def test_a_writer_that_is_freed_publishes_nothing(self):
        blob = opened("ctypes/discarded", WRITE)
        write(blob, b"half", 4)
        free(blob)
        path, query = CONTAINER.split(b"?")
        found = c_bool(True)
        exists(None, path + b"/ctypes/discarded?" + query, byref(found))
        self.assertFalse(found.value)

    def test_threads_share_a_reader(self):
        data = os.urandom(6_000_000)
        put("ctypes/shared", data)
        blob = opened("ctypes/shared", READ)
        self.addCleanup(free, blob)
        wrong = []

        def work(worker):
            buffer, done = ctypes.create_string_buffer(100_000), c_size_t()
            for step in range(20):
                offset = (worker * 700_001 + step * 250_007) % len(data)
                read_at(blob, offset, buffer, 100_000, byref(done))
                if buffer.raw[: done.value] != data[offset : offset + 100_000]:
                    wrong.append((worker, step))

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
