"""The clients that benches/python.py measures: one class for each, with what a user would write."""

from __future__ import annotations

import mmap
import os
import socket
import threading

MIB = 1 << 20
# A client without datasets of its own has several requests in flight where its documentation says how.
CONCURRENCY = 8


class Client:
    """What a client does. A method that is missing here in a subclass is a function that the client does not have.

    `container` and `name` say which blob; containers are made of what the server knows (see `Places`).
    """

    title = ""
    package = ""  # imported for "import"; must be installed
    forks = True  # whether it works in the forked workers of a DataLoader
    torch_loads = True  # whether torch.load takes its files; otherwise the blob is read as a whole

    def __init__(self, places) -> None:
        self.places = places  # of python_work
        self.load()

    def load(self):
        """Import the client."""

    def prepare_datasets(self) -> None:
        """Import what datasets need; files need no torch."""

    def __reduce__(self):
        # For spawned workers.
        return type(self), (self.places,)

    def url(self, container: str, name: str = "") -> str:
        return f"{self.places.account}/{container}/{name}".rstrip("/")


class Aztorch(Client):
    title = "aztorch"
    package = "aztorch.io"

    def load(self):
        import aztorch.io

        self.aztorch = aztorch

    def prepare_datasets(self) -> None:
        import aztorch.datasets  # noqa: F401

    def _open(self, container, name, mode):
        return self.aztorch.io.BlobIO(self.url(container, name), mode, credential=False)

    def read_whole(self, container, name):
        with self._open(container, name, "rb") as file:
            return file.read()

    def open_reader(self, container, name):
        return self._open(container, name, "rb")

    def open_writer(self, container, name):
        return self._open(container, name, "wb")

    def write_whole(self, container, name, data):
        with self._open(container, name, "wb") as file:
            file.write(data)

    def dataset(self, container):
        return self.aztorch.datasets.BlobDataset.from_container_url(self.url(container), credential=False)

    def iterable(self, container):
        return self.aztorch.datasets.IterableBlobDataset.from_container_url(self.url(container), credential=False)

    def list(self, container):
        return len(self.dataset(container))


class CApi(Client):
    """Our own C path: the functions of the library, with new memory for each call as Python has it."""

    title = "C API"
    package = "aztorch._library"

    def load(self):
        import ctypes

        from aztorch._library import ffi, lib

        self.ffi, self.lib = ffi, lib
        self.error = ffi.new("azt_error **")
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
        self.libc = libc
        self._client = None

    def _check(self, status):
        if status:
            raise RuntimeError(self.ffi.string(self.lib.azt_error_message(self.error[0])).decode())

    def client(self):
        if self._client is None:
            options, made = self.lib.azt_client_options_new(), self.ffi.new("azt_client **")
            self._check(self.lib.azt_client_options_set_anonymous(options, self.error))
            self._check(self.lib.azt_client_new(options, made, self.error))
            self._client = made[0]
        return self._client

    def open_blob(self, container, name, mode):
        made = self.ffi.new("azt_blob **")
        url = self.url(container, name).encode()
        self._check(self.lib.azt_blob_open(self.client(), url, mode, made, self.error))
        return made[0]

    def _read_calls(self, container, name, size):
        lib, libc, error, read = self.lib, self.libc, self.error, self.ffi.new("size_t *")
        blob, total = self.open_blob(container, name, lib.AZT_BLOB_MODE_READ), 0
        if size is None:
            known = self.ffi.new("uint64_t *")
            self._check(lib.azt_blob_size(blob, known, error))
            size = known[0]
        while True:
            memory = libc.malloc(size)
            self._check(lib.azt_blob_read(blob, self.ffi.cast("void *", memory), size, read, error))
            libc.free(memory)
            total += read[0]
            if read[0] < size:
                break
        lib.azt_blob_free(blob)
        return total

    def read_bulk(self, container, name):
        return self._read_calls(container, name, None)

    def read_bulk_in_calls(self, container, name):
        return self._read_calls(container, name, MIB)

    def write_bulk(self, container, name, data, step):
        blob = self.open_blob(container, name, self.lib.AZT_BLOB_MODE_WRITE)
        memory = self.ffi.from_buffer(data)
        for _ in range(step):
            self._check(self.lib.azt_blob_write(blob, memory, len(data), self.error))
        self._check(self.lib.azt_blob_close(blob, self.error))
        self.lib.azt_blob_free(blob)

    def list(self, container):
        made = self.ffi.new("azt_dataset **")
        self._check(
            self.lib.azt_dataset_list(self.client(), self.url(container).encode(), self.ffi.NULL, made, self.error)
        )
        self.listed = made[0]
        return self.lib.azt_dataset_len(made[0])

    def get_batch(self, indices):
        """Fetch samples, look at their bytes, free them, and return their total size."""
        lib, count, total = self.lib, len(indices), 0
        samples = self.ffi.new("azt_sample *[]", count)
        self._check(
            lib.azt_dataset_get_batch(self.listed, self.ffi.new("size_t[]", indices), count, samples, self.error)
        )
        for number in range(count):
            total += lib.azt_sample_size(samples[number])
            lib.azt_sample_free(samples[number])
        return total

    def get_one(self, indices):
        """Do the same for one sample."""
        sample = self.ffi.new("azt_sample **")
        self._check(self.lib.azt_dataset_get(self.listed, indices[0], sample, self.error))
        size = self.lib.azt_sample_size(sample[0])
        self.lib.azt_sample_free(sample[0])
        return size


class Azstoragetorch(Client):
    title = "azstoragetorch"
    package = "azstoragetorch.io"

    def load(self):
        import azstoragetorch.io

        self.azstoragetorch = azstoragetorch

    def prepare_datasets(self) -> None:
        import azstoragetorch.datasets  # noqa: F401

    def _open(self, container, name, mode):
        return self.azstoragetorch.io.BlobIO(self.url(container, name), mode, credential=False)

    read_whole = Aztorch.read_whole
    open_reader = Aztorch.open_reader
    open_writer = Aztorch.open_writer
    write_whole = Aztorch.write_whole

    def dataset(self, container):
        return self.azstoragetorch.datasets.BlobDataset.from_container_url(self.url(container), credential=False)

    def iterable(self, container):
        return self.azstoragetorch.datasets.IterableBlobDataset.from_container_url(
            self.url(container), credential=False
        )

    list = Aztorch.list


class _Samples:
    """A map-style dataset, as one writes it for a client that has none."""

    def __init__(self, client, container) -> None:
        self._client, self._container = client, container
        self._names = client.names(container)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index):
        name = self._names[index]
        return {"url": self._client.url(self._container, name), "data": self._client.read_whole(self._container, name)}


class OwnDatasets(Client):
    """A client that lists and reads, but knows no torch."""

    def names(self, container):
        raise NotImplementedError

    def dataset(self, container):
        return _Samples(self, container)

    def list(self, container):
        return len(self.names(container))


class AzureStorageBlob(OwnDatasets):
    title = "azure-storage-blob"
    torch_loads = False
    package = "azure.storage.blob"

    def load(self):
        import azure.storage.blob

        self._module = azure.storage.blob
        self._containers = {}

    def _container(self, container):
        key = (os.getpid(), container)
        if key not in self._containers:
            self._containers[key] = self._module.ContainerClient.from_container_url(self.url(container))
        return self._containers[key]

    def read_whole(self, container, name):
        return self._container(container).download_blob(name, max_concurrency=CONCURRENCY).readall()

    def open_reader(self, container, name):
        return self._container(container).download_blob(name, max_concurrency=CONCURRENCY)

    def write_whole(self, container, name, data):
        self._container(container).upload_blob(name, data, overwrite=True, max_concurrency=CONCURRENCY)

    def names(self, container):
        return [blob.name for blob in self._container(container).list_blobs()]


class Obstore(OwnDatasets):
    title = "obstore"
    torch_loads = False
    package = "obstore"
    forks = False

    def load(self):
        import obstore.store

        self._obstore = obstore
        self._stores = {}

    def _store(self, container):
        key = (os.getpid(), container)
        if key not in self._stores:
            self._stores[key] = self._obstore.store.AzureStore(
                container_name=container,
                account_name="account",
                endpoint=self.places.account,
                skip_signature=True,
                client_options={"allow_http": True},
            )
        return self._stores[key]

    def read_whole(self, container, name):
        return self._obstore.get(self._store(container), name).bytes()

    def open_reader(self, container, name):
        return self._obstore.open_reader(self._store(container), name)

    def open_writer(self, container, name):
        return self._obstore.open_writer(self._store(container), name)

    def write_whole(self, container, name, data):
        self._obstore.put(self._store(container), name, data)

    def names(self, container):
        return [entry["path"] for page in self._obstore.list(self._store(container)) for entry in page]


class _TakesMemoryviews:
    """A file of opendal, which takes only `bytes`, for what torch.save writes."""

    def __init__(self, file) -> None:
        self._file = file
        self.close = file.close
        self.flush = file.flush

    def write(self, data):
        return self._file.write(data if isinstance(data, bytes) else bytes(data))


class Opendal(OwnDatasets):
    title = "opendal"
    torch_loads = False
    package = "opendal"
    forks = False

    def load(self):
        import opendal

        self._opendal = opendal
        self._operators = {}
        # Of writes. Reads take the same options, and are slower with them: they ask for the size first.
        self._options = {"chunk": 8 * MIB, "concurrent": CONCURRENCY}

    def _operator(self, container):
        key = (os.getpid(), container)
        if key not in self._operators:
            self._operators[key] = self._opendal.Operator(
                "azblob",
                container=container,
                endpoint=self.places.account,
                account_name="account",
                sas_token="sv=2024-05-04&sig=none",
            )
        return self._operators[key]

    def read_whole(self, container, name):
        return self._operator(container).read(name)

    def open_reader(self, container, name):
        return self._operator(container).open(name, "rb")

    def open_writer(self, container, name):
        return _TakesMemoryviews(self._operator(container).open(name, "wb", **self._options))

    def write_whole(self, container, name, data):
        self._operator(container).write(name, data, **self._options)

    def names(self, container):
        return [entry.path for entry in self._operator(container).list("", recursive=True)]


class Pyarrow(OwnDatasets):
    title = "pyarrow"
    package = "pyarrow.fs"
    forks = False

    def load(self):
        import pyarrow.fs

        self._fs = pyarrow.fs
        self._systems = {}

    def _system(self):
        key = os.getpid()
        if key not in self._systems:
            authority = f"127.0.0.1:{self.places.port}"
            self._systems[key] = self._fs.AzureFileSystem(
                "account",
                account_key="bm9uZQ==",
                blob_storage_authority=authority,
                blob_storage_scheme="http",
                dfs_storage_authority=authority,
                dfs_storage_scheme="http",
            )
        return self._systems[key]

    def read_whole(self, container, name):
        with self._system().open_input_file(f"{container}/{name}") as file:
            return file.read()

    def open_reader(self, container, name):
        return self._system().open_input_file(f"{container}/{name}")

    def open_writer(self, container, name):
        return self._system().open_output_stream(f"{container}/{name}")

    def write_whole(self, container, name, data):
        with self._system().open_output_stream(f"{container}/{name}") as file:
            file.write(data)

    def names(self, container):
        selector = self._fs.FileSelector(container, recursive=True)
        return [info.path.partition("/")[2] for info in self._system().get_file_info(selector) if info.is_file]


class Adlfs(OwnDatasets):
    title = "adlfs"
    package = "adlfs"

    def load(self):
        import adlfs

        self._adlfs = adlfs
        self._systems = {}

    def _system(self):
        key = os.getpid()
        if key not in self._systems:
            connection = (
                f"BlobEndpoint={self.places.account};AccountName=account;SharedAccessSignature=sv=2024-05-04&sig=none"
            )
            self._systems[key] = self._adlfs.AzureBlobFileSystem(
                account_name="account", connection_string=connection, skip_instance_cache=True
            )
        return self._systems[key]

    def read_whole(self, container, name):
        return self._system().cat_file(f"{container}/{name}")

    def open_reader(self, container, name):
        return self._system().open(f"{container}/{name}", "rb")

    def open_writer(self, container, name):
        return self._system().open(f"{container}/{name}", "wb")

    def write_whole(self, container, name, data):
        self._system().pipe_file(f"{container}/{name}", data)

    def names(self, container):
        return [path.partition("/")[2] for path in self._system().find(container)]


class Sockets(Client):
    """A floor: two plain connections, whose bytes are received into new memory or sent from the data."""

    title = "sockets"
    package = "socket"

    def _in_parts(self, size, part):
        half = size // 2
        threads = [threading.Thread(target=part, args=(first, half)) for first in (0, half)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _exchange(self, head):
        connection = socket.create_connection(("127.0.0.1", self.places.port))
        connection.sendall(f"{head}Host: 127.0.0.1\r\n\r\n".encode())
        return connection

    def read_bulk(self, container, name):
        size = int(container.partition("s")[2])
        # Memory that has no pages yet, as malloc gives it.
        memory = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

        def part(first, length):
            head = f"GET /account/{container}/{name} HTTP/1.1\r\nRange: bytes={first}-{first + length - 1}\r\n"
            connection = self._exchange(head)
            with connection.makefile("rb", buffering=0) as answer:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += answer.read(1)
            target = memory[first : first + length]
            while len(target):
                target = target[connection.recv_into(target, min(len(target), MIB)) :]

        self._in_parts(size, part)
        return size

    def write_bulk(self, container, name, data, step):
        view = memoryview(data)

        def part(first, length):
            head = f"PUT /account/{container}/{name} HTTP/1.1\r\nContent-Length: {length}\r\n"
            connection = self._exchange(head)
            for _ in range(0, length, min(length, len(data))):
                connection.sendall(view[first : first + length] if step == 1 else view)
            connection.recv(4096)

        self._in_parts(len(data) * step, part)


CLIENTS = {
    "aztorch": Aztorch,
    "azstoragetorch": Azstoragetorch,
    "azure-storage-blob": AzureStorageBlob,
    "obstore": Obstore,
    "opendal": Opendal,
    "pyarrow": Pyarrow,
    "adlfs": Adlfs,
    "c": CApi,
    "sockets": Sockets,
}
