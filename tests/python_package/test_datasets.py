"""BlobDataset, IterableBlobDataset and Blob: what azstoragetorch's users know, and what they get beyond it."""

import copy
import gc
import multiprocessing
import pickle

import pytest
import torch
from fault_server import Reply
from torch.utils.data import DataLoader, get_worker_info

import aztorch
from aztorch import exceptions
from aztorch.datasets import Blob, BlobDataset, IterableBlobDataset

NAMES = ["a.txt", "b/c.txt", "b/d e.txt", "b/é+ü.txt", "z.txt"]
KINDS = [BlobDataset, IterableBlobDataset]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture
def names(blobs):
    for name in NAMES:
        blobs.put(name, name.encode())
    return NAMES


def of_container(kind, blobs, **options):
    return kind.from_container_url(blobs.container_url, prefix=blobs.prefix, **options)


def contents(samples):
    return [bytes(sample["data"]).decode() for sample in samples]


def name_and_worker(blob):
    worker = get_worker_info()
    return blob.blob_name, -1 if worker is None else worker.id


def read_name(blob):
    with blob.reader() as f:
        return f.read().decode()


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    def test_a_container(self, kind, blobs, names):
        dataset = of_container(kind, blobs)
        for _ in range(2):
            samples = list(dataset)
            assert contents(samples) == names
            assert [sorted(sample) for sample in samples] == [["data", "url"]] * len(names)
            assert type(samples[0]["data"]) is bytes
            assert samples[0]["url"] == blobs.url("a.txt", sas=False)
            assert not any("sig" in sample["url"] for sample in samples)

    def test_urls(self, kind, blobs, names):
        dataset = kind.from_blob_urls([blobs.url(name) for name in reversed(names)])
        for _ in range(2):
            assert contents(dataset) == list(reversed(names))

    def test_one_url(self, kind, blobs, names):
        assert contents(kind.from_blob_urls(blobs.url(names[0]))) == names[:1]

    def test_no_urls(self, kind, blobs):
        assert list(kind.from_blob_urls([])) == []
        assert list(of_container(kind, blobs)) == []

    def test_a_transform_gets_blobs(self, kind, blobs, names):
        seen = []

        def transform(blob):
            seen.append(blob)
            with blob.reader() as f:
                f.seek(1)
                rest = f.read()
            return blob.url, blob.blob_name, blob.container_name, blob.size, bytes(blob.data)[:1] + rest

        assert [sample[4].decode() for sample in of_container(kind, blobs, transform=transform)] == names
        container = blobs.container.rpartition("/")[2]
        for blob, name in zip(seen, names):
            assert isinstance(blob, Blob)
            assert (blob.blob_name, blob.container_name) == (blobs.prefix + name, container)
            assert blob.size == len(name.encode())
            assert "?" not in blob.url
            assert "sig" not in repr(blob)
        assert seen[2].url.endswith("/b/d%20e.txt")
        assert seen[3].url.endswith("/b/%C3%A9%2B%C3%BC.txt")

    def test_an_exception_of_a_transform(self, kind, blobs, names):
        def fail(blob):
            raise ZeroDivisionError(blob.blob_name)

        with pytest.raises(ZeroDivisionError, match=r"a\.txt"):
            list(of_container(kind, blobs, transform=fail))

    def test_duplicates_and_order(self, kind, blobs, names):
        urls = [blobs.url(names[index]) for index in (3, 1, 3)]
        assert contents(kind.from_blob_urls(urls)) == [names[3], names[1], names[3]]

    def test_a_missing_blob(self, kind, blobs):
        with pytest.raises(exceptions.BlobNotFoundError, match="missing"):
            list(kind.from_blob_urls([blobs.url("missing")]))

    def test_a_missing_container(self, kind, blobs):
        container = blobs.container_url.replace("/test-", "/missing-")
        with pytest.raises(FileNotFoundError):
            list(kind.from_container_url(container))

    @pytest.mark.parametrize("credential", [True, "text", object()])
    def test_other_credentials_are_type_errors(self, kind, blobs, credential):
        with pytest.raises(TypeError, match="Unsupported credential"):
            kind.from_blob_urls([blobs.url()], credential=credential)
        with pytest.raises(TypeError, match="Unsupported credential"):
            kind.from_container_url(blobs.container_url, credential=credential)

    @pytest.mark.parametrize("url", ["", "https://", "x"])
    def test_bad_urls(self, kind, url):
        with pytest.raises(ValueError, match="URL"):
            list(kind.from_container_url(url))
        with pytest.raises(ValueError, match="URL"):
            list(kind.from_blob_urls([url]))

    @pytest.mark.parametrize("batch_size", [None, 1, 2, 10])
    def test_a_loader(self, kind, blobs, names, batch_size):
        loader = DataLoader(of_container(kind, blobs), batch_size=batch_size)
        for _ in range(2):
            if batch_size is None:
                assert contents(loader) == names
            else:
                batches = [[data.decode() for data in batch["data"]] for batch in loader]
                assert batches == [names[start : start + batch_size] for start in range(0, len(names), batch_size)]

    def test_workers_share_the_blobs(self, kind, blobs, names):
        dataset = of_container(kind, blobs, transform=name_and_worker)
        list(dataset)
        for _ in range(2):
            found = list(DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork"))
            assert [name for name, _ in found] == [blobs.prefix + name for name in names]
            assert {worker for _, worker in found} == {0, 1}

    def test_pickling_before_and_after_use(self, kind, blobs, names):
        dataset = of_container(kind, blobs)
        for _ in range(2):
            assert contents(pickle.loads(pickle.dumps(dataset))) == names
            assert contents(copy.deepcopy(dataset)) == names
            list(dataset)

    def test_a_worker_passes_errors_on(self, kind, blobs, monkeypatch):
        # Otherwise a worker that has failed ends after 5 seconds.
        monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
        monkeypatch.setattr(torch.utils.data._utils.worker, "MP_STATUS_CHECK_INTERVAL", 0.1)
        dataset = kind.from_blob_urls([blobs.url("missing")])
        loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
        with pytest.raises(exceptions.BlobNotFoundError, match="worker process 0"):
            list(loader)
        del loader
        # Joins the worker.
        gc.collect()

    def test_what_a_blob_has_become_is_read(self, kind, blobs, names):
        dataset = of_container(kind, blobs)
        assert contents(dataset) == names
        blobs.put("a.txt", b"new content")
        assert contents(dataset) == ["new content", *names[1:]]

    def test_a_sas_per_url(self, kind, server):
        urls = [server.put(name, name.encode()) for name in ("a", "b")]
        urls = [urls[0], server.url("b", "sv=2021-12-02&sig=b3RoZXI%3D")]
        assert contents(kind.from_blob_urls(urls, credential=False)) == ["a", "b"]
        assert {request.query["sig"] for request in server.requests} == {"c2VjcmV0LXNpZw==", "b3RoZXI="}

    def test_versions_are_asked_for(self, kind, server):
        server.put("a", b"a")
        url = server.url("a", "versionid=2024-01-01T00%3A00%3A00.0000000Z&sig=c2ln")
        assert contents(kind.from_blob_urls(url)) == ["a"]
        assert all("versionid" in request.query for request in server.requests)

    def test_failures_are_tried_again(self, kind, server):
        url = server.put("a", b"a")
        server.fail("read,head", Reply(503, "ServerBusy"), times=2)
        assert contents(kind.from_blob_urls(url)) == ["a"]

    def test_it_is_not_made_by_hand(self, kind):
        with pytest.raises(TypeError):
            kind(["https://account.blob.core.windows.net/container/blob"])


def test_a_spawned_process(blobs, names):
    datasets = [of_container(kind, blobs, transform=read_name) for kind in KINDS]
    for dataset in datasets:
        assert list(dataset) == names
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(list, datasets) == [names, names]


class TestMap:
    def test_indices(self, blobs, names):
        dataset = of_container(BlobDataset, blobs)
        assert isinstance(dataset, torch.utils.data.Dataset)
        assert len(dataset) == len(names)
        assert contents([dataset[index] for index in range(len(names))]) == names
        assert contents([dataset[-1], dataset[-len(names)]]) == [names[-1], names[0]]
        assert contents([dataset[torch.tensor(1)]]) == [names[1]]
        for index in (len(names), -len(names) - 1, 10**30):
            with pytest.raises(IndexError):
                dataset[index]
        for index in ("0", 0.5, None):
            with pytest.raises(TypeError):
                dataset[index]

    def test_the_listing_is_made_once(self, blobs, names):
        dataset = of_container(BlobDataset, blobs)
        blobs.put("new.txt", b"new")
        assert len(dataset) == len(names)
        with pytest.raises(FileNotFoundError):
            BlobDataset.from_container_url(blobs.container_url.replace("/test-", "/missing-"))

    def test_shuffle_and_subset(self, blobs, names):
        dataset = of_container(BlobDataset, blobs)
        loader = DataLoader(dataset, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(1))
        assert sorted(data.decode() for batch in loader for data in batch["data"]) == sorted(names)
        assert contents(torch.utils.data.Subset(dataset, [4, 0])) == [names[4], names[0]]
        assert contents(dataset.__getitems__([3, 3, -1])) == [names[3], names[3], names[-1]]

    def test_a_generator_of_urls(self, blobs, names):
        dataset = BlobDataset.from_blob_urls(blobs.url(name) for name in names)
        for _ in range(2):
            assert contents(dataset) == names

    def test_a_batch_is_fetched_at_once(self, server):
        urls = [server.put(f"{number}", b"%d" % number) for number in range(8)]
        dataset = BlobDataset.from_blob_urls(urls)
        assert contents(dataset.__getitems__(list(range(8)))) == [str(number) for number in range(8)]
        assert len(server.of("read")) == 8

    def test_a_blob_can_be_pickled(self, blobs, names):
        dataset = of_container(BlobDataset, blobs, transform=lambda blob: blob)
        blob = pickle.loads(pickle.dumps(dataset[1]))
        assert (blob.blob_name, read_name(blob)) == (blobs.prefix + names[1], names[1])
        reader = dataset[1].reader()
        reader.read(2)
        assert pickle.loads(pickle.dumps(reader)).read() == names[1].encode()[2:]


class TestIterable:
    def test_the_listing_is_made_by_each_iteration(self, blobs, names):
        before = aztorch.stats()["requests"]
        dataset = of_container(IterableBlobDataset, blobs)
        assert aztorch.stats()["requests"] == before
        assert isinstance(dataset, torch.utils.data.IterableDataset)
        assert contents(dataset) == names
        blobs.put("new.txt", b"new.txt")
        assert contents(dataset) == sorted([*names, "new.txt"])
        IterableBlobDataset.from_container_url(blobs.container_url.replace("/test-", "/missing-"))

    def test_a_generator_of_urls_serves_one_epoch(self, blobs, names):
        dataset = IterableBlobDataset.from_blob_urls(blobs.url(name) for name in names)
        assert contents(dataset) == names
        assert contents(dataset) == []

    def test_two_iterations_at_once(self, blobs, names):
        dataset = of_container(IterableBlobDataset, blobs)
        assert [contents(pair) for pair in zip(dataset, dataset)] == [[name, name] for name in names]

    def test_an_iteration_that_is_not_finished(self, blobs, names):
        dataset = of_container(IterableBlobDataset, blobs)
        for _ in range(3):
            assert contents([next(iter(dataset))]) == names[:1]
        assert contents(dataset) == names

    @pytest.mark.parametrize("count", [1, 2, 3, 7])
    def test_the_worker_is_looked_up_at_each_iteration(self, blobs, names, count, monkeypatch):
        dataset = of_container(IterableBlobDataset, blobs)
        found = []
        for number in range(count):
            worker = type("Worker", (), {"id": number, "num_workers": count, "seed": 1, "dataset": dataset})
            monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda worker=worker: worker)
            found.append(contents(dataset))
        assert found == [names[number::count] for number in range(count)]

    def test_it_has_no_length_and_no_indices(self, blobs, names):
        dataset = of_container(IterableBlobDataset, blobs)
        with pytest.raises(TypeError):
            len(dataset)
        with pytest.raises((NotImplementedError, TypeError)):
            dataset[0]
        assert contents(dataset) == names
