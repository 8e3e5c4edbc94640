"""BlobIO in modes "wb" and "xb": write, flush, close, discarding."""

import array
import gc
import io
import random
import warnings

import pytest

from aztorch.exceptions import BlobExistsWriteError, BlobModifiedWriteError, FatalBlobIOWriteError
from aztorch.io import BlobIO


@pytest.fixture
def writer(blobs):
    made = BlobIO(blobs.url(), "wb")
    yield made
    made.discard()


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_writes_all(blobs, size):
    content = random.Random(size).randbytes(size)
    with BlobIO(blobs.url(), "wb") as f:
        assert f.write(content) == size
        assert f.tell() == size
    assert blobs.get() == content


def test_many_writes_of_many_sizes(blobs):
    chance = random.Random(3)
    pieces = [chance.randbytes(chance.choice([0, 1, 10, 1000, 300_000])) for _ in range(100)]
    with BlobIO(blobs.url(), "wb") as f:
        for piece in pieces:
            assert f.write(piece) == len(piece)
    assert blobs.get() == b"".join(pieces)


@pytest.mark.parametrize(
    "data",
    [b"abc", bytearray(b"abc"), memoryview(b"abc"), array.array("B", b"abc"), type("Sub", (bytes,), {})(b"abc")],
    ids=lambda data: type(data).__name__,
)
def test_types_that_can_be_written(blobs, data):
    with BlobIO(blobs.url(), "wb") as f:
        assert f.write(data) == 3
    assert blobs.get() == b"abc"


def test_wide_items_count_bytes(blobs):
    floats = array.array("d", [1.5, 2.5])
    grid = memoryview(bytes(range(6))).cast("B", (2, 3))
    with BlobIO(blobs.url(), "wb") as f:
        assert f.write(memoryview(floats)) == 16
        assert f.write(grid) == 6
        assert f.tell() == 22
    assert blobs.get() == floats.tobytes() + bytes(range(6))


def test_strided_memory_is_refused(blobs, writer):
    with pytest.raises(BufferError):
        writer.write(memoryview(b"abcdef")[::2])
    assert writer.tell() == 0
    writer.write(b"x")
    writer.close()
    assert blobs.get() == b"x"


@pytest.mark.parametrize(
    "data", [None, "text", 1, 1.5, [1], {}, io.BytesIO(b"x"), object()], ids=lambda data: type(data).__name__
)
def test_other_types_are_type_errors(writer, data):
    with pytest.raises(TypeError, match="Unsupported type for write"):
        writer.write(data)
    assert writer.tell() == 0
    writer.close()
    with pytest.raises(TypeError, match="Unsupported type for write"):
        writer.write(data)


def test_a_buffer_can_be_changed_after_the_write(blobs):
    buffer = bytearray(b"old" * 1000)
    with BlobIO(blobs.url(), "wb") as f:
        f.write(buffer)
        buffer[:] = b"new" * 1000
        buffer.extend(b"!")
        f.write(buffer)
    assert blobs.get() == b"old" * 1000 + b"new" * 1000 + b"!"


def test_writelines(blobs):
    with BlobIO(blobs.url(), "wb") as f:
        f.writelines([b"a\n", bytearray(b"b\n")])
        f.writelines(iter([b"c"]))
    assert blobs.get() == b"a\nb\nc"


def test_flush_publishes_nothing(blobs):
    url = blobs.put("blob", b"old")
    with BlobIO(url, "wb") as f:
        f.flush()
        f.write(b"new")
        f.flush()
        f.flush()
        assert f.tell() == 3
        assert blobs.get() == b"old"
        f.write(b"er")
    assert blobs.get() == b"newer"


def test_no_writes_make_an_empty_blob(blobs):
    url = blobs.put("blob", b"old")
    with BlobIO(url, "wb"):
        pass
    assert blobs.get() == b""
    with BlobIO(blobs.url("other"), "wb") as f:
        assert f.write(b"") == 0
    assert blobs.get("other") == b""


def test_close_publishes_once(blobs, writer):
    writer.write(b"mine")
    writer.close()
    assert writer.closed
    assert writer.etag.startswith('"')
    blobs.put("blob", b"of another")
    writer.close()
    assert blobs.get() == b"of another"


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("write", (b"",)),
        ("writelines", ([],)),
        ("flush", ()),
        ("tell", ()),
        ("isatty", ()),
        ("writable", ()),
        ("__enter__", ()),
    ],
)
def test_a_closed_writer_refuses(writer, method, arguments):
    writer.close()
    with pytest.raises(ValueError, match="I/O operation on closed file"):
        getattr(writer, method)(*arguments)
    assert writer.readable() is False
    assert writer.seekable() is False


@pytest.mark.parametrize("closed", [False, True])
def test_a_writer_cannot_read(writer, closed):
    if closed:
        writer.close()
    else:
        assert (writer.readable(), writer.seekable(), writer.writable()) == (False, False, True)
    calls = [
        ("read", ()),
        ("read", (0,)),
        ("readline", ()),
        ("readinto", (bytearray(1),)),
        ("seek", (0,)),
        ("truncate", ()),
    ]
    for method, arguments in calls:
        with pytest.raises(io.UnsupportedOperation):
            getattr(writer, method)(*arguments)
    with pytest.raises(TypeError, match="size must be an integer"):
        writer.read("1")


def test_an_exception_discards(blobs):
    url = blobs.put("blob", b"old")
    with pytest.raises(ZeroDivisionError), BlobIO(url, "wb") as f:  # noqa: PT012
        f.write(b"half")
        f.flush()
        raise ZeroDivisionError
    assert f.closed
    assert blobs.get() == b"old"


def test_discard(blobs, writer):
    writer.write(b"half")
    writer.discard()
    writer.discard()
    writer.close()
    assert writer.closed
    assert not blobs.exists()


def test_garbage_collection_discards_and_warns(blobs):
    url = blobs.put("blob", b"old")
    f = BlobIO(url, "wb")
    f.write(b"half")
    f.flush()
    with pytest.warns(ResourceWarning, match="discarded") as caught:  # noqa: PT031
        del f
        gc.collect()
    assert "sig" not in str(caught[0].message)
    assert blobs.get() == b"old"


def test_closed_files_do_not_warn(blobs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in ("wb", "rb"):
            with BlobIO(blobs.url(), mode):
                pass
        BlobIO(blobs.url(), "rb")
        with pytest.raises(ValueError, match="mode"):
            BlobIO(blobs.url(), "bad")
        gc.collect()


def test_create_only(blobs):
    with BlobIO(blobs.url(), "xb") as f:
        f.write(b"first")
    with pytest.raises(BlobExistsWriteError) as caught, BlobIO(blobs.url(), "xb") as f:
        f.write(b"second")
    assert isinstance(caught.value, FileExistsError)
    assert isinstance(caught.value, FatalBlobIOWriteError)
    assert f.closed
    assert blobs.get() == b"first"


def test_if_match_of_a_writer(blobs):
    url = blobs.put("blob", b"old")
    with BlobIO(url, "rb") as f:
        f.read()
        etag = f.etag
    with BlobIO(url, "wb", if_match=etag) as f:
        f.write(b"new")
    with pytest.raises(BlobModifiedWriteError), BlobIO(url, "wb", if_match=etag) as f:
        f.write(b"newer")
    assert blobs.get() == b"new"
    with pytest.raises(ValueError, match="if_match"):
        BlobIO(url, "xb", if_match=etag)


def test_two_writers_do_not_mix(blobs):
    first, second = BlobIO(blobs.url(), "wb"), BlobIO(blobs.url(), "wb")
    for _ in range(3):
        first.write(b"1" * 100)
        first.flush()
        second.write(b"2" * 100)
        second.flush()
    first.close()
    # The service drops blocks that are not committed when another writer commits.
    try:
        second.close()
    except FatalBlobIOWriteError:
        assert blobs.get() == b"1" * 300
    else:
        assert blobs.get() == b"2" * 300


def test_a_writer_cannot_be_pickled(writer):
    import pickle

    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(writer)
