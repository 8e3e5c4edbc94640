"""aztorch.open: binary and text modes."""

import gc
import io

import pytest

import aztorch
from aztorch.exceptions import BlobNotFoundError, FatalBlobIOWriteError


def test_writes_and_reads_text(blobs):
    with aztorch.open(blobs.url(), "w") as f:
        assert isinstance(f, io.TextIOWrapper)
        assert f.encoding.lower() == "utf-8"
        f.write("äöü\n")
        f.writelines(["日本\n", "end"])
        assert not blobs.exists()
    assert blobs.get() == "äöü\n日本\nend".encode()
    with aztorch.open(blobs.url()) as f:
        assert f.readline() == "äöü\n"
        assert f.read() == "日本\nend"
        f.seek(0)
        assert list(f) == ["äöü\n", "日本\n", "end"]


@pytest.mark.parametrize("mode", ["rb", "wb", "xb", "br"])
def test_binary_modes(blobs, mode):
    blobs.put("blob", b"x")
    with aztorch.open(blobs.url("blob" if "x" not in mode else "new"), mode) as f:
        assert type(f) is aztorch.BlobIO


def test_create_only(blobs):
    with aztorch.open(blobs.url(), "x") as f:
        f.write("first")
    with pytest.raises(FileExistsError), aztorch.open(blobs.url(), "xt") as f:
        f.write("second")
    assert blobs.get() == b"first"


def test_encoding_errors_and_newline(blobs):
    with aztorch.open(blobs.url(), "wt", encoding="latin-1", newline="\r\n") as f:
        f.write("é\n")
    assert blobs.get() == b"\xe9\r\n"
    with aztorch.open(blobs.url(), "r", errors="replace", newline="") as f:
        assert f.read() == "\ufffd\r\n"
    with aztorch.open(blobs.url(), "r") as f, pytest.raises(UnicodeDecodeError):
        f.read()


@pytest.mark.parametrize("mode", ["", "b", "t", "rw", "rbt", "r+", "a", "rr", "rbb", "U"])
def test_other_modes_are_value_errors(blobs, mode):
    with pytest.raises(ValueError, match="Unsupported mode"):
        aztorch.open(blobs.url(), mode)


def test_bad_arguments(blobs, capfd):
    with pytest.raises(TypeError):
        aztorch.open(blobs.url(), None)
    with pytest.raises(ValueError, match="text modes"):
        aztorch.open(blobs.url(), "rb", encoding="utf-8")
    with pytest.raises(LookupError):
        aztorch.open(blobs.url(), "w", encoding="no-such-encoding")
    with pytest.raises(ValueError, match="newline"):
        aztorch.open(blobs.url(), "w", newline="x")
    gc.collect()
    assert capfd.readouterr().err == ""
    assert not blobs.exists()


def test_an_exception_discards(blobs):
    blobs.put("blob", b"old")
    with pytest.raises(ZeroDivisionError), aztorch.open(blobs.url(), "w") as f:  # noqa: PT012
        f.write("half")
        raise ZeroDivisionError
    assert f.closed
    assert blobs.get() == b"old"


def test_garbage_collection_discards_and_warns(blobs):
    f = aztorch.open(blobs.url(), "w")
    f.write("half")
    f.flush()
    with pytest.warns(ResourceWarning, match="discarded"):  # noqa: PT031
        del f
        gc.collect()
    assert not blobs.exists()


def test_detach_hands_over_the_blob(blobs, capfd):
    f = aztorch.open(blobs.url(), "w")
    f.write("x")
    blob = f.detach()
    del f
    gc.collect()
    blob.close()
    assert blobs.get() == b"x"
    assert capfd.readouterr().err == ""


def test_a_missing_blob(blobs):
    with aztorch.open(blobs.url(), "r") as f, pytest.raises(BlobNotFoundError):
        f.read()


def test_a_failing_close(server):
    from fault_server import Reply

    server.fail("put,block,commit", Reply(403, "AuthorizationFailure"), times=100)
    f = aztorch.open(server.url("blob"), "w")
    f.write("x")
    with pytest.raises(FatalBlobIOWriteError):
        f.close()
    assert f.closed
    f.close()
    assert server.get("blob") is None
