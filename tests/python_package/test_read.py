"""BlobIO in mode "rb": read, readinto, seek, tell, what a closed file does."""

import array
import io
import os
import random

import pytest

import aztorch
from aztorch.exceptions import BlobModifiedError, BlobNotFoundError
from aztorch.io import BlobIO

CONTENT = b"line1\nline2 is longer\n\n\r\nno newline at end"


@pytest.fixture
def reader(blobs):
    return BlobIO(blobs.put("blob", CONTENT), "rb")


def requests() -> int:
    return aztorch.stats()["requests"]


@pytest.mark.parametrize("size", [0, 1, 1000, 5_000_000])
def test_reads_all(blobs, size):
    content = random.Random(size).randbytes(size)
    with BlobIO(blobs.put("blob", content), "rb") as f:
        assert f.read() == content
        assert f.tell() == size
        assert f.read() == b""
        assert f.tell() == size


@pytest.mark.parametrize("step", [1, 5, 41, 42, 43])
def test_reads_piece_by_piece(reader, step):
    for start in range(0, len(CONTENT), step):
        assert reader.read(step) == CONTENT[start : start + step]
        assert reader.tell() == min(start + step, len(CONTENT))
    assert reader.read(step) == b""


@pytest.mark.parametrize("size", [None, -1, 10**30])
def test_sizes_that_mean_everything(reader, size):
    assert reader.read(3) == CONTENT[:3]
    assert reader.read(size) == CONTENT[3:]


def test_a_size_may_be_any_integer(reader):
    numpy = pytest.importorskip("numpy")
    assert reader.read(True) == CONTENT[:1]
    assert reader.read(numpy.int64(4)) == CONTENT[1:5]


@pytest.mark.parametrize("size", [0.5, "1", b"1", [], 1.0])
@pytest.mark.parametrize("method", ["read", "readline"])
def test_other_sizes_are_type_errors(reader, method, size):
    with pytest.raises(TypeError, match="size must be an integer"):
        getattr(reader, method)(size)
    assert reader.tell() == 0


@pytest.mark.parametrize("size", [-2, -100, -(10**30)])
def test_sizes_below_minus_one_are_value_errors(reader, size):
    with pytest.raises(ValueError, match="size must be greater than or equal to -1"):
        reader.read(size)


def test_arguments_are_positional_only(reader):
    for call in (lambda: reader.read(size=1), lambda: reader.readline(size=1), lambda: reader.seek(offset=0)):
        with pytest.raises(TypeError, match="positional-only"):
            call()


def test_opening_and_reading_nothing_send_nothing(blobs):
    before = requests()
    f = BlobIO(blobs.url("missing"), "rb")
    assert (f.read(0), f.readline(0), f.tell(), f.readable(), f.seekable(), f.writable()) == (
        b"",
        b"",
        0,
        True,
        True,
        False,
    )
    f.flush()
    f.close()
    assert requests() == before


@pytest.mark.parametrize("call", ["read()", "read(5)", "readline()", "seek(0)", "seek(0, 2)", "readinto(bytearray(1))"])
def test_a_missing_blob_is_reported_by_the_first_call(blobs, call):
    with BlobIO(blobs.url("missing"), "rb") as f:
        with pytest.raises(BlobNotFoundError, match="missing") as caught:
            eval(f"f.{call}")
        assert isinstance(caught.value, FileNotFoundError)
        assert (caught.value.status_code, caught.value.error_code) == (404, "BlobNotFound")
        assert f.tell() == 0


def test_an_empty_blob(blobs):
    with BlobIO(blobs.put("blob", b""), "rb") as f:
        assert (f.read(), f.read(5), f.readline(), list(f), f.seek(0, 2)) == (b"", b"", b"", [], 0)
        assert f.seek(5) == 5
        assert f.read() == b""


def test_seek(reader):
    size = len(CONTENT)
    assert reader.seek(5) == 5
    assert reader.read(4) == CONTENT[5:9]
    assert reader.seek(-3, os.SEEK_CUR) == 6
    assert reader.read(2) == CONTENT[6:8]
    assert reader.seek(-4, os.SEEK_END) == size - 4
    assert reader.read() == CONTENT[-4:]
    assert reader.seek(size + 10) == size + 10
    assert reader.read() == b""
    assert reader.tell() == size + 10
    assert reader.seek(10**30) == 10**30
    assert reader.read(1) == b""
    assert reader.seek(0) == 0
    assert reader.read() == CONTENT


def test_bad_seeks_do_not_move(reader):
    reader.read(3)
    for arguments in [(-1,), (-4, 1), (-len(CONTENT) - 1, 2)]:
        with pytest.raises(ValueError, match="Cannot seek to negative position"):
            reader.seek(*arguments)
    for whence in (3, 4, -1):
        with pytest.raises(ValueError, match="Unsupported whence"):
            reader.seek(0, whence)
    for arguments in [(0.5,), ("1",), (None,), (0, 0.5), (0, "1"), (0, None)]:
        with pytest.raises(TypeError, match="must be an integer"):
            reader.seek(*arguments)
    assert reader.tell() == 3
    assert reader.read(2) == CONTENT[3:5]


def test_random_seeks_and_reads(blobs):
    content = random.Random(1).randbytes(3_000_000)
    chance = random.Random(2)
    expected = io.BytesIO(content)
    with BlobIO(blobs.put("blob", content), "rb") as f:
        for _ in range(200):
            position, size = chance.randrange(3_100_000), chance.choice([1, 100, 70_000, 400_000])
            assert f.seek(position) == expected.seek(position)
            assert f.read(size) == expected.read(size)
            assert f.tell() == max(expected.tell(), position)


@pytest.mark.parametrize(
    "kind", [bytearray, lambda data: memoryview(bytearray(data)), lambda data: array.array("B", data)]
)
def test_readinto(reader, kind):
    buffer = kind(bytes(10))
    assert reader.readinto(buffer) == 10
    assert bytes(buffer) == CONTENT[:10]
    reader.seek(-4, 2)
    assert reader.readinto(buffer) == 4
    assert bytes(buffer)[:4] == CONTENT[-4:]
    assert reader.readinto(buffer) == 0
    assert reader.readinto(bytearray()) == 0


def test_readinto_counts_bytes_of_wide_items(blobs):
    numpy = pytest.importorskip("numpy")
    made = numpy.arange(12, dtype=numpy.complex128).reshape(3, 4)
    with BlobIO(blobs.put("blob", made.tobytes()), "rb") as f:
        read = numpy.zeros_like(made)
        assert f.readinto(read) == made.nbytes
        assert (read == made).all()
        f.seek(0)
        f.readline(1)
        f.seek(0)
        assert f.readinto(read[:1]) == 64


def test_readinto_refuses_other_memory(reader):
    for buffer in (b"bytes", memoryview(b"bytes"), "text", 5, None):
        with pytest.raises(TypeError):
            reader.readinto(buffer)
    with pytest.raises(BufferError):
        reader.readinto(memoryview(bytearray(10))[::2])
    assert reader.tell() == 0


def test_readinto_after_readline(reader):
    assert reader.readline() == b"line1\n"
    buffer = bytearray(4)
    assert reader.readinto(buffer) == 4
    assert buffer == CONTENT[6:10]
    whole = bytearray(1000)
    assert reader.readinto(whole) == len(CONTENT) - 10
    assert whole.startswith(CONTENT[10:])


def test_read1_and_readall(reader):
    assert reader.read1(4) == CONTENT[:4]
    assert reader.read1() == CONTENT[4:]
    reader.seek(0)
    assert reader.readall() == CONTENT


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("read", ()),
        ("read", (0,)),
        ("readline", ()),
        ("readlines", ()),
        ("readinto", (bytearray(1),)),
        ("seek", (0,)),
        ("tell", ()),
        ("flush", ()),
        ("isatty", ()),
        ("readable", ()),
        ("seekable", ()),
        ("__enter__", ()),
        ("__iter__", ()),
        ("__next__", ()),
    ],
)
def test_a_closed_reader_refuses(reader, method, arguments):
    reader.close()
    reader.close()
    assert reader.closed
    with pytest.raises(ValueError, match="I/O operation on closed file"):
        getattr(reader, method)(*arguments)
    assert reader.writable() is False


def test_a_reader_cannot_write(reader):
    for method, arguments in [
        ("write", (b"",)),
        ("writelines", ([b"x"],)),
        ("truncate", ()),
        ("fileno", ()),
        ("detach", ()),
    ]:
        with pytest.raises(io.UnsupportedOperation):
            getattr(reader, method)(*arguments)
    with pytest.raises(TypeError, match="Unsupported type for write"):
        reader.write("text")
    reader.close()
    with pytest.raises(io.UnsupportedOperation):
        reader.write(b"")


def test_with_closes(reader):
    with reader as f:
        assert f is reader
        assert not f.isatty()
    assert reader.closed
    with pytest.raises(ZeroDivisionError), BlobIO(reader.name, "rb", credential=False) as f:
        raise ZeroDivisionError
    assert f.closed


def test_etag_name_mode_and_repr(blobs):
    f = BlobIO(blobs.put("blob", b"x"), "rb")
    assert f.etag is None
    f.read()
    assert f.etag.startswith('"')
    assert (f.mode, f.name) == ("rb", blobs.url("blob", sas=False))
    for text in (repr(f), f.name):
        assert "sig" not in text
    f.close()
    assert repr(f).endswith("mode='rb' closed>")


def test_if_match(blobs):
    url = blobs.put("blob", b"old")
    with BlobIO(url, "rb") as f:
        f.read()
        etag = f.etag
    for value in (etag, etag.strip('"')):
        with BlobIO(url, "rb", if_match=value) as f:
            assert f.read() == b"old"
    blobs.put("blob", b"new")
    with BlobIO(url, "rb", if_match=etag) as f, pytest.raises(BlobModifiedError):
        f.read()


def test_blob_names(blobs):
    for name in ["a b", "a+b", "a%b", "a?b", "a#b", "é", "日本/語", "(x)", "a&b=c", "'q'", "[x]", "%41", "!*$,"]:
        with BlobIO(blobs.put(name, name.encode()), "rb") as f:
            assert f.read() == name.encode()


@pytest.mark.parametrize("mode", ["r", "w", "r+", "rb+", "a", "ab", "x", "", " rb", "RB", None, 5, [], b"rb"])
def test_other_modes_are_value_errors(blobs, mode):
    with pytest.raises(ValueError, match="Unsupported mode"):
        BlobIO(blobs.url(), mode)


@pytest.mark.parametrize(
    "url", ["", "x", "https://", "https://account.blob.core.windows.net/container", "ftp://a.example/container/b"]
)
def test_bad_urls_are_value_errors(url):
    with pytest.raises(ValueError, match="URL"):
        BlobIO(url, "rb")


@pytest.mark.parametrize("url", [None, 5, b"https://account.blob.core.windows.net/container/blob"])
def test_urls_that_are_no_text(url):
    with pytest.raises(TypeError):
        BlobIO(url, "rb")


def test_a_url_without_scheme_is_https():
    with BlobIO("account.blob.core.windows.net/container/blob", "rb") as f:
        assert f.name == "https://account.blob.core.windows.net/container/blob"


def test_reads_hold_no_memory_that_was_returned(blobs):
    content = bytes(range(256)) * 8000
    with BlobIO(blobs.put("blob", content), "rb") as f:
        pieces = [f.read(100_000) for _ in range(21)]
    assert b"".join(pieces) == content
