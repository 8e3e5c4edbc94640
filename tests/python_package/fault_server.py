"""A blob service on a loopback port that tests can make fail. It knows as much of the protocol as the tests need."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

ACCOUNT = "account"


class Request:
    """One request, as the server received it."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        parts = urlsplit(target)
        self.method = method
        self.target = target
        self.path = unquote(parts.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.headers = headers
        self.body = body

    @property
    def kind(self) -> str:
        """One of: read, head, block, commit, put, list, other."""
        if self.method == "GET":
            return "list" if self.query.get("comp") == "list" else "read"
        if self.method == "HEAD":
            return "head"
        if self.method == "PUT":
            return {"block": "block", "blocklist": "commit", None: "put"}.get(self.query.get("comp"), "other")
        return "other"

    @property
    def is_write(self) -> bool:
        """Whether it publishes a blob."""
        return self.kind in ("commit", "put")


class Reply:
    """A response in place of the right one. `status` 0 breaks the connection; None never answers."""

    def __init__(self, status, code="", body=b"", headers=None, truncate_to=None, after_effect=False) -> None:
        self.status = status
        self.code = code
        self.body = body or (f"<Error><Code>{code}</Code><Message>test</Message></Error>".encode() if code else b"")
        self.headers = headers or {}
        # Sends only so many bytes of the right response, and then breaks the connection.
        self.truncate_to = truncate_to
        # The request takes effect before the connection breaks.
        self.after_effect = after_effect


class FaultServer:
    """The server. `blobs` maps paths such as ``/account/container/name`` to their content."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.versions: dict[str, int] = {}
        self.blocks: dict[str, dict[str, bytes]] = {}
        self.requests: list[Request] = []
        self.arrived = threading.Condition()
        # Whether answers repeat x-ms-client-request-id. The service does so; proxies and Azurite do not always.
        self.echoes = True
        # Ranges that begin further on in a blob are refused.
        self.refuses_from: int | None = None
        self._faults: list[list] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments):
                pass

            def handle_one(self):
                outer._handle(self)

            do_GET = do_PUT = do_HEAD = handle_one  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}/{ACCOUNT}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, name: str, query: str = "sv=2021-12-02&sig=c2VjcmV0LXNpZw%3D%3D") -> str:
        """Return the URL of a blob. Its SAS has the secret ``secret-sig``."""
        return f"{self.base}/container/{name}?{query}"

    def put(self, name: str, content: bytes) -> str:
        """Store a blob, and return its URL."""
        self._store(f"/{ACCOUNT}/container/{name}", content)
        return self.url(name)

    def get(self, name: str) -> bytes | None:
        """Return the content of a blob, or None."""
        return self.blobs.get(f"/{ACCOUNT}/container/{name}")

    def fail(self, kinds: str, reply: Reply, times: int = 1) -> None:
        """Answer the next requests of these kinds (with commas between them) by `reply`."""
        with self._lock:
            self._faults.append([kinds.split(","), reply, times])

    def heal(self) -> None:
        """Answer right from now on."""
        with self._lock:
            self._faults.clear()

    def of(self, *kinds: str) -> list[Request]:
        """Return the requests of these kinds so far."""
        with self._lock:
            return [request for request in self.requests if request.kind in kinds]

    def wait_for(self, kind: str, count: int = 1) -> None:
        """Wait until so many requests of a kind have arrived."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.of(kind)) >= count, timeout=30), f"no {kind} request arrived"

    def close(self) -> None:
        """End the server, and the requests that it does not answer."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _store(self, path: str, content: bytes) -> None:
        with self._lock:
            self.blobs[path] = content
            self.versions[path] = self.versions.get(path, 0) + 1

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", 0)))
        request = Request(handler.command, handler.path, headers, body)
        with self._lock:
            self.requests.append(request)
            reply = None
            for fault in self._faults:
                if (request.kind in fault[0] or "*" in fault[0]) and fault[2] > 0:
                    fault[2] -= 1
                    reply = fault[1]
                    break
        with self.arrived:
            self.arrived.notify_all()
        if reply is None:
            self._send(handler, request, *self._answer(request))
        elif reply.status is None:
            self._ended.wait(60)
            handler.close_connection = True
        elif reply.truncate_to is not None:
            status, answer_headers, content = self._answer(request)
            self._send(handler, request, status, answer_headers, content, reply.truncate_to)
        elif reply.status == 0:
            if reply.after_effect:
                self._answer(request)
            handler.close_connection = True
        else:
            code = {"x-ms-error-code": reply.code} if reply.code else {}
            self._send(handler, request, reply.status, {**code, **reply.headers}, reply.body)

    def _send(self, handler, request, status, headers, content, truncate_to=None) -> None:
        handler.send_response(status)
        headers = {"x-ms-request-id": "1234-5678", **headers}
        if self.echoes and "x-ms-client-request-id" in request.headers:
            headers["x-ms-client-request-id"] = request.headers["x-ms-client-request-id"]
        headers.setdefault("Content-Length", str(len(content)))
        for name, value in headers.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        if request.method != "HEAD":
            handler.wfile.write(content if truncate_to is None else content[:truncate_to])
        if truncate_to is not None:
            handler.close_connection = True

    def _answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        path = request.path
        if request.kind == "block":
            with self._lock:
                self.blocks.setdefault(path, {})[request.query["blockid"]] = request.body
            return 201, {}, b""
        if request.kind == "commit":
            ids = re.findall(r"<(?:Latest|Uncommitted)>(.*?)</", request.body.decode())
            with self._lock:
                # Committed blocks stay, so that a commit can be repeated, as on the service.
                blocks = self.blocks.get(path, {})
            if any(identifier not in blocks for identifier in ids):
                return 400, {"x-ms-error-code": "InvalidBlockList"}, b""
            return self._publish(request, b"".join(blocks[identifier] for identifier in ids))
        if request.kind == "put":
            return self._publish(request, request.body)
        if request.kind not in ("read", "head") or path not in self.blobs:
            return 404, {"x-ms-error-code": "BlobNotFound"}, b""
        content, etag = self.blobs[path], self._etag(path)
        if request.headers.get("if-match", etag) != etag:
            return 412, {"x-ms-error-code": "ConditionNotMet"}, b""
        if request.headers.get("if-none-match") == etag:
            return 304, {"x-ms-error-code": "ConditionNotMet"}, b""
        headers = {"ETag": etag, "x-ms-blob-type": "BlockBlob", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        wanted = request.headers.get("x-ms-range") or request.headers.get("range")
        if wanted is None or request.kind == "head":
            return 200, headers, content
        first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted).groups()
        if not first:
            start, end = max(len(content) - int(last), 0), len(content)
        else:
            start, end = int(first), min(int(last) + 1 if last else len(content), len(content))
        if self.refuses_from is not None and start >= self.refuses_from:
            return 403, {"x-ms-error-code": "AuthorizationPermissionMismatch"}, b""
        if start >= len(content):
            return 416, {"x-ms-error-code": "InvalidRange", "Content-Range": f"bytes */{len(content)}"}, b""
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return 206, headers, content[start:end]

    def _publish(self, request: Request, content: bytes) -> tuple[int, dict[str, str], bytes]:
        path = request.path
        if request.headers.get("if-none-match") == "*" and path in self.blobs:
            return 409, {"x-ms-error-code": "BlobAlreadyExists"}, b""
        if path in self.blobs and request.headers.get("if-match", self._etag(path)) != self._etag(path):
            return 412, {"x-ms-error-code": "ConditionNotMet"}, b""
        self._store(path, content)
        return 201, {"ETag": self._etag(path), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, b""

    def _etag(self, path: str) -> str:
        return f'"0x{self.versions[path]:016X}"'


def wait_until(condition, what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
