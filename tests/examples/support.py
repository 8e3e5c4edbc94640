"""Helpers for the tests of the training programs: running them, blobs of the container, and the server's log.

AZTORCH_EXAMPLES is the directory of the programs. azurite.mjs sets AZTORCH_TEST_CONTAINER_URL and AZTORCH_TEST_LOG.
"""

import collections
import os
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

EXAMPLES = pathlib.Path(os.environ["AZTORCH_EXAMPLES"])
CONTAINER = os.environ["AZTORCH_TEST_CONTAINER_URL"]
TIMEOUT_S = 120  # a program that runs longer fails its test

Request = collections.namedtuple("Request", "method name query status")


class ServerLog:
    """The requests since this object was made, in the order in which the server finished them."""

    _line = re.compile(r'"([A-Z]+) (/[^ ]*) HTTP/1.1" (\d+) ')

    def __init__(self):
        self._path = pathlib.Path(os.environ["AZTORCH_TEST_LOG"])
        self._start = len(self._settled())

    def _settled(self):
        # The server logs a request just after it has answered it: wait until the log stops growing.
        before, now = None, self._path.read_bytes()
        while now != before:
            time.sleep(0.3)
            before, now = now, self._path.read_bytes()
        return now

    def requests(self):
        requests = []
        for method, target, status in self._line.findall(self._settled()[self._start :].decode()):
            path, _, query = target.partition("?")
            name = "/".join(urllib.parse.unquote(path).split("/")[3:])
            requests.append(Request(method, name, query, int(status)))
        return requests

    def fetched(self, prefix):
        """The names, without the prefix, of the blobs that were fetched, once for each GET."""
        return [
            request.name.removeprefix(prefix)
            for request in self.requests()
            if request.method == "GET" and request.status in (200, 206) and request.name.startswith(prefix)
        ]

    def count(self, method, text):
        """The number of requests with this method and with this text in their name or query."""
        return sum(r.method == method and (text in r.name or text in r.query) for r in self.requests())


def blob_url(name):
    path, _, sas = CONTAINER.partition("?")
    return f"{path}/{name}?{sas}"


def _send(method, name, data=None):
    headers = {"x-ms-version": "2021-12-02", "x-ms-blob-type": "BlockBlob"}
    request = urllib.request.Request(blob_url(name), data, headers, method=method)
    with urllib.request.urlopen(request) as response:
        return response.read()


def get(name):
    return _send("GET", name)


def exists(name):
    try:
        _send("HEAD", name)
        return True
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False


def put(name, data):
    _send("PUT", name, data)


def delete(name):
    _send("DELETE", name)


def start(program, *arguments, environment=None, **options):
    command = [EXAMPLES / program, *map(str, arguments)]
    return subprocess.Popen(command, text=True, env={**os.environ, **(environment or {})}, **options)


def wait_for_end(process):
    """The exit status, output and errors of a process that ends by itself."""
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, output, errors


def run(program, *arguments):
    """Runs a program and returns its output. Raises when it fails."""
    process = start(program, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    status, output, errors = wait_for_end(process)
    if status != 0:
        raise AssertionError(f"{program} ended with {status}: {output}{errors}")
    return output


def losses(output):
    """The loss of each epoch, with all its bits."""
    return [float.fromhex(text) for text in re.findall(r"^epoch .*\((-?0x[0-9a-fp.+-]+)\)$", output, re.MULTILINE)]


def wait_until(condition, *processes):
    """Waits for the condition. Raises when one of the processes ends before."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        for process in processes:
            if process.poll() is not None:
                raise AssertionError(f"{process.args[0]} ended too early, with exit status {process.returncode}")
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition does not hold after {TIMEOUT_S} s")
        time.sleep(0.01)


def image_names(count):
    return [f"{number:06}.img" for number in range(count)]
