"""Tokens that Azurite's `--oauth basic` accepts, and a stand-in for the endpoint of managed identities."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIGNATURE = "c2VjcmV0"


def _encode(claims: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def make_token(seconds: int = 7200) -> str:
    """Return an unsigned token for storage. Its last part is the secret `SIGNATURE`."""
    now = int(time.time())
    claims = {"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tenant/", "iat": now, "nbf": now - 60}
    return ".".join([_encode({"alg": "none", "typ": "JWT"}), _encode({**claims, "exp": now + seconds}), SIGNATURE])


class AccessToken:
    """What `get_token` returns."""

    def __init__(self, token, expires_on) -> None:
        self.token = token
        self.expires_on = expires_on


class Tokens:
    """A credential that counts its calls."""

    def __init__(self, seconds: int = 7200) -> None:
        self.seconds = seconds
        self.calls: list[tuple[tuple, dict]] = []

    def get_token(self, *scopes, **options):
        self.calls.append((scopes, options))
        return AccessToken(make_token(self.seconds), int(time.time()) + self.seconds)


class IdentityEndpoint:
    """The endpoint of a managed identity on a loopback port: `environment` makes the default credential use it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_arguments):
                pass

            def do_GET(self):
                outer.requests.append(self.path)
                answer = {
                    "access_token": make_token(),
                    "expires_on": str(int(time.time()) + 7200),
                    "token_type": "Bearer",
                }
                body = json.dumps({**answer, "resource": "https://storage.azure.com"}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        self.environment = {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "header"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
