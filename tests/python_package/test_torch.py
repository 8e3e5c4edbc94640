"""torch.save, torch.load and torch.jit on blobs, with every torch that is supported."""

import io
import warnings

import pytest
import torch
from fault_server import Reply

import aztorch
from aztorch.exceptions import BlobNotFoundError, FatalBlobIOWriteError
from aztorch.io import BlobIO

pytestmark = pytest.mark.filterwarnings("ignore:Failed to initialize NumPy")
IS_NEW = int(torch.__version__.partition(".")[0]) >= 2


def make_state():
    generator = torch.Generator().manual_seed(1)
    state = {f"layer{number}": torch.rand(64, 100, generator=generator) for number in range(20)}
    state["large"] = torch.rand(1500, 1000, generator=generator)
    state["half"] = torch.ones(3, dtype=torch.bfloat16)
    state["empty"] = torch.zeros(0)
    state["scalar"] = torch.tensor(5)
    return state


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert value.dtype == second[name].dtype


def save(value, url, **options):
    with BlobIO(url, "wb") as f:
        torch.save(value, f, **options)


@pytest.mark.parametrize("zipped", [True, False])
def test_save_and_load(blobs, zipped):
    state = make_state()
    save(state, blobs.url(), _use_new_zipfile_serialization=zipped)
    expected = io.BytesIO()
    torch.save(state, expected, _use_new_zipfile_serialization=zipped)
    if not zipped:
        assert len(blobs.get()) == expected.tell()
    for options in ({}, {"map_location": "cpu"}, {"weights_only": True}):
        with BlobIO(blobs.url(), "rb") as f:
            assert_same(torch.load(f, **options), state)


def test_a_blob_is_the_same_file_as_a_local_one(blobs, tmp_path):
    state = make_state()
    torch.save(state, tmp_path / "local.pt")
    with BlobIO(blobs.put("blob", (tmp_path / "local.pt").read_bytes()), "rb") as f:
        assert_same(torch.load(f), state)
    save(state, blobs.url("saved"))
    (tmp_path / "copy.pt").write_bytes(blobs.get("saved"))
    assert_same(torch.load(tmp_path / "copy.pt"), state)


def test_map_location(blobs):
    save(make_state(), blobs.url())
    with BlobIO(blobs.url(), "rb") as f:
        loaded = torch.load(f, map_location=lambda storage, _location: storage)
    assert_same(loaded, make_state())
    if IS_NEW:
        with BlobIO(blobs.url(), "rb") as f:
            assert all(value.is_meta for value in torch.load(f, map_location="meta").values())
        with BlobIO(blobs.url(), "rb") as f:
            assert_same(torch.load(f, mmap=False), make_state())


def test_other_values_and_several_in_one_file(blobs):
    values = [{"epoch": 3, "name": "ä", "lr": 0.1}, [1, 2, (3, None)], torch.arange(5)]
    with BlobIO(blobs.url(), "wb") as f:
        for value in values:
            torch.save(value, f, _use_new_zipfile_serialization=False)
    with BlobIO(blobs.url(), "rb") as f:
        assert torch.load(f) == values[0]
        assert torch.load(f) == values[1]
        assert torch.equal(torch.load(f), values[2])
        assert f.read() == b""


def test_loading_needs_few_requests(blobs):
    save(make_state(), blobs.url())
    before = aztorch.stats()
    with BlobIO(blobs.url(), "rb") as f:
        torch.load(f)
    after = aztorch.stats()
    size = len(blobs.get())
    assert after["bytes_received"] - before["bytes_received"] < 1.1 * size + 100_000


def test_an_optimizer_and_a_module(blobs):
    model = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(4, 10)).sum().backward()
    optimizer.step()
    save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, blobs.url())
    with aztorch.open(blobs.url(), "rb") as f:
        loaded = torch.load(f)
    assert_same(loaded["model"], model.state_dict())
    optimizer.load_state_dict(loaded["optimizer"])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript(blobs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.trace(torch.nn.Linear(10, 3), torch.rand(1, 10))
        with BlobIO(blobs.url(), "wb") as f:
            torch.jit.save(script, f)
        with BlobIO(blobs.url(), "rb") as f:
            loaded = torch.jit.load(f)
    value = torch.rand(2, 10)
    assert torch.equal(loaded(value), script(value))


def test_a_missing_blob(blobs):
    with BlobIO(blobs.url("missing"), "rb") as f, pytest.raises(BlobNotFoundError):
        torch.load(f)


def test_a_blob_that_is_no_archive(blobs):
    for content in (b"", b"x", b"no archive" * 100):
        with BlobIO(blobs.put("blob", content), "rb") as f, pytest.raises(Exception) as caught:  # noqa: PT011
            torch.load(f)
        assert not isinstance(caught.value, (OSError, AttributeError)), caught.value


FAILING_SAVE = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from aztorch.exceptions import FatalBlobIOWriteError
from aztorch.io import BlobIO

def save(how):
    weights = {str(number): torch.zeros(256, 1024) for number in range(20)}
    f = BlobIO(sys.argv[1], "wb")
    if how == "with":
        with f:
            torch.save(weights, f)
    elif how == "old":
        torch.save(weights, f, _use_new_zipfile_serialization=False)
        f.close()
    else:
        torch.save(weights, f)
        f.close()

for how in ("with", "close", "old"):
    try:
        save(how)
    except FatalBlobIOWriteError as error:
        assert isinstance(error.__cause__, PermissionError), repr(error.__cause__)
        print("failed")
"""


def test_a_failing_save_is_an_exception(run_python, server):
    server.fail("block,commit,put", Reply(403, "AuthorizationPermissionMismatch"), times=10_000)
    assert run_python(FAILING_SAVE, server.url("blob")) == "failed\n" * 3
    assert server.of("commit", "put") == []


def test_a_failing_commit_after_a_save(server):
    server.put("blob", b"old")
    server.fail("commit,put", Reply(403, "AuthorizationPermissionMismatch"), times=100)
    f = BlobIO(server.url("blob"), "wb")
    torch.save(torch.zeros(5), f)
    with pytest.raises(FatalBlobIOWriteError):
        f.close()
    assert server.get("blob") == b"old"


def test_an_error_while_pickling_discards(blobs):
    blobs.put("blob", b"old")
    with pytest.raises(Exception, match="pickle"), BlobIO(blobs.url(), "wb") as f:
        torch.save({"x": torch.zeros(5), "f": lambda: None}, f)
    assert blobs.get() == b"old"


BROKEN_LOAD = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from aztorch.io import BlobIO

for name in sys.argv[1:]:
    with BlobIO(name, "rb") as f:
        try:
            torch.load(f)
        except Exception as error:
            found = error
    while not isinstance(found, PermissionError):
        found = found.__cause__ or found.__context__
    print("failed")
"""


def test_a_failing_load_is_an_exception(run_python, server):
    urls = []
    for old_format in (False, True):
        buffer = io.BytesIO()
        torch.save(torch.zeros(3_000_000), buffer, _use_new_zipfile_serialization=not old_format)
        urls.append(server.put(f"blob{old_format}", buffer.getvalue()))
    # The beginning can be read, and the tensor cannot.
    server.refuses_from = 1_000_000
    assert run_python(BROKEN_LOAD, *urls) == "failed\n" * 2
