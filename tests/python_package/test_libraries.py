"""Libraries that take file objects: Python's own, and numpy."""

import csv
import gzip
import io
import json
import pickle
import shutil
import tarfile
import zipfile

import pytest

import aztorch
from aztorch.io import BlobIO

FILES = {"a.txt": b"a" * 1000, "folder/b.bin": bytes(range(256)) * 2000, "empty": b""}


def test_zipfile(blobs):
    with BlobIO(blobs.url(), "wb") as f, zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    with BlobIO(blobs.url(), "rb") as f, zipfile.ZipFile(f) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        with archive.open("folder/b.bin") as inner:
            inner.seek(1000)
            assert inner.read(10) == FILES["folder/b.bin"][1000:1010]


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
@pytest.mark.parametrize("separator", [":", "|"])
def test_tarfile(blobs, compression, separator):
    with BlobIO(blobs.url(), "wb") as f, tarfile.open(fileobj=f, mode=f"w{separator}{compression}") as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    with BlobIO(blobs.url(), "rb") as f, tarfile.open(fileobj=f, mode=f"r{separator}{compression}") as archive:
        assert {entry.name: archive.extractfile(entry).read() for entry in archive} == FILES


def test_gzip(blobs):
    content = b"line\n" * 100_000
    with BlobIO(blobs.url(), "wb") as f, gzip.GzipFile(fileobj=f, mode="wb") as compressed:
        compressed.write(content)
    with BlobIO(blobs.url(), "rb") as f, gzip.open(f) as compressed:
        assert compressed.readline() == b"line\n"
        compressed.seek(0)
        assert compressed.read() == content
    with BlobIO(blobs.url(), "rb") as f, gzip.open(f, "rt") as text:
        assert sum(1 for _ in text) == 100_000


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle(blobs, protocol):
    values = [{"key": list(range(1000))}, b"x" * 300_000, bytearray(b"y" * 300_000)]
    with BlobIO(blobs.url(), "wb") as f:
        for value in values:
            pickle.dump(value, f, protocol)
    with BlobIO(blobs.url(), "rb") as f:
        assert [pickle.load(f) for _ in values] == values
        with pytest.raises(EOFError):
            pickle.load(f)


def test_json(blobs):
    value = {"text": "äöü", "list": list(range(1000))}
    with aztorch.open(blobs.url(), "w") as f:
        json.dump(value, f, ensure_ascii=False)
    with aztorch.open(blobs.url()) as f:
        assert json.load(f) == value
    with BlobIO(blobs.url(), "rb") as f:
        assert json.load(f) == value


def test_csv(blobs):
    rows = [["name", "value"], ["a,b", 'quote "x"'], ["two\nlines", "ä"]]
    with aztorch.open(blobs.url(), "w", newline="") as f:
        csv.writer(f).writerows(rows)
    with aztorch.open(blobs.url(), newline="") as f:
        assert list(csv.reader(f)) == rows


def test_copyfileobj(blobs, tmp_path):
    content = bytes(range(256)) * 4000
    (tmp_path / "local").write_bytes(content)
    with (tmp_path / "local").open("rb") as source, BlobIO(blobs.url(), "wb") as target:
        shutil.copyfileobj(source, target)
    with BlobIO(blobs.url(), "rb") as source, (tmp_path / "copy").open("wb") as target:
        shutil.copyfileobj(source, target)
    assert (tmp_path / "copy").read_bytes() == content
    with BlobIO(blobs.url(), "rb") as source, BlobIO(blobs.url("copy"), "wb") as target:
        shutil.copyfileobj(source, target, 10_000)
    assert blobs.get("copy") == content


def test_wrappers_of_the_module_io(blobs):
    content = "".join(f"zeile {number} ä\n" for number in range(5000))
    with BlobIO(blobs.url(), "wb") as f:
        buffered = io.BufferedWriter(f)
        text = io.TextIOWrapper(buffered, encoding="utf-8")
        text.write(content)
        text.flush()
        text.detach().detach()
    assert blobs.get() == content.encode()
    reader = io.BufferedReader(BlobIO(blobs.url(), "rb"), 1000)
    assert reader.peek(5).startswith(b"zeile")
    assert reader.read(7) == b"zeile 0"
    reader.seek(-3, 2)
    assert reader.read() == "ä\n".encode()
    reader.seek(0)
    assert io.TextIOWrapper(reader, encoding="utf-8").read() == content


def test_numpy(blobs):
    numpy = pytest.importorskip("numpy")
    made = numpy.random.default_rng(1).random((300, 200))
    with BlobIO(blobs.url(), "wb") as f:
        numpy.save(f, made)
        numpy.save(f, made[::2, ::3])
        numpy.save(f, numpy.asfortranarray(made))
    with BlobIO(blobs.url(), "rb") as f:
        assert (numpy.load(f) == made).all()
        assert (numpy.load(f) == made[::2, ::3]).all()
        assert (numpy.load(f) == made).all()
    for save in (numpy.savez, numpy.savez_compressed):
        with BlobIO(blobs.url("npz"), "wb") as f:
            save(f, made=made, other=numpy.arange(10))
        with BlobIO(blobs.url("npz"), "rb") as f, numpy.load(f) as loaded:
            assert (loaded["made"] == made).all()
            assert (loaded["other"] == numpy.arange(10)).all()
    with BlobIO(blobs.url("text"), "wb") as f:
        numpy.savetxt(f, made)
    with BlobIO(blobs.url("text"), "rb") as f:
        assert numpy.allclose(numpy.loadtxt(f), made)


def test_numpy_buffers(blobs):
    numpy = pytest.importorskip("numpy")
    made = numpy.arange(100_000, dtype="<f4")
    with BlobIO(blobs.url(), "wb") as f:
        assert f.write(made) == made.nbytes
        assert f.write(numpy.float64(1.5)) == 8
    read = numpy.empty_like(made)
    with BlobIO(blobs.url(), "rb") as f:
        assert f.readinto(read) == made.nbytes
    assert (read == made).all()
