"""Lines of BlobIO: readline, readlines, iteration."""

import io
import random

import pytest

from aztorch.io import BlobIO

LINES = [b"line1\n", b"\n", b"\r\n", b"with \t\r\f\v\x85 inside\n", b"x" * 5000 + b"\n", b"no newline at the end"]
CONTENT = b"".join(LINES)


@pytest.fixture
def reader(blobs):
    return BlobIO(blobs.put("blob", CONTENT), "rb")


def test_lines_end_at_newline_only(reader):
    position = 0
    for line in LINES:
        assert reader.readline() == line
        position += len(line)
        assert reader.tell() == position
    assert reader.readline() == b""
    assert reader.readline() == b""
    assert reader.tell() == len(CONTENT)


@pytest.mark.parametrize("size", [None, -1, -2, -100, 6, 7, 10**30])
def test_sizes_that_reach_the_end_of_the_line(reader, size):
    assert reader.readline(size) == b"line1\n"
    assert reader.tell() == 6


def test_size_limits_a_line(reader):
    assert reader.readline(0) == b""
    assert reader.readline(2) == b"li"
    assert reader.readline(3) == b"ne1"
    assert reader.readline(1) == b"\n"
    assert reader.readline(5) == b"\n"


def test_iteration(reader):
    assert iter(reader) is reader
    assert next(reader) == LINES[0]
    assert list(reader) == LINES[1:]
    assert reader.tell() == len(CONTENT)
    with pytest.raises(StopIteration):
        next(reader)
    reader.seek(0)
    assert list(reader) == LINES


@pytest.mark.parametrize("hint", [None, -1, 0, 1, 6, 7, 8, 100_000])
def test_readlines(reader, hint):
    expected = io.BufferedReader(io.BytesIO(CONTENT))
    assert reader.readlines(hint) == expected.readlines(hint)
    assert reader.tell() == expected.tell()


def test_lines_that_are_longer_than_what_is_fetched_at_a_time(blobs):
    lines = [b"a" * 300_000 + b"\n", b"b" * 262_143 + b"\n", b"c" * 1_000_000 + b"\n", b"d" * 10]
    with BlobIO(blobs.put("blob", b"".join(lines)), "rb") as f:
        assert list(f) == lines
        f.seek(0)
        assert f.readline(300_001) == lines[0]
        assert f.readline(262_143) == lines[1][:-1]
        assert f.readline() == b"\n"
        assert f.readline(700_000) == lines[2][:700_000]
        assert f.readline() == lines[2][700_000:]


def test_mixed_with_other_calls(blobs):
    content = b"".join(b"%d\n" % number for number in range(100_000))
    chance = random.Random(4)
    expected = io.BytesIO(content)
    with BlobIO(blobs.put("blob", content), "rb") as f:
        for _ in range(500):
            call = chance.randrange(6)
            if call == 0:
                position = chance.randrange(len(content) + 10)
                assert f.seek(position) == expected.seek(position)
            elif call == 1:
                step = chance.randrange(-20, 20)
                if expected.tell() + step >= 0:
                    assert f.seek(step, 1) == expected.seek(step, 1)
            elif call == 2:
                size = chance.choice([1, 10, 1000])
                assert f.read(size) == expected.read(size)
            elif call == 3:
                size = chance.choice([-1, 1, 3, 10])
                assert f.readline(size) == expected.readline(size)
            elif call == 4:
                assert next(f, None) == next(expected, None)
            else:
                buffer, other = bytearray(30), bytearray(30)
                assert f.readinto(buffer) == expected.readinto(other)
                assert buffer == other
            assert f.tell() == expected.tell()


def test_closing_drops_buffered_lines(reader):
    reader.readline()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.readline()
    with pytest.raises(ValueError, match="closed"):
        next(reader)
