"""What a service does wrong: errors, broken connections, blobs that are replaced meanwhile."""

import concurrent.futures
import socket
import time

import pytest
from fault_server import FaultServer, Reply

import aztorch
from aztorch import exceptions
from aztorch.exceptions import BlobModifiedError, FatalBlobIOWriteError
from aztorch.io import BlobIO

CONTENT = b"hello" * 100
BIG = bytes(range(256)) * (40 * 1024)


class Sas:
    """A SAS credential. Each is a client of its own, with retries of its own."""

    def __init__(self, number: int) -> None:
        self.signature = f"sv=2021-12-02&sig=c2VjcmV0LXNpZw{number}"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_read_is_tried_again(server, status):
    url = server.put("blob", CONTENT)
    server.fail("read", Reply(status, "ServerBusy"), times=2)
    before = aztorch.stats()["retries"]
    with BlobIO(url, "rb") as f:
        assert f.read() == CONTENT
    assert len(server.of("read")) == 3
    assert aztorch.stats()["retries"] == before + 2


@pytest.mark.parametrize("reply", [Reply(0), Reply(206, truncate_to=0), Reply(206, truncate_to=300)])
def test_a_broken_body_is_fetched_again(server, reply):
    url = server.put("blob", CONTENT)
    server.fail("read", reply, times=2)
    with BlobIO(url, "rb") as f:
        assert f.read() == CONTENT
    assert all("if-match" in request.headers for request in server.of("read")[1:] if reply.truncate_to)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_write_is_tried_again(server, status):
    server.fail("block", Reply(status, "ServerBusy"))
    server.fail("commit", Reply(status, "ServerBusy"))
    with BlobIO(server.url("blob"), "wb") as f:
        f.write(CONTENT)
        f.flush()
        f.write(b"end")
    assert server.get("blob") == CONTENT + b"end"


def test_a_commit_whose_response_is_lost_is_repeated(server):
    server.fail("commit,put", Reply(0, after_effect=True))
    with BlobIO(server.url("blob"), "wb") as f:
        f.write(CONTENT)
        f.flush()
    assert server.get("blob") == CONTENT


def test_constant_failures_end_as_errors():
    def read(server, credential):
        with BlobIO(server.url("blob", "x=1"), "rb", credential=credential) as f:
            f.read()

    def write(server, credential):
        with BlobIO(server.url("blob", "x=1"), "wb", credential=credential) as f:
            f.write(CONTENT)
            f.flush()

    def refuse(_server, credential):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with BlobIO(f"http://127.0.0.1:{port}/account/container/blob", "rb", credential=credential) as f:
            f.read()

    cases = [
        ("read", Reply(500, "InternalError"), read, "ServiceUnavailableError", ConnectionError),
        ("read", Reply(503, "ServerBusy"), read, "ThrottledError", None),
        ("read", Reply(429, "TooManyRequests"), read, "ThrottledError", None),
        ("read", Reply(206, body=b"hello"), read, "CorruptDataError", None),
        ("read", Reply(0), read, "ServiceConnectionError", ConnectionError),
        ("block", Reply(500, "InternalError"), write, "FatalBlobIOWriteError", None),
        ("commit", Reply(0), write, "FatalBlobIOWriteError", None),
        ("none", Reply(0), refuse, "ServiceConnectionError", ConnectionError),
    ]

    def run(number):
        kind, reply, call, _, _ = cases[number]
        server = FaultServer()
        server.put("blob", CONTENT)
        server.fail(kind, reply, times=1000)
        try:
            call(server, Sas(number))
        except Exception as error:  # noqa: BLE001
            return error, server.get("blob")
        finally:
            server.close()
        return None, None

    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        results = list(pool.map(run, range(len(cases))))
    for (error, content), (kind, _, call, name, own) in zip(results, cases):
        assert type(error) is getattr(exceptions, name), (kind, error)
        assert own is None or isinstance(error, own)
        assert "c2VjcmV0" not in str(error)
        if call is write:
            assert content == CONTENT
            assert isinstance(error.__cause__, (exceptions.ServiceUnavailableError, exceptions.ServiceConnectionError))
        else:
            assert error.retryable or name == "CorruptDataError", error
    lost = str(results[6][0])
    assert "outcome is unknown" in lost
    assert "No data written" not in lost


def test_other_statuses_are_not_tried_again(server):
    url = server.put("blob", CONTENT)
    kinds = [(400, "InvalidHeaderValue", "RequestRejectedError"), (403, "AuthenticationFailed", "AuthenticationError")]
    kinds += [
        (403, "AuthorizationPermissionMismatch", "PermissionDeniedError"),
        (404, "BlobNotFound", "BlobNotFoundError"),
    ]
    for status, code, name in kinds:
        server.fail("read", Reply(status, code))
        with BlobIO(url, "rb") as f, pytest.raises(getattr(exceptions, name)) as caught:
            f.read()
        assert (caught.value.status_code, caught.value.error_code) == (status, code)
        assert caught.value.request_id == "1234-5678"
        assert not caught.value.retryable
        assert code in str(caught.value)
        assert "c2VjcmV0" not in str(caught.value)
    assert len(server.of("read")) == len(kinds)


def test_a_reader_can_be_used_after_an_error(server):
    url = server.put("blob", CONTENT)
    server.fail("read", Reply(403, "AuthorizationPermissionMismatch"))
    with BlobIO(url, "rb") as f:
        with pytest.raises(exceptions.PermissionDeniedError):
            f.read(5)
        assert f.tell() == 0
        assert f.read() == CONTENT


def test_a_replaced_blob_is_never_mixed(server):
    url = server.put("blob", BIG)
    with BlobIO(url, "rb") as f:
        assert f.read(5) == BIG[:5]
        server.put("blob", BIG[::-1])
        with pytest.raises(BlobModifiedError):
            f.read()
        assert f.tell() == 5
        with pytest.raises(BlobModifiedError):
            f.read()
    with BlobIO(url, "rb") as f:
        assert f.read() == BIG[::-1]


def test_a_blob_that_was_replaced_after_a_seek(server):
    url = server.put("blob", BIG)
    with BlobIO(url, "rb") as f:
        assert f.seek(0, 2) == len(BIG)
        server.put("blob", BIG[::-1])
        f.seek(0)
        with pytest.raises(BlobModifiedError):
            f.read()


@pytest.mark.parametrize("size", [5, 100, -1])
@pytest.mark.parametrize("first", ["read", "seek", "readline"])
def test_a_small_blob_that_was_replaced(server, first, size):
    content = b"line\n" * 100
    with BlobIO(server.put("blob", content), "rb") as f:
        {"read": lambda: f.read(5), "seek": lambda: f.seek(5), "readline": f.readline}[first]()
        server.put("blob", content)
        # Reads that follow each other at once may be served from memory.
        time.sleep(0.02)
        if first == "readline":
            f.seek(0)
        position = f.tell()
        with pytest.raises(BlobModifiedError):
            f.read(size)
        assert f.tell() == position
    with BlobIO(server.url("blob"), "rb") as f:
        assert f.read() == content


def test_a_blob_that_was_deleted_meanwhile(server):
    url = server.put("blob", BIG)
    with BlobIO(url, "rb") as f:
        f.read(5)
        server.blobs.clear()
        with pytest.raises(exceptions.StorageError):
            f.read()


@pytest.mark.parametrize(
    "query", ["versionid=2024-01-01T00%3A00%3A00.0000000Z", "snapshot=2024-01-01T00%3A00%3A00.0000000Z"]
)
@pytest.mark.parametrize("sas", ["", "&sv=2021-12-02&sig=c2VjcmV0"])
def test_versions_and_snapshots_are_asked_for(server, query, sas):
    server.put("blob", CONTENT)
    with BlobIO(server.url("blob", query + sas), "rb", credential=False) as f:
        assert f.read() == CONTENT
    name, _, _ = query.partition("=")
    assert [request.query[name] for request in server.requests] == ["2024-01-01T00:00:00.0000000Z"]


def test_a_failing_block(server):
    server.put("blob", b"old")
    server.fail("block", Reply(403, "AuthorizationPermissionMismatch"), times=100)
    f = BlobIO(server.url("blob"), "wb")
    f.write(b"abc")
    with pytest.raises(FatalBlobIOWriteError) as caught:
        f.flush()
    assert isinstance(caught.value.__cause__, exceptions.PermissionDeniedError)
    assert str(caught.value).startswith("Fatal error occurred while writing data. No data written using this BlobIO")
    server.heal()
    for call in (lambda: f.write(b""), lambda: f.write(b"x"), f.flush, lambda: f.writelines([b"y"])):
        with pytest.raises(FatalBlobIOWriteError):
            call()
    assert f.tell() == 3
    assert f.writable()
    with pytest.raises(FatalBlobIOWriteError):
        f.close()
    assert f.closed
    f.close()
    with pytest.raises(ValueError, match="closed file"):
        f.write(b"")
    assert server.get("blob") == b"old"
    assert server.of("commit", "put") == []


@pytest.mark.parametrize("flushes", [False, True])
def test_a_failing_commit(server, flushes):
    server.put("blob", b"old")
    server.fail("commit,put", Reply(409, "LeaseIdMissing"), times=100)
    f = BlobIO(server.url("blob"), "wb")
    f.write(b"abc")
    if flushes:
        f.flush()
    with pytest.raises(FatalBlobIOWriteError) as caught:
        f.close()
    assert isinstance(caught.value.__cause__, exceptions.RequestRejectedError)
    assert f.closed
    f.close()
    f.__del__()
    assert len(server.of("commit", "put")) == 1
    assert server.get("blob") == b"old"


def test_a_failing_with_block(server):
    server.fail("block,commit,put", Reply(403, "AuthorizationPermissionMismatch"), times=100)
    with pytest.raises(FatalBlobIOWriteError), BlobIO(server.url("blob"), "wb") as f:
        f.write(b"abc")
    assert f.closed
    with pytest.raises(FatalBlobIOWriteError), BlobIO(server.url("blob"), "wb") as f:  # noqa: PT012
        f.write(b"abc")
        f.flush()
    assert f.closed
    assert server.get("blob") is None


def test_a_background_failure_shows_in_a_later_write(server):
    server.fail("block", Reply(403, "AuthorizationPermissionMismatch"), times=1000)
    piece = bytes(1024 * 1024)
    f = BlobIO(server.url("blob"), "wb")
    with pytest.raises(FatalBlobIOWriteError):  # noqa: PT012
        for _ in range(200):
            f.write(piece)
    f.discard()
    assert server.of("commit", "put") == []


def test_create_only_is_decided_by_the_service(server):
    with BlobIO(server.url("blob"), "xb") as f:
        f.write(b"first")
    assert all(request.headers["if-none-match"] == "*" for request in server.requests if request.is_write)
    with pytest.raises(exceptions.BlobExistsWriteError), BlobIO(server.url("blob"), "xb") as f:
        f.write(b"second")
    assert server.get("blob") == b"first"


def test_large_reads_name_their_version(server):
    url = server.put("blob", BIG * 4)
    with BlobIO(url, "rb") as f:
        assert f.read() == BIG * 4
    first, *others = server.of("read")
    assert others
    assert "if-match" not in first.headers
    assert all("if-match" in request.headers for request in others)
