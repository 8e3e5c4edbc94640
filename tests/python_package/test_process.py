"""Processes: fork, spawn, pickling, Ctrl-C, and the end of the process."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from fault_server import Reply

from aztorch._library import note_exception
from aztorch.datasets import BlobDataset
from aztorch.exceptions import BlobModifiedError
from aztorch.io import BlobIO

CONTENT = b"".join(b"line %d\n" % number for number in range(50_000))


def in_child(action) -> None:
    """Run `action` in a forked child. It must return without an exception."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_new_reader_in_a_child(blobs):
    url = blobs.put("blob", CONTENT)
    with BlobIO(url, "rb") as f:
        assert f.read() == CONTENT

    def read():
        with BlobIO(url, "rb") as f:
            assert f.read() == CONTENT

    for _ in range(3):
        in_child(read)
    read()


def test_a_reader_that_was_in_use_continues_in_a_child(blobs):
    url = blobs.put("blob", CONTENT)
    f = BlobIO(url, "rb")
    f.read(10)
    line = f.readline()

    def go_on():
        assert f.tell() == 10 + len(line)
        assert f.readline() == CONTENT[10 + len(line) :].splitlines(keepends=True)[0]
        f.seek(5)
        assert f.read() == CONTENT[5:]
        f.close()

    in_child(go_on)
    in_child(go_on)
    assert f.tell() == 10 + len(line)
    assert f.read() == CONTENT[10 + len(line) :]


def test_readers_in_children_never_mix_answers(blobs):
    contents = {f"{number}": bytes([number]) * 200_000 for number in range(4)}
    readers = {name: BlobIO(blobs.put(name, content), "rb") for name, content in contents.items()}
    for f in readers.values():
        f.read(1)

    def read(name):
        for _ in range(20):
            readers[name].seek(0)
            assert readers[name].read() == contents[name]

    children = [multiprocessing.get_context("fork").Process(target=read, args=(name,)) for name in readers]
    for child in children:
        child.start()
    for name in readers:
        read(name)
    for child in children:
        child.join()
        assert child.exitcode == 0


def test_a_replaced_blob_is_noticed_in_a_child(blobs):
    url = blobs.put("blob", CONTENT)
    f = BlobIO(url, "rb")
    f.read(5)
    blobs.put("blob", CONTENT[::-1])

    def read():
        with pytest.raises(BlobModifiedError):
            f.read()

    in_child(read)


def test_a_writer_belongs_to_the_process_that_began_it(blobs):
    url = blobs.put("blob", b"old")
    f = BlobIO(url, "wb")
    f.write(b"parent")

    def write():
        with pytest.raises(Exception):  # noqa: B017, PT011
            f.write(b"child")
        with pytest.raises(Exception):  # noqa: B017, PT011
            f.close()
        assert f.closed

    in_child(write)
    in_child(f.__del__)
    assert blobs.get() == b"old"
    f.close()
    assert blobs.get() == b"parent"


def test_a_new_writer_in_a_child(blobs):
    with BlobIO(blobs.url("first"), "wb") as f:
        f.write(b"first")

    def write():
        with BlobIO(blobs.url("second"), "wb") as f:
            f.write(b"second")

    in_child(write)
    assert blobs.get("second") == b"second"


def test_a_fork_while_other_threads_read(blobs):
    url = blobs.put("blob", CONTENT)
    stop = threading.Event()

    def read_on():
        while not stop.is_set():
            with BlobIO(url, "rb") as f:
                assert f.read() == CONTENT

    def read():
        with BlobIO(url, "rb") as f:
            assert f.read() == CONTENT

    threads = [threading.Thread(target=read_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            in_child(read)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("used", [False, True])
def test_pickling_a_reader(blobs, used):
    url = blobs.put("blob", CONTENT)
    with BlobIO(url, "rb") as f:
        if used:
            f.readline()
            f.read(10)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(f, protocol))
            assert copy.tell() == f.tell()
            assert copy.read() == CONTENT[f.tell() :]
        assert f.read() == CONTENT[copy.seek(0) + (len(b"line 0\n") + 10 if used else 0) :]
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(f)


def test_a_pickled_reader_reads_the_same_version(blobs):
    url = blobs.put("blob", CONTENT)
    with BlobIO(url, "rb") as f:
        f.read(5)
        pickled = pickle.dumps(f)
    assert pickle.loads(pickled).read() == CONTENT[5:]
    blobs.put("blob", CONTENT[::-1])
    with pytest.raises(BlobModifiedError):
        pickle.loads(pickled).read()


def read_all(f):
    with f:
        return f.read()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_in_a_pool(blobs, method):
    url = blobs.put("blob", CONTENT)
    used = BlobIO(url, "rb")
    used.readline()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(read_all, [BlobIO(url, "rb"), used]) == [CONTENT, CONTENT[len(b"line 0\n") :]]


def interrupt(program: str, server, *arguments: str, quiet: float = 0.1) -> str:
    """Run a program, send it SIGINT once the server has got its request, and return what it prints."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with server.arrived:
            assert server.arrived.wait_for(lambda: server.requests, timeout=60), "no request arrived"
        # The main thread waits in the library then. In C++ code of torch, a signal would wait for Python code.
        count = 0
        while count != len(server.requests):
            count = len(server.requests)
            time.sleep(quiet)
        child.send_signal(signal.SIGINT)
        said, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0, errors
    assert errors == ""
    return said


@pytest.mark.parametrize("call", ["f.read()", "f.readline()", "f.seek(0)", "f.readinto(bytearray(10))", "list(f)"])
def test_ctrl_c_ends_a_read(server, call):
    server.put("blob", CONTENT)
    server.fail("read", Reply(None))
    program = f"""
    import sys, aztorch
    f = aztorch.BlobIO(sys.argv[1], "rb")
    try:
        {call}
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError
    assert f.tell() == 0
    # It works again.
    print(len(f.read()))
    """
    assert interrupt(program, server, server.url("blob")) == f"{len(CONTENT)}\n"


@pytest.mark.parametrize("call", ["f.flush()", "f.close()"])
def test_ctrl_c_ends_a_write(server, call):
    server.put("blob", b"old")
    server.fail("block,commit,put", Reply(None))
    program = f"""
    import sys, aztorch
    f = aztorch.BlobIO(sys.argv[1], "wb")
    f.write(b"new")
    try:
        {call}
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError
    f.discard()
    # Another writer works.
    with aztorch.BlobIO(sys.argv[2], "wb") as f:
        f.write(b"second")
    """
    interrupt(program, server, server.url("blob"), server.url("second"))
    assert server.get("blob") == b"old"
    assert server.get("second") == b"second"


def test_a_signal_handler_runs_during_a_read(server):
    server.put("blob", CONTENT)
    server.fail("read", Reply(None))
    program = """
    import signal, sys, aztorch

    class Stop(Exception):
        pass

    def handle(*_):
        raise Stop("by the handler")

    signal.signal(signal.SIGINT, handle)
    try:
        aztorch.BlobIO(sys.argv[1], "rb").read()
    except Stop as error:
        print(error)
    """
    assert interrupt(program, server, server.url("blob")) == "by the handler\n"


def test_a_signal_handler_that_returns_does_not_disturb(server):
    server.put("blob", CONTENT)
    server.fail("read", Reply(503, "ServerBusy", headers={"Retry-After": "1"}))
    program = """
    import signal, sys, aztorch
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("signal"))
    f = aztorch.BlobIO(sys.argv[1], "rb")
    print(len(f.read()), *seen)
    """
    assert interrupt(program, server, server.url("blob")) == f"{len(CONTENT)} signal\n"


def test_ctrl_c_during_torch_save_is_no_abort(server):
    server.fail("block", Reply(None), times=1000)
    program = """
    import sys, torch, aztorch
    weights = {str(number): torch.zeros(1024, 1024) for number in range(30)}
    try:
        with aztorch.BlobIO(sys.argv[1], "wb") as f:
            torch.save(weights, f)
    except KeyboardInterrupt:
        print("interrupted")
    """
    # numpy may be missing, which torch reports.
    program = "import warnings\nwarnings.simplefilter('ignore')\n" + textwrap.dedent(program)
    assert interrupt(program, server, server.url("blob"), quiet=0.5) == "interrupted\n"
    assert server.of("commit", "put") == []


def test_the_end_with_a_thread_in_a_read(run_python, server):
    server.put("blob", CONTENT)
    server.fail("read", Reply(None), times=10)
    program = """
    import sys, threading, time, aztorch
    for _ in range(3):
        threading.Thread(target=lambda: aztorch.BlobIO(sys.argv[1], "rb").read(), daemon=True).start()
    while aztorch.stats()["requests_in_flight"] < 3:
        time.sleep(0.01)
    """
    run_python(program, server.url("blob"))


def test_the_end_with_open_files(run_python, server):
    server.put("blob", CONTENT)
    program = """
    import sys, aztorch
    reader = aztorch.BlobIO(sys.argv[1], "rb")
    reader.readline()
    writer = aztorch.BlobIO(sys.argv[2], "wb")
    writer.write(b"half")
    """
    run_python(program, server.url("blob"), server.url("half"))
    assert server.get("half") is None


def test_the_end_with_logging(run_python, server):
    server.put("blob", CONTENT)
    program = """
    import logging, sys, threading, time, aztorch
    logging.basicConfig(stream=sys.stdout, level=1)
    aztorch.BlobIO(sys.argv[1], "rb").read()

    def read_on():
        while True:
            aztorch.BlobIO(sys.argv[1], "rb").read()

    for _ in range(3):
        threading.Thread(target=read_on, daemon=True).start()
    time.sleep(0.1)
    """
    assert "aztorch" in run_python(program, server.url("blob"))


@pytest.mark.tls
def test_the_end_with_a_running_token_callback(run_python, blobs):
    program = """
    import sys, threading, time, aztorch
    entered = threading.Event()

    class Slow:
        def get_token(self, *scopes, **options):
            entered.set()
            time.sleep(0.3)
            self.token, self.expires_on = "token", 9999999999
            return self

    def read():
        try:
            aztorch.BlobIO(sys.argv[1], "rb", credential=Slow()).read()
        except Exception:
            pass

    threading.Thread(target=read, daemon=True).start()
    assert entered.wait(30)
    """
    run_python(program, blobs.url(sas=False))


def test_the_module_can_be_run(run_python):
    program = """
    import subprocess, sys
    said = subprocess.run([sys.executable, "-m", "aztorch", "version"], capture_output=True, text=True, check=True)
    import aztorch
    assert said.stdout == aztorch.__version__ + "\\n", said
    bad = subprocess.run([sys.executable, "-m", "aztorch", "nonsense"], capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.startswith("usage:"), bad
    """
    run_python(program)


def test_the_doctor(blobs):
    done = subprocess.run(
        [sys.executable, "-m", "aztorch", "doctor", blobs.container_url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sig=" not in done.stdout.replace("sig=REDACTED", "")


def test_an_interrupt_that_came_too_late_to_end_its_call_is_raised(blobs):
    dataset = BlobDataset.from_blob_urls([blobs.put("a", b"content")])
    reader = BlobIO(blobs.url("a"), "rb")
    for call in (lambda: dataset[0], lambda: dataset.__getitems__([0]), lambda: reader.seek(0), lambda: reader.read(1)):
        note_exception(KeyboardInterrupt, KeyboardInterrupt(), None)
        with pytest.raises(KeyboardInterrupt):
            call()
        call()
