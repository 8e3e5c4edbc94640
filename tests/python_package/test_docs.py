"""Runs the Python of README.md, python/README.md and docs/: the blocks of a page one after the other, as one program.

A page becomes a program with the same line numbers, so that a traceback names the line of the page. In it,
https://ACCOUNT.blob.core.windows.net/CONTAINER is a new container with the blobs of `BLOBS`, and ?SAS its SAS. If there
is a comment behind a call of print, it must be what is printed.

`<!-- torch2 -->` in the line before a block: it is run with torch 2 only.
"""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import tokenize
import urllib.request
import uuid
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import aztorch

ROOT = Path(__file__).resolve().parents[2]
# Their Python is for other programs than the package: the gate `readme` checks it.
ELSEWHERE = {"docs/c-api.md", "docs/cpp.md"}
TORCH2_MARK = "<!-- torch2 -->"
FENCE = re.compile(r"\s*(```+|~~~+)\s*([\w-]*)")
PLACEHOLDER = "https://ACCOUNT.blob.core.windows.net/CONTAINER"
SECONDS = 240
# Lightning 2.6 uses what torch 2.15 calls deprecated.
LIGHTNING = "ignore::FutureWarning:lightning.pytorch.utilities._pytree"
WARNINGS = f"error::ResourceWarning,error::FutureWarning,{LIGHTNING}"

# Beside the program. It prints, and compares with the comment in the line of the call.
CHECKS = """
import builtins
import io
import sys

EXPECTED = {expected!r}
seen = set()


def print(*values, **options):
    builtins.print(*values, **options)
    line = sys._getframe(1).f_lineno
    if line in EXPECTED:
        seen.add(line)
        text = io.StringIO()
        builtins.print(*values, file=text)
        printed = text.getvalue().rstrip()
        assert printed == EXPECTED[line], f"line {{line}} of {page} printed {{printed!r}}, and not {{EXPECTED[line]!r}}"


def finish():
    missing = sorted(set(EXPECTED) - seen)
    assert not missing, f"lines of {page} that printed nothing: {{missing}}"
    builtins.print("every block of {page} was run")
"""


class Block(NamedTuple):
    line: int  # of its first line of code, counted from 1
    code: list[str]
    needs_torch2: bool


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of Python of a page."""
    found: list[Block] = []
    lines = text.splitlines()
    closing, inside = "", None
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if closing:
            if line.strip() == closing:
                closing, inside = "", None
            elif inside is not None:
                inside.code.append(line)
        elif fence:
            closing = fence[1]
            if fence[2].lower().startswith("py"):
                assert line == "```python", f"line {number}: write ```python at the beginning of the line, not {line!r}"
                inside = Block(number + 1, [], lines[number - 2] == TORCH2_MARK)
                found.append(inside)
    assert not closing, "the last block of code has no end"
    return found


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


ALL_PAGES = ["README.md", "python/README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
PAGES = [
    page for page in ALL_PAGES if page not in ELSEWHERE and re.search(r"(```|~~~)\s*py", read(page), re.IGNORECASE)
]


def png(width: int, height: int) -> bytes:
    """Return a grey image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# What the pages read without having written it.
BLOBS = {
    **{f"train/{number:04}": bytes([number % 10]) + bytes([number]) * (3 * 32 * 32) for number in range(64)},
    "volumes/0.raw": bytes(32 * 64 * 64),
    "images/cat.png": png(4, 3),
}


class Container(NamedTuple):
    url: str
    sas: str


@pytest.fixture
def container() -> Container:
    """Return a new container with the blobs."""
    endpoint, _, sas = os.environ["AZTORCH_TEST_CONTAINER_URL"].partition("?")
    url = f"{endpoint.rpartition('/')[0]}/docs-{uuid.uuid4()}"
    request = urllib.request.Request(f"{url}?restype=container&{sas}", method="PUT", data=b"")
    request.add_header("x-ms-version", "2021-12-02")
    urllib.request.urlopen(request, timeout=60).close()
    for name, content in BLOBS.items():
        with aztorch.open(f"{url}/{name}?{sas}", "wb") as f:
            f.write(content)
    return Container(url, sas)


def at(text: str, container: Container) -> str:
    """Return the text with the container in place of the one that the pages name."""
    return text.replace(PLACEHOLDER, container.url).replace("?SAS", f"?{container.sas}")


def expected_of(code: str, first_line: int) -> dict[int, str]:
    """Return the comments behind calls of print in one line, by line."""
    lines = code.splitlines()
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT and "print(" in lines[line - 1][: token.start[1]]:
            found[first_line + line - 1] = token.string.lstrip("# ")
    return found


def test_these_pages_have_python() -> None:
    assert {"README.md", "python/README.md", "docs/python.md", "docs/python-migration.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, container: Container, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = read(page)
    program = [""] * (len(text.splitlines()) + 1)
    expected: dict[int, str] = {}
    left_out = []
    for block in blocks_of(text):
        if block.needs_torch2 and torch.__version__.startswith("1."):
            left_out.append(str(block.line))
            continue
        code = [at(line, container) for line in block.code]
        expected.update(expected_of("\n".join(code) + "\n", block.line))
        program[block.line - 1 : block.line - 1 + len(code)] = code
    if left_out:
        with capsys.disabled():
            print(f"\n{page}: needs torch 2, and not {torch.__version__}: not run from lines {', '.join(left_out)} on")
    # The first line of a page is its title.
    assert not program[0]
    program[0] = "from page_checks import print, finish"
    program[-1] = "finish()"
    tmp_path.joinpath("page_checks.py").write_text(CHECKS.format(expected=expected, page=page), encoding="utf-8")
    script = tmp_path / Path(page).with_suffix(".py").name
    script.write_text("\n".join(program) + "\n", encoding="utf-8")
    environment = dict(
        os.environ,
        AZURE_STORAGE_CONNECTION_STRING=os.environ["AZTORCH_TEST_CONNECTION_STRING"],
        PYTHONWARNINGS=WARNINGS,
    )
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if result.returncode or not result.stdout.rstrip().endswith(f"every block of {page} was run"):
        pytest.fail(f"{page}: exit status {result.returncode}\n{result.stdout}", pytrace=False)
