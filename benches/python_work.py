"""What benches/python.py measures: one class for each row of its table."""

from __future__ import annotations

import gc
import io
import resource
import time

from python_clients import MIB

BATCH = 32
UPLOADS = "n0s0"  # an empty container
WRITES = 3  # a write costs so little that one would be too short to measure


class Sizes:
    """How much is transferred."""

    def __init__(self, quick: bool) -> None:
        self.bulk = 128 * MIB if quick else 1024 * MIB
        self.tensors, self.tensor_size = (10 if quick else 100), 5_000_000
        self.samples, self.sample_size = (200 if quick else 2000), 100 * 1024
        self.small_samples, self.small_size, self.small_epochs = (500 if quick else 2000), 1024, (2 if quick else 5)
        self.listed = 10_000 if quick else 50_000


class Places:
    """The names of the server's blobs and containers. Blobs of a listing are called sample/00000000 and so on."""

    def __init__(self, port: int, sizes: Sizes) -> None:
        self.port = port
        self.account = f"http://127.0.0.1:{port}/account"
        self.bulk_container = f"n1s{sizes.bulk}"
        self.samples_container = f"n{sizes.samples}s{sizes.sample_size}"
        self.small_container = f"n{sizes.small_samples}s{sizes.small_size}"
        self.listed_container = f"n{sizes.listed}s1000"


class Measured:
    """Wall time, CPU time and page faults of a block, with the processes that have ended in it."""

    def __enter__(self):
        gc.collect()
        self._wall, self._cpu, self._faults = time.perf_counter(), *_used()
        return self

    def so_far(self):
        """Return the wall time since the beginning."""
        return time.perf_counter() - self._wall

    def __exit__(self, *_error) -> None:
        self.wall = time.perf_counter() - self._wall
        cpu, faults = _used()
        self.cpu, self.faults = cpu - self._cpu, faults - self._faults

    def divided(self, count, unit=1):
        """Return this as the mean of `count` times. `unit`: how many of the row's units are a second."""
        self.wall, self.cpu, self.faults = self.wall * unit / count, self.cpu * unit / count, self.faults // count
        return self


def cpu_seconds():
    """Return the CPU time of this process and of its children that have ended."""
    return _used()[0]


def _used():
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts), sum(part.ru_minflt for part in parts)


def peak_memory():
    """Return the peak of this process's memory in bytes, or of its largest child's."""
    with open("/proc/self/status") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


class Work:
    """One row of the table. `measure` does it once, and checks what came out."""

    name = ""
    title = ""
    needs: tuple[str, ...] = ()  # methods of the client: any one of them
    uses_torch = False  # whether datasets must be imported before
    scale = "s"

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def measure(self, client, places) -> Measured:
        raise NotImplementedError


def _check(actual, expected) -> None:
    if actual != expected:
        raise AssertionError(f"{actual} in place of {expected}")


class ReadWhole(Work):
    name, title = "read", "read 1 GiB in one call"
    needs = ("read_whole", "read_bulk")

    def measure(self, client, places):
        if hasattr(client, "read_bulk"):
            with Measured() as measured:
                size = client.read_bulk(places.bulk_container, "sample/00000000")
        else:
            with Measured() as measured:
                data = client.read_whole(places.bulk_container, "sample/00000000")
            size = len(data)
            # The server's pattern.
            at = self.sizes.bulk - 1000
            _check(
                bytes(memoryview(data)[at : at + 100]),
                bytes((i % (8 * MIB) * 31 >> 3) % 256 for i in range(at, at + 100)),
            )
        _check(size, self.sizes.bulk)
        return measured


class ReadCalls(Work):
    name, title = "read-calls", "read 1 GiB in calls of 1 MiB"
    needs = ("open_reader", "read_bulk_in_calls")

    def measure(self, client, places):
        size = 0
        with Measured() as measured:
            if hasattr(client, "read_bulk_in_calls"):
                size = client.read_bulk_in_calls(places.bulk_container, "sample/00000000")
            else:
                file = client.open_reader(places.bulk_container, "sample/00000000")
                while data := file.read(MIB):
                    size += len(data)
                if hasattr(file, "close"):
                    file.close()
        _check(size, self.sizes.bulk)
        return measured


class WriteWhole(Work):
    name, title = "write", "write 1 GiB in one call"
    needs = ("write_whole", "write_bulk")

    def measure(self, client, places):
        data = bytes(range(256)) * (self.sizes.bulk // 256)
        with Measured() as measured:
            for _ in range(WRITES):
                if hasattr(client, "write_bulk"):
                    client.write_bulk(UPLOADS, "bulk", data, 1)
                else:
                    client.write_whole(UPLOADS, "bulk", data)
        return measured.divided(WRITES)


class WriteCalls(Work):
    name, title = "write-calls", "write 1 GiB in calls of 1 MiB"
    needs = ("open_writer", "write_bulk")

    def measure(self, client, places):
        data, count = bytes(range(256)) * (MIB // 256), self.sizes.bulk // MIB
        with Measured() as measured:
            for _ in range(WRITES):
                if hasattr(client, "write_bulk"):
                    client.write_bulk(UPLOADS, "bulk", data, count)
                    continue
                file = client.open_writer(UPLOADS, "bulk")
                for _ in range(count):
                    file.write(data)
                file.close()
        return measured.divided(WRITES)


def make_state(sizes):
    """Return what the rows `save` and `load` are about."""
    import torch

    return {f"layer{i}.weight": torch.arange(sizes.tensor_size // 4, dtype=torch.float32) for i in range(sizes.tensors)}


class Save(Work):
    name, title = "save", "`torch.save` of 500 MB"
    needs = ("open_writer",)

    def measure(self, client, places):
        import torch

        state = make_state(self.sizes)
        with Measured() as measured:
            file = client.open_writer(UPLOADS, "state.pt")
            torch.save(state, file)
            file.close()
        return measured


class Load(Work):
    name, title = "load", "`torch.load` of 500 MB"
    needs = ("open_reader",)

    def measure(self, client, places):
        import torch

        # torch's own imports, which the first load does.
        buffer = io.BytesIO()
        torch.save({"x": torch.zeros(1)}, buffer)
        torch.load(io.BytesIO(buffer.getvalue()))
        with Measured() as measured:
            if not client.torch_loads:
                state = torch.load(io.BytesIO(client.read_whole("file", "state.pt")))
            else:
                with client.open_reader("file", "state.pt") as file:
                    state = torch.load(file)
        _check(len(state), self.sizes.tensors)
        _check(float(state["layer3.weight"][12345]), 12345.0)
        return measured


def _count(batch):
    return len(batch), sum(len(sample["data"]) for sample in batch)


class Loader(Work):
    needs, uses_torch = ("dataset",), True
    workers = 0

    def _dataset(self, client, places):
        return client.dataset(places.samples_container)

    def measure(self, client, places):
        from torch.utils.data import DataLoader

        dataset = self._dataset(client, places)
        count = size = 0
        # The default on Linux is fork.
        options = {} if client.forks or not self.workers else {"multiprocessing_context": "spawn"}
        with Measured() as measured:
            loader = DataLoader(dataset, batch_size=BATCH, num_workers=self.workers, collate_fn=_count, **options)
            iterator = iter(loader)
            for number, total in iterator:
                count += number
                size += total
            # Waits for the workers, whose CPU time counts then.
            del iterator, loader
            gc.collect()
        _check((count, size), (self.sizes.samples, self.sizes.samples * self.sizes.sample_size))
        return measured


class Loader0(Loader):
    name, title = "loader-0", "2,000 × 100 KiB, `DataLoader` without workers"


class Loader2(Loader):
    name, title, workers = "loader-2", "the same with 2 workers", 2


class Loader4(Loader):
    name, title, workers = "loader-4", "the same with 4 workers", 4


class Iterable(Loader):
    needs, uses_torch = ("iterable",), True

    def _dataset(self, client, places):
        return client.iterable(places.samples_container)


class Iterable0(Iterable):
    name, title = "iterable-0", "the same blobs, `IterableBlobDataset` without workers"


class Iterable2(Iterable):
    name, title, workers = "iterable-2", "the same with 2 workers", 2


class Iterable4(Iterable):
    name, title, workers = "iterable-4", "the same with 4 workers", 4


class Loop(Work):
    name, title = "loop", "the same blobs in a loop, `dataset[i]`"
    needs, uses_torch = ("dataset",), True

    def measure(self, client, places):
        dataset = client.dataset(places.samples_container)
        with Measured() as measured:
            size = sum(len(dataset[i]["data"]) for i in range(len(dataset)))
        _check(size, self.sizes.samples * self.sizes.sample_size)
        return measured


class List(Work):
    name, title = "list", "list 50,000 blobs"
    needs, uses_torch = ("list",), True

    def measure(self, client, places):
        with Measured() as measured:
            count = client.list(places.listed_container)
        _check(count, self.sizes.listed)
        return measured


class Small(Work):
    """Per sample: what small samples cost. Beside the C API, the difference is Python."""

    name, title, scale = "small", "a sample of 1 KiB, in batches of 32", "µs"
    needs, uses_torch = ("dataset", "get_batch"), True
    batch = BATCH

    def measure(self, client, places):
        count = self.sizes.small_samples
        batches = [list(range(first, min(first + self.batch, count))) for first in range(0, count, self.batch)]
        if hasattr(client, "get_batch"):
            client.list(places.small_container)
            fetch = client.get_batch if self.batch > 1 else client.get_one
        else:
            fetch = self._fetch_of(client.dataset(places.small_container))
        fetch(batches[0])
        size = epochs = 0
        with Measured() as measured:
            # Slow clients do it once.
            while epochs < self.sizes.small_epochs and (epochs == 0 or measured.so_far() < 2):
                for batch in batches:
                    size += fetch(batch)
                epochs += 1
        samples = count * epochs
        _check(size, samples * self.sizes.small_size)
        return measured.divided(samples, 1_000_000)

    def _fetch_of(self, dataset):
        # What torch calls for a batch.
        if self.batch > 1 and hasattr(dataset, "__getitems__"):
            return lambda batch: sum(len(sample["data"]) for sample in dataset.__getitems__(batch))
        return lambda batch: sum(len(dataset[index]["data"]) for index in batch)


class SmallLoop(Small):
    name, title, batch = "small-loop", "a sample of 1 KiB, in a loop, `dataset[i]`", 1


class Import(Work):
    name, title, scale = "import", "import", "ms"

    def measure(self, client, places):
        raise AssertionError("measured by the parent")


WORKS = [
    ReadWhole,
    ReadCalls,
    WriteWhole,
    WriteCalls,
    Save,
    Load,
    Loader0,
    Loader2,
    Loader4,
    Iterable0,
    Iterable2,
    Iterable4,
    Loop,
    List,
    Small,
    SmallLoop,
    Import,
]
BY_NAME = {work.name: work for work in WORKS}
QUICK = ("read", "read-calls", "write", "load", "loader-0", "loader-2", "loop", "list", "small", "import")
