"""Cases at the edges: subclasses, errors in the middle, states, forks, and text with a NUL."""

import os
import pickle
import random

import pytest
from torch.utils.data import DataLoader, RandomSampler

import aztorch
from aztorch import _iteration, exceptions
from aztorch.datasets import BlobDataset, IterableBlobDataset
from aztorch.io import BlobIO

COUNT = 12


@pytest.fixture
def urls(blobs):
    return [blobs.put(f"{number:02}", b"%d" % number) for number in range(COUNT)]


def numbers(samples) -> list[int]:
    return [int(sample["data"]) for sample in samples]


def test_a_text_file_that_cannot_write_its_rest_publishes_nothing(blobs, monkeypatch):
    url = blobs.put("text", b"old")
    with pytest.raises(MemoryError), aztorch.open(url, "w") as f:  # noqa: PT012
        f.write("new")

        def fail(_data):
            raise MemoryError

        monkeypatch.setattr(f.buffer, "write", fail)
    assert blobs.get("text") == b"old"


class Reversed(BlobDataset):
    def __getitem__(self, index):
        return super().__getitem__(-1 - index)


class Short(BlobDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return super().__getitem__(index * 5)


def test_a_loader_honours_the_items_of_a_subclass(urls):
    loader = DataLoader(Reversed.from_blob_urls(urls), batch_size=5, collate_fn=numbers)
    assert [number for batch in loader for number in batch] == list(reversed(range(COUNT)))


def test_a_subclass_may_have_another_length(urls):
    dataset = Short.from_blob_urls(urls)
    assert numbers(dataset[index] for index in range(len(dataset))) == [0, 5]


@pytest.mark.parametrize("kind", [list, iter])
def test_the_samples_behind_a_missing_blob_follow(blobs, urls, kind):
    urls[1] = blobs.url("missing")
    samples = iter(IterableBlobDataset.from_blob_urls(kind(urls)))
    assert int(next(samples)["data"]) == 0
    with pytest.raises(FileNotFoundError):
        next(samples)
    assert numbers(samples) == list(range(2, COUNT))


def test_a_state_that_cannot_be_resumed_yet_is_kept(urls, monkeypatch):
    dataset = IterableBlobDataset.from_blob_urls(urls)
    samples = iter(dataset)
    assert numbers(next(samples) for _ in range(4)) == [0, 1, 2, 3]
    state = dataset.state_dict()
    other = IterableBlobDataset.from_blob_urls(urls)
    other.load_state_dict(state)
    with monkeypatch.context() as patch:
        patch.setattr(_iteration.Iteration, "resume", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            iter(other)
    assert other.state_dict() == state
    assert numbers(other) == list(range(4, COUNT))


def test_the_state_before_the_first_sample_keeps_the_seed(urls):
    dataset = IterableBlobDataset.from_blob_urls(urls).shuffle(COUNT, seed=42)
    wanted = numbers(dataset)
    again = IterableBlobDataset.from_blob_urls(urls).shuffle(COUNT, seed=42)
    again.load_state_dict(again.state_dict())
    assert numbers(again) == wanted
    assert wanted != list(range(COUNT))


def test_late_epochs_begin_at_once_and_differ(urls):
    dataset = IterableBlobDataset.from_blob_urls(urls).shuffle(COUNT, seed=1)
    orders = []
    for epoch in (0, 1, 10**12, 10**12 + 1):
        dataset.set_epoch(epoch)
        orders.append(tuple(numbers(dataset)))
    assert len(set(orders)) == 4
    with pytest.raises(ValueError, match="negative"):
        dataset.set_epoch(-1)


def test_a_pickled_dataset_prefers_the_rank_of_its_own_process(urls, monkeypatch):
    dataset = IterableBlobDataset.from_blob_urls(urls)
    monkeypatch.setattr("aztorch.datasets._is_distributed", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0, raising=False)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 4, raising=False)
    pickled = pickle.dumps(dataset)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 3, raising=False)
    assert numbers(pickle.loads(pickled)) == [3, 7, 11]
    monkeypatch.setattr("aztorch.datasets._is_distributed", lambda: False)
    assert numbers(pickle.loads(pickled)) == [0, 4, 8]


class Counting(RandomSampler):
    given = 0

    def __iter__(self):
        for index in super().__iter__():
            self.given += 1
            yield index


def test_samplers_of_others_are_not_read_ahead(blobs):
    dataset = BlobDataset.from_blob_urls([blobs.put("one", b"1")] * 200)
    sampler = Counting(dataset)
    batches = iter(DataLoader(dataset, batch_size=2, sampler=sampler))
    for _ in range(3):
        next(batches)
    assert sampler.given == 6


def test_a_range_past_the_end_is_no_end_of_the_dataset(urls):
    dataset = BlobDataset.from_ranges(urls[:3], [0, 5, 0], [1, 1, 1])
    with pytest.raises(ValueError, match="end"):
        list(dataset)
    with pytest.raises(ValueError, match="offset 0"):
        IterableBlobDataset.from_ranges(urls[:1], [-1], [1])


def test_text_with_a_nul_is_refused(blobs):
    for url in (blobs.url("a\0b").replace("%00", "\0"), "\0"):
        with pytest.raises(ValueError, match="NUL"):
            BlobIO(url, "wb")
    with pytest.raises(ValueError, match="NUL"):
        BlobDataset.from_container_url(blobs.container_url, prefix="a\0b")


def test_a_transform_may_change_the_memory_of_its_blob(urls):
    seen = []

    def change(blob):
        first = blob.data
        first[0] = ord("x")
        seen.append((bytes(blob.data), blob.reader().read()))

    list(IterableBlobDataset.from_blob_urls(urls[:3], transform=change))
    assert seen == [(b"0", b"0"), (b"1", b"1"), (b"2", b"2")]


def test_a_pickled_reader_keeps_the_content_that_it_has(blobs):
    readers = []
    dataset = BlobDataset.from_blob_urls(
        [blobs.put("a", b"old-old")], transform=lambda blob: readers.append(blob.reader())
    )
    assert dataset[0] is None
    assert readers[0].read() == b"old-old"
    readers[0].seek(4)
    blobs.put("a", b"NEW-NEW")
    assert pickle.loads(pickle.dumps(readers[0])).read() == b"old"


def test_blobs_are_found_by_other_spellings_of_their_url(blobs):
    url = blobs.put("a", b"content").replace("127.0.0.1", "LOCALHOST")
    found = []
    for _ in IterableBlobDataset.from_blob_urls([url], transform=found.append):
        pass
    assert pickle.loads(pickle.dumps(found[0])).reader().read() == b"content"


def test_a_writer_publishes_nothing_in_a_forked_child(blobs):
    url = blobs.put("a", b"old")
    f = BlobIO(url, "wb")
    child = os.fork()
    if child == 0:
        try:
            f.close()
        except exceptions.FatalBlobIOWriteError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert blobs.get("a") == b"old"
    f.discard()


class Sas:
    def __init__(self, signature):
        self.signature = signature


def test_a_dataset_follows_a_sas_that_is_renewed(blobs):
    blobs.put("a", b"content")
    good = blobs.sas
    credential = Sas(good.replace("sig=", "sig=AAAA"))
    dataset = BlobDataset.from_blob_urls([blobs.url("a", sas=False)], credential=credential)
    with pytest.raises(exceptions.StorageError):
        dataset[0]
    credential.signature = good
    assert dataset[0]["data"] == b"content"


def test_messages_have_no_url_in_the_place_of_a_mode(blobs):
    for function in (BlobIO, aztorch.open):
        with pytest.raises(ValueError, match="Unsupported mode") as caught:
            function("rb", blobs.url())
        assert "sig" not in str(caught.value)


def test_shuffled_parts_of_an_iterator_have_orders_of_their_own(urls, monkeypatch):
    monkeypatch.setattr(_iteration, "_FIRST_URLS", 6)
    monkeypatch.setattr(_iteration, "_MOST_URLS", 6)
    seed = random.randrange(2**32)
    found = [numbers(IterableBlobDataset.from_blob_urls(iter(urls)).shuffle(6, seed + step)) for step in range(5)]
    assert any([number % 6 for number in order[:6]] != [number % 6 for number in order[6:]] for order in found)
