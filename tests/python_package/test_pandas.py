"""pandas and pyarrow on blobs."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aztorch
from aztorch.io import BlobIO


@pytest.fixture
def frame():
    return pd.DataFrame({"number": range(5000), "text": [f"ä{number}" for number in range(5000)], "half": [0.5] * 5000})


def test_parquet(blobs, frame):
    with BlobIO(blobs.url(), "wb") as f:
        frame.to_parquet(f)
    with BlobIO(blobs.url(), "rb") as f:
        assert pd.read_parquet(f).equals(frame)
    with BlobIO(blobs.url(), "rb") as f:
        assert pd.read_parquet(f, columns=["half"]).equals(frame[["half"]])


def test_csv(blobs, frame):
    with BlobIO(blobs.url(), "wb") as f:
        frame.to_csv(f, index=False)
    with aztorch.open(blobs.url("text"), "w") as f:
        frame.to_csv(f, index=False)
    assert blobs.get() == blobs.get("text")
    for mode in ("rb", "r"):
        with aztorch.open(blobs.url(), mode) as f:
            assert pd.read_csv(f).equals(frame)


def test_pickle_json_and_feather(blobs, frame):
    with BlobIO(blobs.url(), "wb") as f:
        frame.to_pickle(f)
    with BlobIO(blobs.url(), "rb") as f:
        assert pd.read_pickle(f).equals(frame)
    with BlobIO(blobs.url("json"), "wb") as f:
        frame.to_json(f)
    with BlobIO(blobs.url("json"), "rb") as f:
        assert pd.read_json(f).equals(frame)
    with BlobIO(blobs.url("feather"), "wb") as f:
        frame.to_feather(f)
    with BlobIO(blobs.url("feather"), "rb") as f:
        assert pd.read_feather(f).equals(frame)


def test_pyarrow(blobs, frame):
    table = pa.Table.from_pandas(frame)
    with BlobIO(blobs.url(), "wb") as f:
        pq.write_table(table, f, row_group_size=500)
    with BlobIO(blobs.url(), "rb") as f:
        opened = pq.ParquetFile(f)
        assert opened.num_row_groups == 10
        assert opened.read_row_group(3, ["number"]).column("number").to_pylist() == list(range(1500, 2000))
    with BlobIO(blobs.url("stream"), "wb") as f, pa.ipc.new_stream(f, table.schema) as stream:
        stream.write_table(table)
    with BlobIO(blobs.url("stream"), "rb") as f, pa.ipc.open_stream(f) as stream:
        assert stream.read_all().equals(table)


def test_an_exception_discards(blobs, frame):
    blobs.put("blob", b"old")
    with pytest.raises(ZeroDivisionError), BlobIO(blobs.url(), "wb") as f:  # noqa: PT012
        frame.to_parquet(f)
        raise ZeroDivisionError
    assert blobs.get() == b"old"
