"""The C API from Python, with ctypes only. See abi.py for the environment variables."""

import ctypes
import os
import threading
import unittest
from ctypes import byref, c_bool, c_size_t

from abi import (
    ALREADY_EXISTS,
    CONTAINER,
    CREATE,
    INVALID_ARGUMENT,
    NOT_FOUND,
    READ,
    UNSUPPORTED,
    WRITE,
    AztorchError,
    etag,
    exists,
    free,
    number,
    opened,
    put,
    read_at,
    read_bytes,
    seek,
    size,
    status_name,
    tell,
    version,
    write,
)


class CtypesTest(unittest.TestCase):
    def test_a_blob_reads_back_as_written(self):
        data = os.urandom(9_000_001)
        written = put("ctypes/large", data)
        blob = opened("ctypes/large", READ)
        self.addCleanup(free, blob)
        self.assertEqual(etag(blob), written)
        self.assertEqual(number(size, blob), len(data))
        self.assertTrue(read_bytes(blob, len(data) + 1) == data)
        self.assertEqual(read_bytes(blob, 1), b"")

    def test_seek_and_tell_agree(self):
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

    def test_errors_have_status_code_and_message(self):
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

    def test_a_freed_writer_publishes_nothing(self):
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
