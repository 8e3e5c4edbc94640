"""Distributed checkpoints in one process: what is written, what is fetched, and which checkpoint is the newest."""

# ruff: noqa: E402 # what comes first looks whether there is anything to test

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", minversion="2.4")
if not torch.distributed.is_available():
    pytest.skip("torch is built without distributed", allow_module_level=True)

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import SerializationFormat

import aztorch
from aztorch import exceptions
from aztorch.checkpoint import BlobStorageReader, BlobStorageWriter, _reader, _threads, _writer, keep_last, latest
from aztorch.checkpoint._folder import Folder

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def run() -> str:
    """The URL of an empty folder, with a space in its name."""
    container, _, query = os.environ["AZTORCH_TEST_CONTAINER_URL"].partition("?")
    return f"{container}/a run {uuid.uuid4()}?{query}"


def below(url: str, name: str) -> str:
    path, _, query = url.partition("?")
    return f"{path}/{name}?{query}"


def names(url: str) -> set[str]:
    return set(Folder(url, None).names())


def data_files(url: str) -> set[str]:
    return {name for name in names(url) if name.endswith(".distcp")}


def state(seed: int = 1) -> dict[str, object]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "small": random(3, 4),
        "large": random(700, 401),
        "transposed": random(512, 300).t(),
        "part": random(1000, 100)[10:20, 5:50],
        "half": random(1001).to(torch.bfloat16),
        "number": torch.tensor(float(seed)),
        "empty": torch.empty(0, 3),
        "nested": {"step": seed, "list": [random(2), "text"]},
    }


def zeros(like: object) -> object:
    if isinstance(like, torch.Tensor):
        return torch.zeros_like(like)
    if isinstance(like, dict):
        return {key: zeros(value) for key, value in like.items()}
    if isinstance(like, list):
        return [zeros(value) for value in like]
    return type(like)()


def check_equal(one: object, two: object) -> None:
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            check_equal(one[key], two[key])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for first, second in zip(one, two):
            check_equal(first, second)
    else:
        assert one == two


def save(url: str, seed: int = 1, **options: object) -> None:
    dcp.save(state(seed), storage_writer=BlobStorageWriter(url, **options))


def check_loads(reader: object, seed: int = 1) -> None:
    loaded = zeros(state(seed))
    dcp.load(loaded, storage_reader=reader)
    check_equal(loaded, state(seed))


# ---- saving and loading ----


def test_round_trip(run: str) -> None:
    save(run)
    check_loads(BlobStorageReader(run))
    assert ".metadata" in names(run)
    assert len(data_files(run)) == 1


def test_checkpoint_id_keeps_the_sas(run: str) -> None:
    writer, reader = BlobStorageWriter(run), BlobStorageReader(run)
    url = below(run, "step-1")
    plain = url.partition("?")[0]
    dcp.save(state(), checkpoint_id=plain, storage_writer=writer)
    assert writer.checkpoint_id == plain
    loaded = zeros(state())
    dcp.load(loaded, checkpoint_id=plain, storage_reader=reader)
    check_equal(loaded, state())
    assert reader.checkpoint_id == plain
    # And with its own SAS.
    dcp.load(loaded, checkpoint_id=url, storage_reader=BlobStorageReader(plain, credential=False))


def test_sas_is_not_sent_to_another_host() -> None:
    writer = BlobStorageWriter("https://one.blob.core.windows.net/container/x?sig=secret")
    writer.reset("https://two.blob.core.windows.net/container/x")
    assert "secret" not in writer._folder.blob_url("a")
    writer = BlobStorageWriter("abfss://container@one.dfs.core.windows.net/x?sig=secret")
    writer.reset("abfss://container@one.dfs.core.windows.net/y")
    assert writer._folder.blob_url("a") == "abfss://container@one.dfs.core.windows.net/y/a?sig=secret"


def test_sas_is_neither_stored_nor_logged(run: str, caplog: pytest.LogCaptureFixture) -> None:
    signature = run.partition("sig=")[2]
    assert signature
    with caplog.at_level(logging.DEBUG):
        save(run)
        check_loads(BlobStorageReader(run))
    assert signature not in caplog.text
    for name in names(run):
        assert signature.encode() not in aztorch.open(Folder(run, None).blob_url(name), "rb").read()


def test_validate_checkpoint_id() -> None:
    for kind in (BlobStorageWriter, BlobStorageReader):
        assert kind.validate_checkpoint_id("https://account.blob.core.windows.net/container/run/step-1?sig=x")
        assert kind.validate_checkpoint_id("abfss://container@account.dfs.core.windows.net/run")
        assert not kind.validate_checkpoint_id("https://")
        assert not kind.validate_checkpoint_id("/local/path")
        assert not kind.validate_checkpoint_id("relative")
        assert not kind.validate_checkpoint_id("s3://bucket/run")
        assert not kind.validate_checkpoint_id(Path("/local"))
        with pytest.raises(TypeError, match="has a URL"):
            kind(Path("/local"))
        with pytest.raises(TypeError, match="credential"):
            kind("https://account.blob.core.windows.net/container/run", credential=object())
    with pytest.raises(ValueError, match="thread_count"):
        BlobStorageWriter("https://account.blob.core.windows.net/container/run", thread_count=0)


def test_missing_checkpoint(run: str) -> None:
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        BlobStorageReader(run).read_metadata()
    with pytest.raises(dcp.CheckpointException, match="no complete checkpoint"):
        check_loads(BlobStorageReader(run))


def test_files_of_a_rank(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer, "_LEAST_FILE_SIZE", 1)
    save(run, thread_count=3)
    files = sorted(data_files(run))
    assert [name[:5] for name in files] == ["__0_0", "__0_1", "__0_2"]
    check_loads(BlobStorageReader(run))
    monkeypatch.setattr(_writer, "_LEAST_FILE_SIZE", 2**30)
    save(run, thread_count=3)
    assert len(data_files(run)) == 1


def test_items_keep_their_order_and_are_aligned(run: str) -> None:
    tensors = {f"{number:03}": torch.full((1000 + number % 3,), float(number)) for number in range(20)}
    metadata = dcp.save(tensors, storage_writer=BlobStorageWriter(run))
    places = sorted((info.offset, index.fqn) for index, info in metadata.storage_data.items())
    assert [name for _, name in places] == sorted(tensors)
    assert all(offset % 64 == 0 for offset, _ in places)


def test_saves_without_collectives(run: str) -> None:
    for seed in (1, 2):
        dcp.save(state(seed), storage_writer=BlobStorageWriter(run), use_collectives=False)
    assert "__0.metadata" in names(run)
    assert len(names(run)) == 2
    check_loads(BlobStorageReader(run), 2)


def test_saves_without_collectives_after_one_with(run: str) -> None:
    save(run, 1)
    dcp.save(state(2), storage_writer=BlobStorageWriter(run), use_collectives=False)
    check_loads(BlobStorageReader(run), 2)
    save(run, 3)
    check_loads(BlobStorageReader(run), 3)
    assert len(names(run)) == 2


def test_other_default_device(run: str) -> None:
    save(run)
    wanted, loaded, tells_offsets = state(), zeros(state()), _reader._tells_offsets()
    _reader._tells_offsets.cache_clear()
    torch.set_default_device("meta")
    try:
        dcp.load(loaded, storage_reader=BlobStorageReader(run))
        assert _reader._tells_offsets() == tells_offsets
        assert _reader._empty(5).is_cpu
    finally:
        torch.set_default_device(None)
    check_equal(loaded, wanted)


def test_asynchronous_save_at_the_end_of_the_program(run: str) -> None:
    # It runs while Python ends, where executors refuse to work.
    program = """
import sys, torch, torch.distributed.checkpoint as dcp
from aztorch.checkpoint import BlobStorageWriter
dcp.async_save({"w": torch.arange(10)}, storage_writer=BlobStorageWriter(sys.argv[1]), no_dist=True)
"""
    subprocess.run([sys.executable, "-c", program, run], check=True, timeout=120)
    loaded = {"w": torch.zeros(10, dtype=torch.int64)}
    dcp.load(loaded, storage_reader=BlobStorageReader(run))
    assert torch.equal(loaded["w"], torch.arange(10))


def test_writer_and_reader_pickle(run: str) -> None:
    dcp.save(state(), storage_writer=pickle.loads(pickle.dumps(BlobStorageWriter(run))))
    check_loads(pickle.loads(pickle.dumps(BlobStorageReader(run))))


# ---- DCP's own files ----


def test_files_of_dcp_load_from_blobs(run: str, tmp_path: Path) -> None:
    dcp.save(state(), storage_writer=dcp.FileSystemWriter(tmp_path, thread_count=2))
    for file in tmp_path.iterdir():
        with aztorch.open(Folder(run, None).blob_url(file.name), "wb") as blob:
            blob.write(file.read_bytes())
    check_loads(BlobStorageReader(run))


def test_blobs_load_as_files_of_dcp(run: str, tmp_path: Path) -> None:
    save(run)
    for name in names(run):
        (tmp_path / name).write_bytes(aztorch.open(Folder(run, None).blob_url(name), "rb").read())
    check_loads(dcp.FileSystemReader(tmp_path))


def upload(directory: Path, url: str) -> None:
    for file in directory.iterdir():
        with aztorch.open(Folder(url, None).blob_url(file.name), "wb") as blob:
            blob.write(file.read_bytes())


def test_safetensors_are_refused(run: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    writer = dcp.FileSystemWriter(tmp_path, serialization_format=SerializationFormat.SAFETENSORS)
    dcp.save({"w": torch.ones(1000)}, storage_writer=writer)
    upload(tmp_path, run)
    with pytest.raises(dcp.CheckpointException, match="SAFETENSORS are not supported"):
        dcp.load({"w": torch.zeros(1000)}, storage_reader=BlobStorageReader(run))


def test_compressed_items_are_refused(run: str) -> None:
    save(run)
    url = Folder(run, None).blob_url(".metadata")
    metadata = pickle.loads(aztorch.open(url, "rb").read())
    for info in metadata.storage_data.values():
        info.transform_descriptors = ["stream.zstd"]
    with aztorch.open(url, "wb") as blob:
        blob.write(pickle.dumps(metadata))
    with pytest.raises(dcp.CheckpointException, match=r"compressed or encrypted \(stream.zstd\)"):
        check_loads(BlobStorageReader(run))


# ---- replacing a checkpoint ----


class _Hook(dcp.DefaultSavePlanner):
    """Calls a function before the data of each item is written."""

    def __init__(self, function, **options: object) -> None:
        super().__init__(**options)
        self.function = function

    def resolve_data(self, item):
        self.function(item.index.fqn)
        return super().resolve_data(item)


def test_overwriting_replaces_the_files(run: str) -> None:
    save(run, 1)
    with aztorch.open(Folder(run, None).blob_url("notes.txt"), "w") as notes:
        notes.write("not of a checkpoint")
    # What a killed save left, and what DCP's own writer calls its files.
    for name in ("__3_0.0123abcd.distcp", "__0_0.distcp"):
        aztorch.open(Folder(run, None).blob_url(name), "wb").close()
    first = data_files(run)
    save(run, 2)
    assert not data_files(run) & first
    assert len(names(run)) == 3
    check_loads(BlobStorageReader(run), 2)


def test_previous_checkpoint_loads_until_the_next_is_published(run: str) -> None:
    save(run, 1)
    seeds = []

    def look(name: str) -> None:
        if name == "small":
            check_loads(BlobStorageReader(run), 1)
            seeds.append(1)

    dcp.save(state(2), storage_writer=BlobStorageWriter(run), planner=_Hook(look))
    assert seeds == [1]
    check_loads(BlobStorageReader(run), 2)


def test_failed_save_keeps_previous_checkpoint(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer, "_LEAST_FILE_SIZE", 1)
    save(run, 1)

    def fail(name: str) -> None:
        if name == "half":
            raise OSError("one thread fails")

    with pytest.raises(dcp.CheckpointException, match="one thread fails"):
        dcp.save(state(2), storage_writer=BlobStorageWriter(run), planner=_Hook(fail))
    check_loads(BlobStorageReader(run), 1)


def test_write_that_fails_inside_of_torch_save(run: str) -> None:
    class Failing(aztorch.BlobIO):
        def write(self, data: object, /) -> int:
            if self.tell() > 1000:
                raise exceptions.FatalBlobIOWriteError("the disk of the cloud is full")
            return super().write(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_writer, "BlobIO", Failing)
        with pytest.raises(dcp.CheckpointException, match="the disk of the cloud is full"):
            save(run)
    assert names(run) == set()


def test_overwrite_false(run: str) -> None:
    save(run, 1, overwrite=False)
    with pytest.raises(dcp.CheckpointException, match="overwrite is False") as caught:
        save(run, 2, overwrite=False)
    assert isinstance(caught.value.failures[0][0], FileExistsError)
    check_loads(BlobStorageReader(run), 1)


@pytest.mark.parametrize("exists", [False, True])
def test_of_two_saves_at_once_the_first_wins(run: str, exists: bool) -> None:
    if exists:
        save(run, 1)

    def overtake(name: str) -> None:
        if name == "small":
            save(run, 3)

    with pytest.raises(dcp.CheckpointException, match="Error"):
        dcp.save(state(2), storage_writer=BlobStorageWriter(run), planner=_Hook(overtake))
    check_loads(BlobStorageReader(run), 3)


def test_planner_that_caches_plans(run: str) -> None:
    # It returns the plan of the first save for each later one, which must not bring back old names.
    files = []
    for seed in (1, 2, 3):
        planner = dcp.DefaultSavePlanner(enable_plan_caching=True)
        dcp.save({"w": torch.full((10,), float(seed))}, storage_writer=BlobStorageWriter(run), planner=planner)
        files.append(data_files(run))
        loaded = {"w": torch.zeros(10)}
        dcp.load(loaded, storage_reader=BlobStorageReader(run))
        assert torch.equal(loaded["w"], torch.full((10,), float(seed)))
    assert not files[0] & files[1]
    assert not files[1] & files[2]


def test_files_that_cannot_be_deleted(
    run: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(run, 1)

    def refuse(_folder: Folder, _name: str) -> None:
        raise exceptions.PermissionDeniedError("no permission to delete")

    monkeypatch.setattr(Folder, "delete", refuse)
    with caplog.at_level(logging.WARNING, logger="aztorch.checkpoint"):
        save(run, 2)
    assert "no permission to delete" in caplog.text
    check_loads(BlobStorageReader(run), 2)


# ---- what is fetched ----


@contextlib.contextmanager
def fetched():
    """Yield what changes in aztorch.stats()."""
    before = aztorch.stats()
    changes: dict[str, int] = {}
    yield changes
    changes.update({name: value - before[name] for name, value in aztorch.stats().items()})


def test_only_wanted_ranges_are_fetched(run: str) -> None:
    count, size = 8, 4 * 1024 * 1024
    tensors = {f"{number}": torch.full((size // 4,), float(number)) for number in range(count)}
    dcp.save(tensors, storage_writer=BlobStorageWriter(run, thread_count=1))
    wanted = {"1": torch.zeros(size // 4), "6": torch.zeros(size // 4)}
    with fetched() as changes:
        dcp.load(wanted, storage_reader=BlobStorageReader(run))
    check_equal(wanted, {name: tensors[name] for name in wanted})
    # Opening a blob fetches up to 3 MiB.
    assert changes["bytes_received"] < 2 * size + 4 * 1024 * 1024


def test_neighbours_are_fetched_together(run: str) -> None:
    tensors = {f"{number:03}": torch.full((2000,), float(number)) for number in range(500)}
    dcp.save(tensors, storage_writer=BlobStorageWriter(run))
    # Half of them, with gaps.
    wanted = {name: torch.zeros(2000) for name in list(tensors)[::2]}
    with fetched() as changes:
        dcp.load(wanted, storage_reader=BlobStorageReader(run))
    check_equal(wanted, {name: tensors[name] for name in wanted})
    assert changes["requests"] < 10


def test_ranges_of_a_file() -> None:
    mebibyte = 1024 * 1024
    folder = Folder("https://account.blob.core.windows.net/container/run", None)
    file = _reader._File(folder, "x")
    # Neighbours, a small gap, a large gap, an item larger than a range, and the same item twice.
    items = [
        (0, 100),
        (100, 50),
        (mebibyte + 100, 10),
        (10 * mebibyte, 5),
        (20 * mebibyte, 100 * mebibyte),
        (120 * mebibyte, 7),
        (120 * mebibyte, 7),
        (200 * mebibyte, 60 * mebibyte),
        (260 * mebibyte, 10 * mebibyte),
    ]
    for offset, length in reversed(items):
        file.add(offset, length, None)
    found = [(each.start, each.end) for each in file.ranges()]
    assert found == [
        (0, mebibyte + 110),
        (10 * mebibyte, 10 * mebibyte + 5),
        (20 * mebibyte, 120 * mebibyte),
        (120 * mebibyte, 120 * mebibyte + 7),
        (200 * mebibyte, 260 * mebibyte),
        (260 * mebibyte, 270 * mebibyte),
    ]


def test_little_memory(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save(run)
    for name in ("_MEMORY", "_RANGE_SIZE", "_GAP"):
        monkeypatch.setattr(_reader, name, 1)
    check_loads(BlobStorageReader(run))


def test_large_tensors_are_loaded_without_a_copy() -> None:
    tensor = torch.randn(300, 1000)
    archive = io.BytesIO()
    torch.save(tensor.t(), archive)
    for shift in (0, 1):
        memory = torch.frombuffer(bytearray(shift) + archive.getbuffer(), dtype=torch.uint8)
        loaded = _reader._load_tensor(memoryview(memory.numpy())[shift:], memory, shift)
        assert torch.equal(loaded, tensor.t())
        inside = loaded.untyped_storage().data_ptr() == memory.untyped_storage().data_ptr()
        # Not where that would give an unaligned tensor.
        assert inside == (shift == 0 and _reader._tells_offsets())


def test_archive_of_another_byte_order(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.arange(100_000, dtype=torch.int32)
    archive = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
        torch.save(tensor, archive)
    memory = torch.frombuffer(bytearray(archive.getbuffer()), dtype=torch.uint8)
    loaded = _reader._load_tensor(memoryview(memory.numpy()), memory, 0)
    swapped = torch.frombuffer(bytearray(tensor.numpy().byteswap().tobytes()), dtype=torch.int32)
    assert torch.equal(loaded, swapped)


def test_truncated_file(run: str) -> None:
    save(run)
    (name,) = data_files(run)
    url = Folder(run, None).blob_url(name)
    content = aztorch.open(url, "rb").read()
    with aztorch.open(url, "wb") as blob:
        blob.write(content[:-100])
    with pytest.raises(dcp.CheckpointException, match="too short"):
        check_loads(BlobStorageReader(run))


def test_missing_file(run: str) -> None:
    save(run)
    (name,) = data_files(run)
    Folder(run, None).delete(name)
    with pytest.raises(dcp.CheckpointException, match="404"):
        check_loads(BlobStorageReader(run))


# ---- threads ----


def test_threads_stay_below_the_limit() -> None:
    lock = threading.Lock()
    in_use, most = 0, 0

    def task(size: int) -> int:
        nonlocal in_use, most
        with lock:
            in_use += size
            most = max(most, in_use)
        return size

    # One is larger than the limit by itself.
    sizes = [3, 4, 5, 50, 1, 2, 6] * 5
    results = []
    for size in _threads.run([(size, lambda size=size: task(size)) for size in sizes], thread_count=4, limit=10):
        results.append(size)
        with lock:
            in_use -= size
    assert sorted(results) == sorted(sizes)
    assert most == 50


def test_threads_end_after_a_failure() -> None:
    stopped = threading.Event()

    def fail() -> None:
        raise OSError("first")

    tasks = [(0, lambda: stopped.wait(60)), (0, fail), *[(0, lambda: None)] * 100]
    before = threading.active_count()
    with pytest.raises(OSError, match="first"):
        list(_threads.run(tasks, thread_count=2, cancel=stopped.set))
    assert stopped.is_set()
    assert threading.active_count() == before


def test_threads_end_if_the_caller_stops() -> None:
    stopped = threading.Event()
    results = _threads.run([(0, lambda: 1), (0, stopped.wait)], thread_count=2, cancel=stopped.set)
    assert next(results) == 1
    results.close()
    assert stopped.is_set()


# ---- the checkpoints of a run ----


def make(run: str, *files: str) -> None:
    for file in files:
        aztorch.open(Folder(run, None).blob_url(file), "wb").close()


def make_complete(run: str, *checkpoints: str) -> None:
    for name in checkpoints:
        make(run, f"{name}/__0_0.distcp", f"{name}/.metadata")


def left(run: str) -> set[str]:
    return {name.partition("/")[0] for name in names(run)}


def test_latest_loads(run: str) -> None:
    save(below(run, "step-9"), 9)
    save(below(run, "step-10"), 10)
    url = latest(run)
    assert url == below(run, "step-10")
    check_loads(BlobStorageReader(url), 10)


@pytest.mark.parametrize(
    ("folders", "newest"),
    [
        ([], None),
        (["100", "20"], "100"),
        (["step-100", "step-20", "step-9"], "step-100"),
        (["ckpt-10", "step-9"], "ckpt-10"),
        (["2026-11-30", "2026-12-01"], "2026-12-01"),
        (["epoch=2-step=5", "epoch=10-step=3"], "epoch=10-step=3"),
        (["step-1", "best", "zzz"], "step-1"),
        (["alpha", "beta"], "beta"),
        (["a b?c#%41", "a"], "a b?c#%41"),
    ],
)
def test_latest(run: str, folders: list[str], newest: str | None) -> None:
    make_complete(run, *folders)
    # None of these is a checkpoint: incomplete, too deep, the run itself, and of another run.
    make(run, "step-999/__0_0.distcp", "step-998/deeper/.metadata", ".metadata", "note-1000")
    make(run.replace("?", "-2/step-1001?", 1), ".metadata")
    found = latest(run)
    assert found == (None if newest is None else Folder(run, None).child(newest).full_url)
    if found is not None:
        assert aztorch.open(Folder(found, None).blob_url(".metadata"), "rb").read() == b""


def test_latest_of_a_container() -> None:
    container = os.environ["AZTORCH_TEST_CONTAINER_URL"]
    # Behind the names of all other tests.
    name = f"~{uuid.uuid4()}-{2**70}"
    make_complete(container, name)
    assert latest(container).partition("?")[0].endswith(f"/{name}")
    Folder(container, None).child(name).delete_all([".metadata", "__0_0.distcp"])


def test_keep_last(run: str) -> None:
    make_complete(run, "step-8", "step-9", "step-10", "step-11", "best")
    make(run, "step-8/more/config.json", "step-11/more/config.json")
    # Of killed saves, the first three; or still being written, the last.
    make(run, "step-1/__0_0.distcp", "step-7/__0_0.abc.distcp", "step-10.5/__0_0.distcp", "step-12/__1_0.distcp")
    # No checkpoints.
    make(run, "logs-1/events", "rank-1/__0.metadata", "rank-1/__0_0.distcp")
    make_complete(run.replace("?", "-2?", 1), "step-1")
    make_complete(run, "best-5")
    assert keep_last(run, 5) == 0
    assert left(run) >= {"step-1", "step-7", "step-8", "step-9", "step-10", "step-11"}
    assert keep_last(run, 3) == 1
    assert left(run) >= {"step-1", "step-7", "step-9", "step-10", "step-11"}
    assert keep_last(run, 2, incomplete=True) == 3
    assert left(run) == {"best", "best-5", "step-10", "step-10.5", "step-11", "step-12", "logs-1", "rank-1"}
    assert "step-11/more/config.json" in names(run)
    assert keep_last(run, 2) == 0
    assert latest(run) == below(run, "step-11")
    assert left(run.replace("?", "-2?", 1)) == {"step-1"}


def test_keep_last_without_complete_ones(run: str) -> None:
    make(run, "step-1/__0_0.distcp", "step-2/__0_0.distcp")
    assert keep_last(run, 1) == 0
    assert left(run) == {"step-1", "step-2"}


@pytest.mark.parametrize("count", [0, -1])
def test_keep_last_of_none(run: str, count: int) -> None:
    make_complete(run, "step-1")
    with pytest.raises(ValueError, match="at least 1"):
        keep_last(run, count)
    assert left(run) == {"step-1"}


def test_keep_last_deletes_the_metadata_first(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_complete(run, "step-1", "step-2")

    def refuse(_folder: Folder, _names: object) -> None:
        raise exceptions.PermissionDeniedError("no permission to delete")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "delete_all", refuse)
        with pytest.raises(PermissionError):
            keep_last(run, 1)
    assert "step-1/.metadata" not in names(run)
    assert keep_last(run, 1) == 0
    assert keep_last(run, 1, incomplete=True) == 1
    assert left(run) == {"step-2"}
