"""Progress, log messages and counters."""

import logging
import sys

import pytest
from fault_server import Reply

import aztorch
from aztorch.exceptions import FatalBlobIOWriteError
from aztorch.io import BlobIO

CONTENT = bytes(range(256)) * 20_000


def test_progress_of_a_reader(blobs):
    seen = []
    with BlobIO(blobs.put("blob", CONTENT), "rb", progress=lambda done, total: seen.append((done, total))) as f:
        assert f.read() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_progress_of_a_writer(blobs):
    seen = []
    with BlobIO(blobs.url(), "wb", progress=lambda done, total: seen.append((done, total))) as f:
        for start in range(0, len(CONTENT), 1_000_000):
            f.write(CONTENT[start : start + 1_000_000])
    assert seen[-1][0] == len(CONTENT)
    assert all(total in (None, len(CONTENT)) for _, total in seen)
    assert blobs.get() == CONTENT


def fail(done, total):
    raise ZeroDivisionError(f"{done} of {total}")


def test_a_read_raises_what_its_progress_function_raised(blobs):
    with BlobIO(blobs.put("blob", b"12345"), "rb", progress=fail) as f:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                f.read(2)
        f._progress._report = lambda done, total: None
        assert f.read() == b"12345"


def test_a_write_fails_with_what_its_progress_function_raised(blobs):
    f = BlobIO(blobs.url(), "wb", progress=fail)
    with pytest.raises(FatalBlobIOWriteError) as caught:
        f.write(CONTENT)
    f.discard()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not blobs.exists()


def test_a_progress_function_that_raises_in_close_does_not_undo_it(blobs):
    f = BlobIO(blobs.url(), "wb", progress=fail)
    with pytest.raises(ZeroDivisionError):
        f.close()
    assert f.closed
    assert blobs.get() == b""


@pytest.mark.parametrize("progress", [5, "text", [], {}])
def test_other_kinds_of_progress(blobs, progress):
    if not progress:
        BlobIO(blobs.url(), "rb", progress=progress).close()
        return
    with pytest.raises(TypeError, match="progress"):
        BlobIO(blobs.url(), "rb", progress=progress)


def test_a_bar_of_tqdm(blobs, capfd):
    pytest.importorskip("tqdm")
    with BlobIO(blobs.url("some/name"), "wb", progress=True) as f:
        f.write(CONTENT)
    with BlobIO(blobs.url("some/name"), "rb", progress=True) as f:
        assert f.read() == CONTENT
    said = capfd.readouterr().err
    assert "name" in said
    assert "100%" in said
    assert "sig" not in said


def test_a_bar_without_tqdm(run_python, blobs):
    program = """
    import sys
    sys.modules["tqdm"] = None
    import aztorch
    with aztorch.BlobIO(sys.argv[1], "wb", progress=True) as f:
        f.write(b"content")
    """
    run_python(program, blobs.url())
    assert blobs.get() == b"content"


def test_log_messages(server, caplog):
    caplog.set_level(1, "aztorch")
    url = server.put("blob", CONTENT)
    server.fail("read", Reply(503, "ServerBusy"))
    with BlobIO(url, "rb") as f:
        f.read()
    records = [record for record in caplog.records if record.name.startswith("aztorch")]
    assert records
    assert any("503" in record.getMessage() for record in records)
    assert any(record.levelno <= logging.DEBUG for record in records)
    assert not any("c2VjcmV0" in record.getMessage() for record in records)


def test_log_levels(server, caplog):
    url = server.put("blob", CONTENT)
    for level in (logging.WARNING, logging.CRITICAL):
        caplog.clear()
        caplog.set_level(level, "aztorch")
        with BlobIO(url, "rb") as f:
            f.read()
        assert [
            record for record in caplog.records if record.name.startswith("aztorch") and record.levelno < level
        ] == []


def test_a_log_handler_that_raises_is_harmless(run_python, server):
    program = """
    import logging, sys, aztorch

    class Failing(logging.Handler):
        def emit(self, record):
            raise ZeroDivisionError

    logging.getLogger("aztorch").addHandler(Failing())
    logging.getLogger("aztorch").setLevel(1)
    print(len(aztorch.BlobIO(sys.argv[1], "rb").read()))
    """
    assert run_python(program, server.put("blob", b"12345"), stderr=None) == "5\n"


def test_nothing_is_printed_by_default(run_python, server):
    url = server.put("blob", CONTENT)
    server.fail("read", Reply(503, "ServerBusy"))
    run_python("import sys, aztorch; aztorch.BlobIO(sys.argv[1], 'rb').read()", url)


def test_stats(server):
    url = server.put("blob", CONTENT)
    before = aztorch.stats()
    server.fail("read", Reply(429, "TooManyRequests"))
    with BlobIO(url, "rb") as f:
        f.read()
    with BlobIO(server.url("other"), "wb") as f:
        f.write(CONTENT)
    after = aztorch.stats()
    assert after["requests"] - before["requests"] == len(server.requests)
    assert after["retries"] - before["retries"] == 1
    assert after["throttled"] - before["throttled"] == 1
    assert after["bytes_received"] - before["bytes_received"] >= len(CONTENT)
    assert after["bytes_sent"] - before["bytes_sent"] >= len(CONTENT)
    assert after["requests_in_flight"] == 0
    assert all(type(value) is int and value >= 0 for value in after.values())


def test_stats_outlive_their_client(run_python, server):
    program = """
    import gc, sys, aztorch

    class Sas:
        def __init__(self, number):
            self.signature = f"sv=1&sig=x{number}"

    for number in range(20):
        with aztorch.BlobIO(sys.argv[1], "rb", credential=Sas(number)) as f:
            f.read()
    gc.collect()
    print(aztorch.stats()["requests"])
    """
    server.put("blob", b"x")
    assert run_python(program, server.url("blob", "x=1")) == "20\n"


def test_stats_of_a_forked_child_begin_at_zero(run_python, server):
    program = """
    import os, sys, aztorch
    aztorch.BlobIO(sys.argv[1], "rb").read()
    child = os.fork()
    if child == 0:
        assert aztorch.stats()["requests"] == 0, aztorch.stats()
        aztorch.BlobIO(sys.argv[1], "rb").read()
        assert aztorch.stats()["requests"] == 1, aztorch.stats()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    run_python(program, server.put("blob", b"x"))


def test_the_version_of_python_is_sent(server):
    with BlobIO(server.put("blob", b"x"), "rb") as f:
        f.read()
    agent = server.requests[0].headers["user-agent"]
    assert f"python/{sys.version_info.major}.{sys.version_info.minor}" in agent
    assert aztorch.__version__ in agent
