"""What all tests of the package share: a place in Azurite's container, a server that fails, subprocesses."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest
from fault_server import FaultServer

# The packages that a file of tests needs, and how they are named where they are missing.
NEEDS = {
    "test_pandas.py": ["pandas", "pyarrow"],
    "test_images.py": ["PIL"],
    "test_safetensors.py": ["safetensors"],
    "test_identity.py": ["azure.identity"],
    "test_lightning.py": ["lightning", "pytorch_lightning"],
}
VERSION = "2021-12-02"


def _is_missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


def _torch_is_old() -> bool:
    import torch

    return int(torch.__version__.partition(".")[0]) < 2


_left_out: dict[str, str] = {}
for _file, _packages in NEEDS.items():
    _missing = [name for name in _packages if _is_missing(name)]
    if _missing:
        _left_out[_file] = f"{', '.join(_missing)} not installed"
for _path in Path(__file__).parent.glob("test_*.py"):
    if _path.name.startswith(("test_torch2", "test_checkpoint", "test_lightning")) and _torch_is_old():
        _left_out[_path.name] = "it needs torch 2"
collect_ignore = list(_left_out)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tls: needs Azurite with --tls")
    # Exceptions in __del__ and in threads are failures.
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnraisableExceptionWarning")
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnhandledThreadExceptionWarning")


def pytest_report_header() -> list[str]:
    return [f"not collected: {file}: {reason}" for file, reason in sorted(_left_out.items())]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests for https where the server speaks http."""
    if os.environ.get("AZTORCH_TEST_CONTAINER_URL", "").startswith("https:"):
        return
    tls = [item for item in items if item.get_closest_marker("tls")]
    if tls:
        print(f"not selected: {len(tls)} tests that need Azurite with --tls")
        config.hook.pytest_deselected(items=tls)
        items[:] = [item for item in items if item not in tls]


class Blobs:
    """A folder of its own in the container of Azurite, and a client for it that is not under test."""

    def __init__(self) -> None:
        self.container, _, self.sas = os.environ["AZTORCH_TEST_CONTAINER_URL"].partition("?")
        self.container_url = f"{self.container}?{self.sas}"
        self.prefix = f"{uuid.uuid4().hex[:12]}/"

    def url(self, name: str = "blob", *, sas: bool = True) -> str:
        """Return the URL of a blob of this folder."""
        plain = f"{self.container}/{quote(self.prefix + name)}"
        return f"{plain}?{self.sas}" if sas else plain

    def put(self, name: str, content: bytes) -> str:
        """Upload a blob, and return its URL."""
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        self._send("PUT", name, content, headers)
        return self.url(name)

    def get(self, name: str = "blob") -> bytes:
        """Download a blob."""
        return self._send("GET", name)

    def exists(self, name: str = "blob") -> bool:
        """Return whether a blob exists."""
        try:
            self._send("HEAD", name)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return False
        return True

    def _send(
        self, method: str, name: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        every = {"x-ms-version": VERSION, **(headers or {})}
        request = urllib.request.Request(self.url(name), data=content, method=method, headers=every)
        with urllib.request.urlopen(request) as response:
            return response.read()


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


@pytest.fixture
def server():
    """Yield a server of the test's own that can be made to fail."""
    made = FaultServer()
    yield made
    made.close()


@pytest.fixture
def run_python(tmp_path):
    """Return a function that runs a program in a new Python, which must end with status 0 and print no errors."""

    def run(program: str, *arguments: str, expect: int = 0, stderr: str | None = "", **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, f"status {done.returncode}:\n{done.stdout}\n{done.stderr}"
        if stderr is not None:
            assert done.stderr == stderr, done.stderr
        return done.stdout

    return run
