"""Checkpoints of two ranks, which torchrun starts: resharding, FSDP2, asynchronous saves, and ranks that fail or die."""

# ruff: noqa: E402 # what comes first looks whether there is anything to test

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", minversion="2.4")
if not torch.distributed.is_available():
    pytest.skip("torch is built without distributed", allow_module_level=True)

import checkpoint_ranks
import torch.distributed.checkpoint as dcp

from aztorch.checkpoint import BlobStorageReader, BlobStorageWriter, latest
from aztorch.checkpoint._folder import Folder

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
PROGRAM = Path(checkpoint_ranks.__file__)
TIMEOUT = 120


@pytest.fixture(scope="module")
def at() -> str:
    """The URL of a checkpoint, with {} for its name."""
    container, _, query = os.environ["AZTORCH_TEST_CONTAINER_URL"].partition("?")
    return f"{container}/{uuid.uuid4()}/{{}}?{query}"


def start(at: str, *tasks: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.Popen(
        [*command, str(PROGRAM), at, *tasks],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def load(url: str) -> dict[str, object]:
    state = checkpoint_ranks.whole_state(0)
    dcp.load(state, storage_reader=BlobStorageReader(url))
    return state


def check(state: dict[str, object], generation: int) -> None:
    for name in checkpoint_ranks.SHAPES:
        assert torch.equal(state[name], checkpoint_ranks.expected(name, generation)), name
    assert state["step"] == generation


def until(condition, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.fixture(scope="module")
def saved(at: str) -> str:
    """Run what two ranks do together, once: starting them takes longer than all the rest."""
    dcp.save(checkpoint_ranks.whole_state(), storage_writer=BlobStorageWriter(at.format("one")))
    process = start(at, "reshard", "fsdp", "asynchronous", "failing")
    output = process.communicate(timeout=TIMEOUT)[0]
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("task", ["reshard", "fsdp", "asynchronous", "failing"])
def test_two_ranks(task: str, saved: str) -> None:
    assert f"done: {task}" in saved


def test_two_ranks_to_one(at: str, saved: str) -> None:  # noqa: ARG001
    check(load(at.format("two")), 1)
    names = Folder(at.format("two"), None).names()
    assert sorted(name.split("_")[2] for name in names if name != ".metadata") == ["0", "1"]


def test_failure_publishes_nothing(at: str, saved: str) -> None:  # noqa: ARG001
    names = Folder(at.format("failing"), None).names()
    assert ".metadata" not in names
    assert names, "the other rank has written its file"
    assert latest(at.format("")).partition("?")[0] != at.format("failing").partition("?")[0]


def test_killed_rank_leaves_previous_checkpoint(at: str, saved: str, tmp_path: Path) -> None:  # noqa: ARG001
    url = at.format("two")
    before = set(Folder(url, None).names())
    pid_file = tmp_path / "pid"
    process = start(at, "hanging", PID_FILE=str(pid_file))
    try:
        # Rank 1 is in the middle of its file, and rank 0 has written its own.
        until(pid_file.exists, process)
        until(lambda: set(Folder(url, None).names()) > before, process)
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        assert process.wait(TIMEOUT) != 0
    finally:
        # torchrun then ends the ranks.
        process.terminate()
        process.communicate(timeout=TIMEOUT)
    check(load(url), 1)

    # The next save replaces both the previous checkpoint and what the killed one left.
    left = set(Folder(url, None).names())
    assert left > before
    dcp.save(checkpoint_ranks.whole_state(5), storage_writer=BlobStorageWriter(url))
    check(load(url), 5)
    assert set(Folder(url, None).names()) & left == {".metadata"}
