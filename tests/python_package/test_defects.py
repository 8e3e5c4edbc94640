"""Defects of azstoragetorch 0.2.0 that this package does not have.

AZTORCH_TEST_MODULE=azstoragetorch runs the same tests against that package, where they fail.
"""

import array
import gc
import importlib
import io
import os
import pickle
import warnings

import pytest
import torch
from fault_server import Reply

MODULE = os.environ.get("AZTORCH_TEST_MODULE", "aztorch")
BlobIO = importlib.import_module(f"{MODULE}.io").BlobIO
exceptions = importlib.import_module(f"{MODULE}.exceptions")
datasets = importlib.import_module(f"{MODULE}.datasets")

if MODULE == "azstoragetorch":
    # Azurite is older than azure-storage-blob.
    from azure.storage.blob import _serialize

    _serialize._SUPPORTED_API_VERSIONS.append("2021-12-02")

pytestmark = pytest.mark.filterwarnings("ignore:Failed to initialize NumPy")


def test_an_exception_inside_of_with_discards(blobs):
    url = blobs.put("blob", b"old")
    with pytest.raises(ZeroDivisionError), BlobIO(url, "wb") as f:  # noqa: PT012
        f.write(b"half")
        raise ZeroDivisionError
    assert blobs.get() == b"old"


def test_garbage_collection_discards(blobs):
    url = blobs.put("blob", b"old")
    f = BlobIO(url, "wb")
    f.write(b"half")
    with pytest.warns(ResourceWarning):  # noqa: PT031
        del f
        gc.collect()
    assert blobs.get() == b"old"


def test_a_version_in_the_url_is_read(server):
    server.put("blob", b"content")
    with BlobIO(server.url("blob", "versionid=2024-01-01T00%3A00%3A00.0000000Z&sig=c2ln"), "rb") as f:
        f.read()
    assert all(request.query.get("versionid") for request in server.of("read"))


def test_a_large_blob_of_a_dataset_can_be_read_again(server):
    content = bytes(40 * 1024 * 1024)
    dataset = datasets.BlobDataset.from_blob_urls([server.put("blob", content)])
    assert dataset[0]["data"] == content
    assert dataset[0]["data"] == content


def test_a_dataset_can_be_pickled_after_a_large_read(server):
    content = bytes(40 * 1024 * 1024)
    dataset = datasets.BlobDataset.from_blob_urls([server.put("blob", content)])
    assert dataset[0]["data"] == content
    assert len(pickle.loads(pickle.dumps(dataset))) == 1


def test_a_dataset_reads_what_a_blob_has_become(server):
    dataset = datasets.BlobDataset.from_blob_urls([server.put("blob", b"old")])
    assert dataset[0]["data"] == b"old"
    server.put("blob", b"new content")
    assert dataset[0]["data"] == b"new content"


def test_floats_count_as_bytes(blobs):
    with BlobIO(blobs.url(), "wb") as f:
        assert f.write(memoryview(array.array("d", [1.5, 2.5]))) == 16
        assert f.tell() == 16


def test_readinto_exists(blobs):
    with BlobIO(blobs.put("blob", b"content"), "rb") as f:
        buffer = bytearray(7)
        assert f.readinto(buffer) == 7
    assert buffer == b"content"
    assert io.BufferedReader(BlobIO(blobs.url(), "rb")).read() == b"content"


def test_the_old_format_of_torch_can_be_read(blobs):
    buffer = io.BytesIO()
    torch.save(torch.arange(1000), buffer, _use_new_zipfile_serialization=False)
    with BlobIO(blobs.put("blob", buffer.getvalue()), "rb") as f:
        assert torch.equal(torch.load(f), torch.arange(1000))


def test_throttling_is_tried_again(server):
    url = server.put("blob", b"content")
    server.fail("read", Reply(429, "TooManyRequests"))
    with BlobIO(url, "rb") as f:
        assert f.read() == b"content"


def test_an_error_without_an_echo_is_no_key_error(server):
    server.echoes = False
    with BlobIO(server.url("missing"), "rb") as f, pytest.raises(Exception) as caught:  # noqa: PT011
        f.read()
    assert not isinstance(caught.value, KeyError)


def test_a_missing_blob_is_a_file_not_found_error(blobs):
    with BlobIO(blobs.url("missing"), "rb") as f, pytest.raises(FileNotFoundError):
        f.read()


def test_a_commit_error_is_fatal(server):
    server.fail("commit,put", Reply(409, "LeaseIdMissing"), times=100)
    f = BlobIO(server.url("blob"), "wb")
    f.write(b"content")
    with pytest.raises(exceptions.FatalBlobIOWriteError):
        f.close()


def test_an_empty_blob_without_an_echo(server):
    server.echoes = False
    with BlobIO(server.put("blob", b""), "rb") as f:
        assert f.read() == b""


def test_answers_are_not_mixed_in_forked_workers(blobs):
    contents = {f"{number:02}": b"%d" % number * 50_000 for number in range(32)}
    urls = [blobs.put(name, content) for name, content in contents.items()]
    dataset = datasets.BlobDataset.from_blob_urls(urls)
    assert dataset[0]["data"] == contents["00"]
    for workers in (2, 3):
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=None, num_workers=workers, multiprocessing_context="fork", timeout=60
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = []
            for sample in loader:
                samples.append(sample["data"])
                # The parent process reads meanwhile.
                assert dataset[0]["data"] == contents["00"]
        assert samples == list(contents.values())


def test_pickling_of_a_write_error():
    error = exceptions.FatalBlobIOWriteError("reason")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
