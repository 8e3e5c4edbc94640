"""The C API in Python's multiprocessing, with fork and spawn: workers of a data loader use the handles of their parent,
or make their own."""

import multiprocessing
import os
import threading
import unittest
from ctypes import byref, c_size_t, c_void_p, create_string_buffer

import abi

COUNT = 12
TIMEOUT_S = 120


def content(index):
    return bytes([index]) * (1000 + index)


def status_of(function, *values):
    try:
        function(*values)
    except abi.AztorchError as error:
        return error.status
    return abi.OK


def client_and_dataset():
    """Makes a client and a dataset; the caller frees them."""
    client, dataset = c_void_p(), c_void_p()
    abi.client_new(None, byref(client))
    abi.dataset_list(client, abi.CONTAINER, b"fork/", byref(dataset))
    return client, dataset


class Inherited:
    """Handles of the parent. A child can get them by fork only."""

    def __init__(self):
        self.client, self.dataset = client_and_dataset()
        self.stream, self.reader, self.writer = c_void_p(), c_void_p(), c_void_p()
        abi.stream_from_dataset(self.dataset, 0, 1, byref(self.stream))
        self.reader = abi.opened("fork/00", abi.READ)
        self.writer = abi.opened("written", abi.WRITE)
        abi.write(self.writer, b"half", 4)
        assert abi.next_of(self.stream) == content(0) and abi.read_bytes(self.reader, 10) == content(0)[:10]

    def free(self):
        for free, handle in [
            (abi.free, self.writer),
            (abi.free, self.reader),
            (abi.stream_free, self.stream),
            (abi.dataset_free, self.dataset),
            (abi.client_free, self.client),
        ]:
            free(handle)


def forked_worker(inherited, results):
    read, done = create_string_buffer(10), c_size_t()
    statuses = [
        status_of(abi.read, inherited.reader, read, 10, byref(done)),
        status_of(abi.write, inherited.writer, b"more", 4),
        status_of(abi.close, inherited.writer),
    ]
    streamed = [abi.next_of(inherited.stream) for _ in range(COUNT + 1)]
    listed = [abi.entry(inherited.dataset, index) for index in range(COUNT)]
    inherited.free()
    results.put((statuses, streamed, listed))


def own_worker(worker, results):
    client, dataset = client_and_dataset()
    listed = [abi.entry(dataset, index) for index in range(worker, COUNT, 3)]
    abi.dataset_free(dataset)
    abi.client_free(client)
    results.put((worker, listed))


class ForkTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for index in range(COUNT):
            abi.put(f"fork/{index:02}", content(index))

    def run_all(self, context, target, arguments):
        """Runs a process for each tuple of arguments, and returns their results."""
        results = context.Queue()
        processes = [context.Process(target=target, args=(*each, results)) for each in arguments]
        for process in processes:
            process.start()
        answers = [results.get(timeout=TIMEOUT_S) for _ in processes]
        for process in processes:
            process.join(TIMEOUT_S)
            self.assertEqual(process.exitcode, 0)
        return answers

    def test_forked_workers_can_use_inherited_handles(self):
        inherited = Inherited()
        context = multiprocessing.get_context("fork")
        for statuses, streamed, listed in self.run_all(context, forked_worker, [(inherited,)] * 4):
            self.assertIn(statuses[0], (abi.OK, abi.FORKED))
            self.assertEqual(statuses[1:], [abi.FORKED, abi.FORKED])
            self.assertEqual(streamed, [content(index) for index in range(COUNT)] + [None])
            self.assertEqual(listed, [content(index) for index in range(COUNT)])
        # The parent's handles are unaffected.
        self.assertEqual(abi.next_of(inherited.stream), content(1))
        self.assertEqual(abi.read_bytes(inherited.reader, 10), content(0)[10:20])
        abi.write(inherited.writer, b" and half", 9)
        abi.close(inherited.writer)
        inherited.free()
        written = abi.opened("written", abi.READ)
        self.addCleanup(abi.free, written)
        self.assertEqual(abi.read_bytes(written, 100), b"half and half")

    def test_workers_can_make_their_own_handles(self):
        inherited = Inherited()  # which must not disturb the workers
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method):
                context = multiprocessing.get_context(method)
                for worker, listed in self.run_all(context, own_worker, [(worker,) for worker in range(3)]):
                    self.assertEqual(listed, [content(index) for index in range(worker, COUNT, 3)])
        inherited.free()

    def test_a_pool_works_while_the_parent_reads(self):
        data = os.urandom(4_000_000)
        abi.put("parent", data)
        stop, wrong = threading.Event(), []

        def read_repeatedly():
            while not stop.is_set():
                reader = abi.opened("parent", abi.READ)
                if abi.read_bytes(reader, len(data)) != data:
                    wrong.append("the bytes differ")
                abi.free(reader)

        thread = threading.Thread(target=read_repeatedly)
        thread.start()
        try:
            for _ in range(5):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    names = pool.map(first_byte, range(COUNT), chunksize=2)
                self.assertEqual(names, [content(index)[0] for index in range(COUNT)])
        finally:
            stop.set()
            thread.join()
        self.assertEqual(wrong, [])


def first_byte(index):
    reader = abi.opened(f"fork/{index:02}", abi.READ)
    try:
        return abi.read_bytes(reader, 1)[0]
    finally:
        abi.free(reader)


if __name__ == "__main__":
    unittest.main()
