"""Checkpoints of Lightning on blobs."""

# ruff: noqa: E402 # what comes first looks whether there is anything to test

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

PACKAGES = [
    name for name in ("lightning.pytorch", "pytorch_lightning") if importlib.util.find_spec(name.partition(".")[0])
]
if not PACKAGES:
    pytest.skip("Lightning is not installed", allow_module_level=True)

import torch

import aztorch
from aztorch.lightning import BlobCheckpointIO

PROGRAM = Path(__file__).with_name("lightning_run.py")


@pytest.fixture
def folder() -> str:
    container, _, query = os.environ["AZTORCH_TEST_CONTAINER_URL"].partition("?")
    return f"{container}/{uuid.uuid4()}?{query}"


@pytest.fixture
def url(folder: str) -> str:
    return folder.replace("?", "/one.ckpt?", 1)


def test_training_goes_on_from_blobs(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), folder, *PACKAGES], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"done: {package}" for package in PACKAGES]


def test_save_load_and_remove(url: str) -> None:
    plugin = BlobCheckpointIO()
    plugin.save_checkpoint({"state_dict": {"w": torch.arange(5)}, "epoch": 3}, url)
    loaded = plugin.load_checkpoint(url, weights_only=True)
    assert torch.equal(loaded["state_dict"]["w"], torch.arange(5))
    assert loaded["epoch"] == 3
    plugin.remove_checkpoint(url)
    plugin.remove_checkpoint(url)
    with pytest.raises(FileNotFoundError):
        plugin.load_checkpoint(url)


def test_credential(url: str) -> None:
    plain, _, query = url.partition("?")

    class Sas:
        signature = query

    plugin = BlobCheckpointIO(credential=Sas())
    plugin.save_checkpoint({"epoch": 1}, plain)
    assert plugin.load_checkpoint(plain) == {"epoch": 1}
    with pytest.raises(TypeError, match="credential"):
        BlobCheckpointIO(credential="text")


def test_failed_save_keeps_the_old_checkpoint(url: str) -> None:
    plugin = BlobCheckpointIO()
    plugin.save_checkpoint({"epoch": 1}, url)

    class Unpicklable:
        def __reduce__(self) -> str:
            raise OSError("cannot be pickled")

    with pytest.raises(OSError, match="cannot be pickled"):
        plugin.save_checkpoint({"w": torch.zeros(1000), "object": Unpicklable()}, url)
    assert plugin.load_checkpoint(url) == {"epoch": 1}


def test_directory_stands_for_a_folder(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plugin = BlobCheckpointIO("checkpoints", folder)
    plugin.save_checkpoint({"epoch": 1}, Path("checkpoints") / "a" / "x=1.ckpt")
    assert plugin.load_checkpoint(folder.replace("?", "/a/x=1.ckpt?", 1)) == {"epoch": 1}
    assert plugin.load_checkpoint(str(tmp_path / "checkpoints" / "a" / "x=1.ckpt")) == {"epoch": 1}
    plugin.remove_checkpoint("checkpoints/a/x=1.ckpt")
    with pytest.raises(FileNotFoundError):
        plugin.load_checkpoint("checkpoints/a/x=1.ckpt")
    plugin.save_checkpoint({"epoch": 1}, "checkpoints-2/x.ckpt")
    assert (tmp_path / "checkpoints-2" / "x.ckpt").exists()
    assert not (tmp_path / "checkpoints").exists()


def test_bad_arguments(folder: str) -> None:
    for arguments in (("checkpoints",), (None, folder)):
        with pytest.raises(ValueError, match="belong together"):
            BlobCheckpointIO(*arguments)
    with pytest.raises(ValueError, match="bad URL"):
        BlobCheckpointIO("checkpoints", "https://")
    with pytest.raises(ValueError, match="appended to a URL with a query"):
        BlobCheckpointIO().save_checkpoint({}, f"{folder}/x.ckpt")


def test_other_paths_are_left_to_lightning(tmp_path: Path) -> None:
    plugin = BlobCheckpointIO(tmp_path / "checkpoints", "https://account.blob.core.windows.net/container/run")
    for path in (tmp_path / "a" / "x.ckpt", str(tmp_path / "y.ckpt")):
        plugin.save_checkpoint({"epoch": 2}, path)
        assert Path(path).exists()
        assert plugin.load_checkpoint(path) == {"epoch": 2}
        plugin.remove_checkpoint(path)
        assert not Path(path).exists()


def test_storage_options_are_refused(url: str) -> None:
    with pytest.raises(TypeError, match="storage_options"):
        BlobCheckpointIO().save_checkpoint({}, url, storage_options={"a": 1})


def test_checkpoint_is_what_torch_saves(url: str) -> None:
    BlobCheckpointIO().save_checkpoint({"epoch": 4}, url)
    with aztorch.open(url, "rb") as blob:
        assert torch.load(blob) == {"epoch": 4}
